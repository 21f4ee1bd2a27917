"""Fine-tune on conversations: from rows to examples, to an adapter, a bank of adapters, or a whole model
on disk."""

from dataclasses import asdict, dataclass
from functools import partial

from model.chat import TEXT, learnt
from model.checkpoint import load_bank, save_adapter, save_model
from model.lora import PROJECTIONS, add_lora, check_adapter, remove_lora
from model.memory import parameter_count
from model.settings import ADAPTER, wrong
from newnews.batches import Shuffled, once
from newnews.console import say
from newnews.distributed import rank, shard, whole, world
from newnews.examples import Example
from newnews.loading import default_rate, load
from newnews.outputs import digest, remove_work
from newnews.prompts import prompts_for
from newnews.protocols.masked import FRACTION, masked
from newnews.randomness import stream
from newnews.replay import read_conversations
from newnews.together import build_together
from newnews.training import Recipe, next_token, train


def examples(rows, chat, config, where, mask=None):
    """[(line, row)] of a replay file -> [Example]; one that does not fit the model's context is an error
    with its line. mask(text): what is trained on in place of a row, made of its last text that is learnt."""
    out = []
    for line, row in rows:
        text = [m["content"] for m in row["messages"] if m["role"] in ("assistant", TEXT) and learnt(m)][-1]
        if mask and not text.strip():
            raise ValueError(f"{where}: line {line}: --masked hides parts of the text that is learnt, and "
                             f"this one is empty")
        example = mask(text) if mask else Example(*chat.conversation(row["messages"]))
        if len(once(example).ids) > config.max_position_embeddings:
            raise ValueError(f"{where}: line {line}: {len(once(example).ids)} tokens; the model's context is "
                             f"{config.max_position_embeddings}")
        out.append(example)
    return out


def train_bank(out, model, lists, names, recipe, lora, run, base, label, loss=None,
               start=None):
    """One adapter for each list of examples, side by side; OUT/NAME is the PEFT folder of each. Returns the
    manifest, in which "stopped" is {name: step} of the adapters whose loss was not finite any more.

    lora: {"rank", "alpha", "targets", ["layers": (first, last) of the blocks that carry adapters]}. An
    adapter's start and the order of its data hang on (recipe.seed, its name) alone: it is the same in any
    bank. start: PEFT folders of adapters of that kind to go on from instead, one a name.
    """
    def fill(work, result):
        seeds = [stream("adapter", recipe.seed, name) for name in names]
        layers = range(lora["layers"][0], lora["layers"][1] + 1) if "layers" in lora else None
        if start:
            load_bank(start, model)
        else:
            add_lora(model, lora["targets"], lora["rank"], lora["alpha"], seeds, layers)
        try:
            done = train(model, Shuffled(lists, recipe.batch, seeds), recipe, work, digest(run), label,
                         loss or next_token)
            if rank() == 0:
                for k, name in enumerate(names):
                    save_adapter(result / name, model, k, base)
        finally:
            remove_lora(model)
        stopped = {names[k]: step for k, step in done["stopped"].items()}
        return {**done, "names": list(names), "stopped": stopped}

    return build_together(out, run, fill)


def train_whole(out, model, examples, name, recipe, run, source, label):
    """As train_bank, of all weights and one list of examples: OUT/NAME is a model folder with the tokenizer
    of the folder `source`. The model is afterwards what it was."""
    def fill(work, result):
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        seeds = [stream("adapter", recipe.seed, name)]
        try:
            done = train(model, Shuffled([examples], recipe.batch, seeds), recipe, work, digest(run), label)
            if rank() == 0:
                save_model(result / name, model.config, model.state_dict(), source=source)
        finally:
            model.load_state_dict(before)
            model.requires_grad_(False)
        return {**done, "names": [name], "stopped": {name: step for step in done["stopped"].values()}}

    return build_together(out, run, fill)


@dataclass(frozen=True)
class FineTune:
    """What train.py does. None: a default that depends on the data or the model."""
    model: str
    data: str
    out: str
    full: bool = False
    masked: str | None = None               # "LOW,HIGH": restore each text, so much of it hidden (masked.py)
    lora_rank: int = 16
    lora_alpha: float | None = None         # twice the rank
    targets: tuple = PROJECTIONS
    rate: float | None = None               # newnews.loading.default_rate
    steps: int | None = None                # 4 epochs, at least 40
    batch: int = 16
    warmup: int | None = None               # a tenth of the steps
    schedule: str = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    micro_tokens: int = 4096
    seed: int = 0
    shard: bool = False                     # under torchrun: split the weights over the processes
    checkpoint: bool = False                # backward computes activations again instead of keeping them
    device: str = "auto"
    dtype: str = "auto"

    def recipe(self, rows, count):
        """The Recipe for `rows` conversations and a model of `count` parameters."""
        steps = max(40, 4 * -(-rows // max(1, self.batch))) if self.steps is None else self.steps
        recipe = Recipe(steps=steps, rate=default_rate(count, self.full) if self.rate is None else self.rate,
                        batch=self.batch, warmup=steps // 10 if self.warmup is None else self.warmup,
                        schedule=self.schedule, weight_decay=self.weight_decay, clip=self.clip,
                        micro_tokens=self.micro_tokens, seed=self.seed)
        if recipe.warmup > steps:
            raise ValueError(f"--warmup {recipe.warmup}: expected at most the {steps} steps of the run")
        return recipe


def check(settings, processes):
    """What can be seen to be wrong before the data and the model are read."""
    for key, value, expected in wrong({"lora_alpha": settings.lora_alpha}, ADAPTER):
        raise ValueError(f"{key} = {value}: expected {expected}, or nobody could load the adapter")
    if settings.steps is not None:          # without, they follow from the number of conversations
        settings.recipe(0, 0)
    if settings.masked is not None:
        fractions(settings.masked)
    if not settings.full:
        check_adapter(settings.targets, settings.lora_rank)
    if settings.shard and processes == 1:
        raise ValueError("--shard splits a model over processes, and this is one: start it with torchrun")


def mask_of(settings, folder, chat):
    """What `examples` makes of a text under FineTune.masked; None without."""
    if settings.masked is None:
        return None
    return partial(masked, prompts=prompts_for(folder), chat=chat, fraction=fractions(settings.masked))


def fractions(text):
    """(low, high) of "LOW,HIGH"."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = -1
    if not 0 <= low <= high <= 1:
        raise ValueError(f"--masked {text}: expected T0,T1, the least and the largest share of tokens that "
                         f"are hidden, 0 <= T0 <= T1 <= 1 (the method's: {FRACTION[0]},{FRACTION[1]})")
    return low, high


def finetune(settings):
    """Train as FineTune says: OUT becomes a PEFT folder, or with full=True a model folder. Under torchrun
    every process calls this, within newnews.distributed.group."""
    check(settings, world())
    rows = read_conversations(settings.data, numbered=True)
    # what will be sharded stays in mapped files until then, which processes share
    model, chat, about = load(settings.model, None, settings.device, settings.dtype,
                              place="cpu" if settings.shard else None)
    mask = mask_of(settings, about["folder"], chat)
    data = examples(rows, chat, model.config, settings.data, mask)
    recipe = settings.recipe(len(data), parameter_count(model.config))
    alpha = 2 * settings.lora_rank if settings.lora_alpha is None else settings.lora_alpha
    run = {"model_digest": about["digest"], "data": digest([row["messages"] for _, row in rows]),
           "dtype": about["dtype"], "device": about["device"].partition(":")[0], "recipe": asdict(recipe),
           "full": settings.full}
    if not settings.full:
        run["lora"] = {"rank": settings.lora_rank, "alpha": alpha, "targets": list(settings.targets)}
    if mask:
        prompts = mask.keywords["prompts"]
        run["masked"] = [mask.keywords["fraction"], prompts.restore, prompts.restored]
    if world() > 1:                                                 # sums in another order: other bits
        run["processes"], run["sharded"] = world(), settings.shard
    say(**about, processes=f"{world()}, {'sharded' if settings.shard else 'replicated'}",
        data=f"{len(data)} conversations from {settings.data}, {sum(len(once(e).ids) for e in data):,} tokens"
             + (f", {settings.masked} of each text hidden" if mask else ""),
        trained="all weights" if settings.full else f"LoRA rank {settings.lora_rank}, alpha {alpha:g}, "
                                                    f"on {', '.join(settings.targets)}",
        recipe=f"{recipe.steps} steps of {recipe.batch if mask else min(recipe.batch, len(data))}, "
               f"rate {recipe.rate:g}, {recipe.schedule}, {recipe.warmup} warm-up",
        seed=settings.seed, out=settings.out)
    if not settings.full:
        add_lora(model, settings.targets, settings.lora_rank, alpha, [settings.seed])
    if settings.shard:
        shard(model, about["device"])
    model.model.recompute = settings.checkpoint

    def fill(work, result):
        batches = Shuffled([data], recipe.batch, [settings.seed])
        done = train(model, batches, recipe, work, digest(run), "train")
        if done["stopped"]:
            if rank() == 0:
                remove_work(work)           # the same start would stop at the same step
            raise ValueError(f"{settings.out}: the loss was not finite at step {done['stopped'][0]}, so "
                             f"nothing is saved; a smaller --rate may help (it was {recipe.rate:g})")
        tensors = {n: whole(t) for n, t in model.state_dict().items()} if settings.full else {}
        if rank() == 0 and settings.full:
            save_model(result, model.config, tensors, source=about["folder"])
        elif rank() == 0:
            save_adapter(result, model, 0, about["model"])
        return done

    done = build_together(settings.out, run, fill)
    if rank() == 0:
        print(f"{settings.out}: {done['tokens']:,} tokens in {done['steps']} steps, "
              f"last loss {done['loss'][0]:.4f}")
