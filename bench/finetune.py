"""Rows about training: a bank of adapters, one adapter on a large shape, all weights.

Conversations are random ids, the last three quarters of each supervised. The other side is PEFT, or the
plain model: a loop with labels of -100, padding to the longest of a batch, fused AdamW, the same rates and
clipping.
"""

import torch
from peft import LoraConfig, get_peft_model

from bench.models import build, twin_of
from bench.selfplay import draw
from bench.tools import Done, Row, Work
from model.checkpoint import PREFIX
from model.flops import training_flops
from model.lora import PROJECTIONS, add_lora, lora_tensors, remove_lora
from newnews.batches import Shuffled
from newnews.examples import Example
from newnews.finetune import FineTune
from newnews.training import Recipe, train

RANK, ALPHA = 16, 32


def conversations(count, shortest, longest, vocab, seed=0):
    """Lengths evenly spread, in drawn order."""
    lengths = torch.linspace(shortest, longest, count).round().int().tolist()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    rows = draw(count, longest, vocab, seed)
    return [Example(row[:n], [0.0] * (n // 4) + [1.0] * (n - n // 4))
            for row, n in ((rows[i], lengths[i]) for i in order)]


# [their side] -----------------------------------------------------------------------------------------------

def batch_of(rows):
    """What a collator makes of conversations: padded on the right, labels -100 where there is no loss."""
    T = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (T - len(row.ids)) for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (T - len(row.ids)) for row in rows])
    counts = torch.tensor([row.weights + [0.0] * (T - len(row.ids)) for row in rows]) > 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(~counts, -100)}


def loop(model, steps, recipe, parts=1):
    """Optimizer steps on lists of conversations; parts: micro-batches a step, of like lengths.
    Returns the loss of the last step."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=recipe.rate, betas=(recipe.beta1, recipe.beta2),
                                  weight_decay=recipe.weight_decay, fused=True)
    for step, rows in enumerate(steps):
        rows = sorted(rows, key=lambda row: len(row.ids))
        supervised = sum(w > 0 for row in rows for w in row.weights[1:])
        size, total = -(-len(rows) // parts), 0.0
        for some in (rows[i:i + size] for i in range(0, len(rows), size)):
            batch = {name: tensor.to(model.device) for name, tensor in batch_of(some).items()}
            loss = model(**batch, use_cache=False, num_items_in_batch=supervised).loss
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(params, recipe.clip)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        optimizer.step()
        optimizer.zero_grad()
    return total


def peft_run(twin, start, steps, recipe, parts=1):
    """One adapter trained; its tensors under our names. start: the tensors that it begins with."""
    config = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0,
                        target_modules=list(PROJECTIONS))
    model = get_peft_model(twin, config).train()
    params = {name.removeprefix(PREFIX).replace(".default", ""): p for name, p in model.named_parameters()
              if p.requires_grad}
    try:
        with torch.no_grad():
            for name, p in params.items():
                p.copy_(start[name])
        loop(model, steps, recipe, parts)
    finally:
        model.unload()                  # the twin is plain again, for the next way too if this one failed
    return {name: p.detach() for name, p in params.items()}


# [rows] -----------------------------------------------------------------------------------------------------

def adapters(pair, lists, recipe, parts, grouped):
    """One adapter for each list of conversations: ours a bank of them, theirs one run after another.
    grouped: the other side puts conversations of like length in a batch (as Trainer's group_by_length), and
    so trains on other batches than we do; else on the same ones, and ends in the same weights."""
    model, twin = pair
    seeds = list(range(len(lists)))
    batches = Shuffled(lists, recipe.batch, seeds)
    steps = [batches(step) for step in range(recipe.steps)]         # of each: a list an adapter
    rows = [row for step in steps for some in step for row in some]
    tokens = sum(len(row.ids) for row in rows)
    supervised = sum(w > 0 for row in rows for w in row.weights[1:])
    flops = training_flops(model.config, [len(row.ids) for row in rows], supervised, (RANK, PROJECTIONS))

    def ours(learn=True):
        add_lora(model, PROJECTIONS, RANK, ALPHA, seeds)
        if learn:
            train(model, batches, recipe)
        tensors = [{name: t.clone() for name, t in lora_tensors(model, k).items()} for k in seeds]
        remove_lora(model)
        return Done(tokens, tensors, flops)

    start = ours(learn=False).output

    def theirs(parts, seeds=seeds):
        return Done(tokens, [peft_run(twin, start[k], steps_of(k), recipe, parts) for k in seeds], flops)

    def steps_of(k):
        mine = [step[k] for step in steps]
        if grouped:
            ordered = sorted((row for some in mine for row in some), key=lambda row: len(row.ids))
            mine = [ordered[i:i + recipe.batch] for i in range(0, len(ordered), recipe.batch)]
        return mine

    names = {f"PEFT, {n} micro-batches a step" if n > 1 else "PEFT": n for n in parts}
    return Work("tokens", model.lm_head.weight.dtype, ours,
                {how: lambda n=n: theirs(n) for how, n in names.items()}, None if grouped else gap,
                warm={how: lambda n=n: theirs(n, seeds[:1]) for how, n in names.items()})


def recipe_of(steps, batch):
    return Recipe(steps=steps, rate=1e-3, batch=batch, warmup=steps // 10, micro_tokens=FineTune.micro_tokens)


def bank(models, news, elements, epochs):
    """Adapters for `news` news items, `elements` conversations of 20 to 40 tokens each, pocket model."""
    vocab = models.pocket[0].config.vocab_size
    lists = [conversations(elements, 20, 40, vocab, seed) for seed in range(news)]
    batch = min(FineTune.batch, elements)
    recipe = recipe_of(epochs * -(-elements // batch), batch)
    return adapters(models.pocket, lists, recipe, parts=(1,), grouped=False)


def large_bank(models, news, steps, shortest, longest, batch):
    """As `bank`, on the large shape; `batch` conversations a step of each adapter, every one seen once."""
    vocab = models.config.vocab_size
    lists = [conversations(steps * batch, shortest, longest, vocab, seed) for seed in range(news)]
    return adapters(models.large, lists, recipe_of(steps, batch), parts=(1,), grouped=False)


def one_adapter(models, count, shortest, longest, batch):
    """An epoch of `count` conversations, `batch` a step, on the large shape."""
    lists = [conversations(count, shortest, longest, models.config.vocab_size)]
    return adapters(models.large, lists, recipe_of(count // batch, batch), parts=(1, 2), grouped=True)


def all_weights(models, tokens, layers):
    """Two optimizer steps on one conversation, all weights: in the first one torch's optimizer has no state
    yet. memory: the peak without weights, gradients and the optimizer's state, each counted in the type in
    which its side keeps it: ours in fp32 (and masters of bf16 weights), theirs in that of the weights."""
    model = build(models.config_of(layers), models.dtype, models.device)    # its own: training moves it
    twin = twin_of(model)
    row = Example(draw(1, tokens, model.config.vocab_size)[0], [0.0] + [1.0] * (tokens - 1))
    # so small a rate that the weights, which both sides share, stay what they are
    recipe = Recipe(steps=2, rate=1e-9, micro_tokens=FineTune.micro_tokens)
    flops = 2 * training_flops(model.config, [tokens], tokens - 1)
    count, size = sum(p.numel() for p in model.parameters()), model.lm_head.weight.element_size()

    def ours():
        done = train(model, lambda step: [[row]], recipe)
        return Done(2 * tokens, done["loss"][0], flops, kept=count * (12 if size == 4 else 16))

    def theirs():
        twin.requires_grad_(True)
        loss = loop(twin, [[row]] * 2, recipe)
        twin.requires_grad_(False)
        return Done(2 * tokens, loss, flops, kept=count * 3 * size)

    return Work("tokens", models.dtype, ours, {"transformers": theirs})


def gap(ours, theirs):
    """How far apart the weights are, in shares of the way that they went: of all B factors, which start at 0,
    the norm of the difference over the norm; the worst adapter's."""
    def far(a, b):
        names = [name for name in b if "lora_B" in name]
        apart, way = (sum(float(t.double().square().sum()) for t in some)
                      for some in ([a[n] - b[n] for n in names], [b[n] for n in names]))
        return (apart / way) ** 0.5

    return max(far(a, b) for a, b in zip(ours, theirs, strict=True))


ROWS = {
    "bank_15": Row(bank, {"ratio": ">= 3", "gap": "<= .001"},
                   full=dict(news=15, elements=64, epochs=4),
                   quick=dict(news=15, elements=64, epochs=1), tiny=dict(news=2, elements=4, epochs=2),
                   repeats=3),
    "bank_75": Row(bank, {"ratio": ">= 3", "gap": "<= .001"},
                   full=dict(news=75, elements=64, epochs=4), quick=None,
                   tiny=dict(news=3, elements=4, epochs=1),
                   gpu=dict(news=75, elements=64, epochs=1), gpu_repeats=1),
    "bank_16": Row(large_bank, {}, full=None, quick=None,
                   tiny=dict(news=3, steps=2, shortest=4, longest=9, batch=2),
                   gpu=dict(news=16, steps=10, shortest=20, longest=100, batch=4), gpu_repeats=1,
                   gpu_bars={"0.5b": {"ratio": ">= 8"}}),
    "one_adapter": Row(one_adapter, {"ratio": ">= 2", "roof": ">= .45", "memory": "<= .6"},
                       full=dict(count=16, shortest=20, longest=300, batch=8),
                       quick=dict(count=4, shortest=20, longest=300, batch=2),
                       tiny=dict(count=4, shortest=4, longest=9, batch=2),
                       gpu=dict(count=192, shortest=200, longest=500, batch=16),
                       gpu_bars={"1.5b": {"roof": ">= .45"}}),
    "all_weights": Row(all_weights, {"memory": "<= .6"}, full=dict(tokens=1024, layers=24),
                       quick=dict(tokens=512, layers=4), tiny=dict(tokens=20, layers=2),
                       gpu=dict(tokens=1024, layers="all"), gpu_repeats=3),
}
