"""--dry-run: what a run would take in memory, tokens and FLOPs, before a weight is read.

Only config.json, the tokenizer and the data are needed. The ledgers are model/memory.py and model/flops.py:
what they leave out (torch itself, what an allocator keeps back) comes on top.
"""

from model.cache import rows_at_once
from model.chat import Chat
from model.checkpoint import find_model, load_config
from model.flops import training_flops
from model.memory import parameter_count, sampling_memory, training_memory
from model.sampling import Completion, common_prefix
from newnews.batches import Shuffled, micro_batches, once, width
from newnews.console import choose_device
from newnews.finetune import check, examples, mask_of
from newnews.prompts import prompts_for
from newnews.protocols import protocols
from newnews.replay import read_conversations
from newnews.selfplay import Writer, together

STEPS = 200         # steps of a long run that are looked at; the rest is as they are on average


def dry_train(settings, processes=1):
    """{"memory": {part: bytes} of each process, "tokens", "flops"} of newnews.finetune.finetune(settings)."""
    check(settings, processes)
    folder = find_model(settings.model)
    chat, config = Chat(folder), load_config(folder)
    count = parameter_count(config)
    e = choose_device(settings.device, settings.dtype, count)[1].itemsize
    data = examples(read_conversations(settings.data, numbered=True), chat, config, settings.data,
                    mask_of(settings, folder, chat))
    recipe = settings.recipe(len(data), count)
    lora = None if settings.full else (settings.lora_rank, settings.targets)
    batches, steps = Shuffled([data], recipe.batch, [settings.seed]), min(recipe.steps, STEPS)
    looked_at = [batches(step)[0] for step in range(steps)]
    tokens = flops = padded = supervised = 0
    for rows in looked_at:
        lengths = [len(row.ids) for row in rows]
        loss_on = sum(w > 0 for row in rows for w in row.weights[1:])
        flops += training_flops(config, lengths, loss_on, lora)
        tokens += sum(lengths)
    if steps < recipe.steps:                        # the longest rows may come later, at worst together
        looked_at.append(sorted(map(once, data), key=width)[-recipe.batch:])
    for rows in looked_at:
        for batch in micro_batches([rows], recipe.micro_tokens, False, 0, processes):
            padded = max(padded, batch.ids.numel())
            supervised = max(supervised, int((batch.weights[:, 1:] > 0).sum()))
    memory = training_memory(config, e, padded, supervised, lora, settings.checkpoint,
                             processes if settings.shard else 1)
    tokens, flops = (n * recipe.steps // steps for n in (tokens, flops))
    return {"memory": memory, "tokens": tokens, "flops": flops}


class Longest(Writer):
    """A writer without a model: replies are as long as may be, no two alike. Notes the largest batch."""

    def __init__(self, config, chat, prompts, e):
        self.model = self                           # `book` wants its config only
        self.config, self.chat, self.prompts, self.e = config, chat, prompts, e
        self.memory = sampling_memory(config, e, 0, 0, 0)       # the weights, if nothing is asked

    def answer(self, asks, temperature, costs):
        texts, limit = {}, next(iter(asks.values())).limit or self.prompts.max_new_tokens
        prompts = {job: [self.chat.prompt([{"role": "user", "content": r}]) for r in ask.requests]
                   for job, ask in asks.items()}
        for job, mine in prompts.items():
            self.book([(prompt, Completion([0] * limit, False)) for prompt in mine], costs[job])
            texts[job] = [self.text(i, request, limit) for i, request in enumerate(asks[job].requests)]
        everything = [prompt for mine in prompts.values() for prompt in mine]
        tokens = max(map(len, everything)) + limit
        rows = min(len(everything), rows_at_once(self.config, tokens, self.e))
        apart = max(max(map(len, mine)) - common_prefix(mine) for mine in prompts.values())
        memory = sampling_memory(self.config, self.e, rows, tokens, rows * apart)
        self.memory = max(self.memory, memory, key=lambda m: m["total"])
        return texts

    def text(self, i, request, limit):
        """The request over and over, cut at the limit: it is about the news, a list of what it names, and by
        its number no text is there twice."""
        ids = self.chat.encode("\n".join([str(i), *request.split()]))
        return self.chat.decode((ids * (1 + limit // len(ids)))[:limit])


def dry_generate(args, news):
    """{"memory", "tokens", "flops"} of generate.py with these arguments, if every reply is as long as may
    be."""
    folder = find_model(args.model)
    chat, config, prompts = Chat(folder), load_config(folder), prompts_for(folder, args.prompts)
    e = choose_device(args.device, args.dtype, parameter_count(config))[1].itemsize
    writer, protocol = Longest(config, chat, prompts, e), protocols(prompts)[args.protocol]
    tokens, flops, size = 0, 0, together(args.n)
    for first in range(0, len(news), size):
        for _, counts in writer.write([protocol.write(item, args.n) for item in news[first:first + size]]):
            tokens += counts["prompt_tokens"] + counts["new_tokens"]
            flops += counts["flops"]
    return {"memory": writer.memory, "tokens": tokens, "flops": flops}


def report(done, processes=1, most=""):
    """Lines for a person."""
    lines = [f"{part:>16}  {size / 2 ** 30:10.3f} GiB" for part, size in done["memory"].items()]
    lines += [f"{'tokens':>16}  {most}{done['tokens']:,}", f"{'FLOPs':>16}  {most}{done['flops']:.3g}"]
    return "\n".join([f"each of {processes} processes" if processes > 1 else "one process", *lines])
