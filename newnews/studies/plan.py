"""`run --dry-run`: what a study would compute, before it does: cells, tokens, FLOPs, time, memory, and what
is whole already. Reads the store, tokenizers and configs; writes nothing and loads no weights.

Estimates are upper bounds. A draw is counted as max_new_tokens long, kept, and about the news; a free reply
as long as it may get. What lies in the store counts as it is, and stands for other seeds too: rows that were
written are trained on in their true length. Time is FLOPs over the rate at which whole stages of the same
kind in this store were computed (without any in this study, over that of the store's other banks); without
any, over that of matrix products, which a 2-second probe finds, and then it is no upper bound: a small model
spends its time between its matrices.

On the demo with one news item a domain, an empty store: 1.8 to 5 times the real FLOPs of writing (texts end
before the limit), 1.6 to 4.6 times those of training (equal texts are dropped); with the rows there, 1.000,
but for distillation, whose teacher is not counted.
"""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

from model.files import read_json
from model.flops import factors, forward_flops, training_flops
from model.memory import parameter_count, training_memory
from model.sampling import Completion
from newnews.ask import prompt_ids, scored_ids
from newnews.batches import once
from newnews.dryrun import Longest
from newnews.loading import DTYPES, describe
from newnews.outputs import read_manifest, read_rows
from newnews.prompts import prompts_for
from newnews.protocols import protocols
from newnews.selfplay import Writer
from newnews.studies.checks import check_models, check_study, check_unchanged
from newnews.studies.contrasts import base_names
from newnews.studies.drift import texts
from newnews.studies.grid import cells
from newnews.studies.sources import source
from newnews.studies.stages import Reader, Stages, gathered
from newnews.studies.stream import arrivals
from newnews.studies.ways import EVERY, KL, news_of, task_of
from newnews.tasks.news import WAYS

PROBE_SECONDS = 2
STATE = 16              # bytes a trained number: itself, its gradient and two moments of AdamW, fp32
KINDS = ("write", "train", "ask")


@dataclass
class Work:
    """One file or bank of a stage. key: its place, or in place of a name that is not known yet, what it
    depends on."""
    key: object
    tokens: int
    flops: int
    seconds: float | None = None        # what it took; None: it is not there yet


@dataclass
class Row:
    """What a cell needs, by kind: lists of Work."""
    name: str
    write: list = field(default_factory=list)
    train: list = field(default_factory=list)
    ask: list = field(default_factory=list)


class Plan(Stages):
    """Stages that are looked for and not computed."""

    def __init__(self, store, device, dtype):
        super().__init__(store, device, dtype)
        self.readers, self.guesses = {}, {}

    def reader(self, name):
        if name not in self.readers:
            config, chat, about = describe(name, self.device, self.dtype)
            prompts = prompts_for(about["folder"])
            self.readers[name] = Reader(SimpleNamespace(config=config), chat, about, prompts)
        return self.readers[name]

    def guess(self, key, make):
        if key not in self.guesses:
            self.guesses[key] = make()
        return self.guesses[key]

    def written(self, cell, protocol, news):
        """(rows, Work) of a replay file: as it is, or as it may get."""
        path, _ = self.replay_file(cell, protocol, news)

        def pretend():
            writer = self.reader(cell.writer)
            pretender = Longest(writer.model.config, writer.chat, writer.prompts,
                                DTYPES[writer.about["dtype"]].itemsize)
            source = protocols(writer.prompts)[protocol]
            done = pretender.write([source.write(item, cell.draws) for item in news])
            counts = [sum(cost[key] for _, cost in done) for key in ("prompt_tokens", "new_tokens", "flops")]
            return [row for rows, _ in done for row in rows], counts[0] + counts[1], counts[2]

        key = "write", cell.writer, protocol, cell.draws
        if path.exists():
            rows, totals = read_rows(path), read_manifest(path)["totals"]
            tokens = totals.get("prompt_tokens", 0) + totals.get("new_tokens", 0)
            self.guesses[key] = rows, tokens, totals.get("flops", 0)        # as long under another seed
            return rows, Work(path, tokens, totals.get("flops", 0), totals.get("seconds", 0.0))
        rows, tokens, flops = self.guess(key, pretend)
        return rows, Work(path, tokens, flops)

    def trained(self, cell, news):
        """(Work of the writing, Work of each bank, the Update if all is there)."""
        found = [self.written(cell, s.name, news) for s in protocols(None)[cell.protocol].sources]
        rows, written, banks = [row for some, _ in found for row in some], [work for _, work in found], []
        real = all(work.seconds is not None for work in written)
        for bank in self.banks(cell, rows, news):
            items, config = tuple(item.id for item in bank[3]), bank[1].model.config
            if real:
                folder, _, lists = self.bank_folder(*bank)
            else:                       # the same examples under every seed and recipe
                folder, shape = None, (cell.protocol, cell.learner, cell.writer, cell.draws, cell.neutral,
                                       cell.form, cell.together, cell.stream, items, len(rows))
                lists = self.guess(("lists", *shape), lambda: self.bank_folder(*bank)[2])
            tokens, flops = training_cost(lists, cell, config)
            done = real and (folder / "manifest.json").is_file()
            manifest = read_json(folder / "manifest.json") if done else None
            key = folder or (cell.protocol, cell.learner, cell.recipe, cell.lora, cell.full, cell.neutral,
                             cell.form, cell.together, cell.stream, items, *(w.key for w in written))
            banks.append((folder, manifest, Work(key, tokens, flops, manifest and manifest["seconds"])))
        whole = real and all(manifest for _, manifest, _ in banks)
        made = [(folder, manifest) for folder, manifest, _ in banks]
        update = gathered(made, news, cell) if whole else None
        return written, [work for *_, work in banks], update

    def trained_before(self, learner):
        """{place: Work} of the banks that other studies have trained from the same weights in this store."""
        same, found = self.reader(learner).identity().items(), {}
        for path in sorted(self.store.glob("updates/*/manifest.json")):
            manifest = read_json(path)
            if same <= manifest["run"].items():
                found[str(path)] = Work(path, manifest["tokens"], manifest["flops"], manifest["seconds"])
        return found

    def asked(self, model, study, news, who, key, update=None):
        """Work of ways of asking. news: {way: what is asked}. update: False where there will be one, and is
        not yet."""
        out, reader = [], self.reader(model)
        for way, items in {EVERY[way].file: (way, items) for way, items in news.items()}.values():
            names = tuple(item.id for item in items)
            if way == KL:
                task, cost = self.neutral(model, study["neutral"]["source"]), comparing_cost
            else:
                task, cost = task_of(way, study, reader.prompts), asking_cost
            tokens, flops = self.guess(("ask", model, way, names), partial(cost, reader, task, items))
            path = None if update is False else self.answers_file(model, task, items, EVERY[way].file, who,
                                                                  update)[0]
            done = path is not None and path.exists()
            seconds = read_manifest(path)["totals"].get("seconds", 0.0) if done else None
            out.append(Work(path or ("ask", way, names, key), tokens, flops, seconds))
        return out


def adapter_of(cell):
    """(rank, targets) or (rank, targets, blocks) as model.flops has them; None where all weights learn."""
    rank, _, targets, *layers = cell.lora
    return None if cell.full else (rank, targets, *(range(first, last + 1) for first, last in layers))


def training_cost(lists, cell, config):
    """(tokens, FLOPs) of the training of one bank: `steps` times a mean step. What a loss computes beyond
    next_token, a teacher's forward and the drawing of answers, comes on top."""
    tokens, flops, lora = 0, 0, adapter_of(cell)
    for examples in lists:
        batch = cell.recipe.batch if any(map(callable, examples)) else min(cell.recipe.batch, len(examples))
        examples, share = list(map(once, examples)), cell.recipe.steps * batch / len(examples)
        lengths = [len(e.ids) for e in examples]
        supervised = sum(w > 0 for e in examples for w in e.weights[1:])
        tokens += round(share * sum(lengths))
        flops += round(share * training_flops(config, lengths, supervised, lora))
    return tokens, flops


def asking_cost(reader, task, news):
    """(tokens, FLOPs) of a task: prompts are read behind what an item's prompts share, once."""
    writer, cost = Writer(reader.model, reader.chat, reader.prompts, 0), dict.fromkeys(
        ("prompt_tokens", "new_tokens", "flops"), 0)
    for item in news:
        pairs = []
        for request in task.requests(item):
            pairs += [(prompt, Completion(ids[1:], True)) for prompt, ids in scored_ids(reader.chat, request)]
            if request.continuations is None:
                longest = Completion([0] * (request.max_new_tokens - 1), True)
                pairs.append((prompt_ids(reader.chat, request), longest))
        writer.book(pairs, cost)
    return cost["prompt_tokens"] + cost["new_tokens"], cost["flops"]


def comparing_cost(reader, neutral, news):
    """(tokens, FLOPs) of what base and tuned model read."""
    lengths = [len(example.ids) for item in news for example in texts(neutral, item)]
    return 2 * sum(lengths), 2 * sum(forward_flops(reader.model.config, n, heads=n) for n in lengths)


def probe(config, device, dtype):
    """FLOPs a second of matrix products of the model's width, 256 rows: 2 seconds of them."""
    x = torch.ones(256, config.hidden_size, device=device, dtype=dtype)
    w = torch.ones(config.hidden_size, config.intermediate_size, device=device, dtype=dtype)
    start, done = time.time(), 0
    while time.time() - start < PROBE_SECONDS:
        for _ in range(20):
            last = x @ w
        last[0, 0].item()                       # on a GPU: wait for it
        done += 20
    return done * 2 * 256 * w.numel() / (time.time() - start)


def plan(study, out, store=None):
    """The plan of a study as text. Mistakes are found as `run` finds them."""
    origin, every = source(study["news"], "study"), cells(study)
    news = origin.load()
    out = check_study(out, study, store)
    check_unchanged(out, study, store, check_models(every, study, news))
    asked_of = news_of(study, origin, news)
    stages, rows, bases = Plan(Path(store or out), study["device"], study["dtype"]), [], {}
    names = base_names(dict.fromkeys(cell.model for cell in every))
    for cell in every:
        if cell.model not in bases:
            asked = stages.asked(cell.model, study, asked_of, "base", cell.model)
            bases[cell.model] = Row(names[cell.model], ask=asked)
            rows.append(bases[cell.model])
        written, banks, update = stages.trained(cell, news)
        key = cell.model, cell.scale, *(str(w.key) for w in banks)
        asked = stages.asked(cell.model, study, asked_of, cell.protocol, key,
                             False if update is None else update)
        if cell.stream is not None:
            order = arrivals(news, cell.seed)
            for i in range(1, len(banks)):              # what is asked after the last arrival stands above
                after = update.arrivals[i - 1] if update else False
                asked += stages.asked(cell.model, study, {WAYS[0]: order[:i]}, cell.protocol, key[:2 + i],
                                      after)
        rows.append(Row(cell.name, written, banks, asked))
    text = render(rows, stages, every, len(news))
    if any(protocols(None)[cell.protocol].loss for cell in every):
        text += "\nWhat distillation computes beside its own rows, about as much again, is not counted."
    return text


def render(rows, stages, every, news):
    """The table, a row a cell, and the lines under it."""
    rates, measured = {}, {}
    for kind in KINDS:
        done = {str(w.key): w for row in rows for w in getattr(row, kind) if w.seconds and w.flops}
        done = (done or (stages.trained_before(every[0].learner) if kind == "train" else {})).values()
        rates[kind] = sum(w.flops for w in done) / sum(w.seconds for w in done) if done else None
        measured[kind] = len(done)
    missing = [kind for kind in KINDS if rates[kind] is None and any(
        w.seconds is None for row in rows for w in getattr(row, kind))]
    reader = stages.reader(every[0].model)
    config, about = reader.model.config, reader.about
    if missing:
        speed = probe(config, about["device"], DTYPES[about["dtype"]])
        rates |= dict.fromkeys(missing, speed)

    wide = max(21, *(len(row.name) + 2 for row in rows))
    lines = [f"{'tokens, FLOPs, time':<{wide}}" + "".join(f"{kind:>26}" for kind in KINDS)]
    seen, total = set(), {kind: [0, 0, 0.0] for kind in KINDS}
    for row in rows:
        line = f"{row.name:<{wide}}"
        for kind in KINDS:
            line += f"{entry(getattr(row, kind), rates[kind], seen, total[kind]):>26}"
        lines.append(line)
    lines.append(f"{'to do':<{wide}}" + "".join(f"{amounts(*total[kind]):>26}" for kind in KINDS))
    lines += ["", f"{len(every)} cells; {clock(sum(t[2] for t in total.values()))} in all. Tokens and FLOPs "
                  f"are upper bounds (draws and free replies as long as they may get)."]
    for kind in KINDS:
        if rates[kind]:
            how = (f"by {measured[kind]} whole stages in {stages.store}" if measured[kind] else
                   "by a probe of matrix products: small models are slower")
            lines.append(f"{kind}: {short(rates[kind])}FLOP/s, {how}.")
    return "\n".join([*lines, memory(stages, every, news)])


def entry(works, rate, seen, total):
    """A cell's column: what is to do, or why nothing is."""
    fresh = [w for w in works if str(w.key) not in seen]
    seen |= {str(w.key) for w in works}
    left = [w for w in fresh if w.seconds is None]
    if not works:
        return "-"
    if not left:
        return "whole" if all(w.seconds is not None for w in works) else "as above"
    sums = [sum(w.tokens for w in left), sum(w.flops for w in left), sum(w.flops for w in left) / rate]
    total[:] = [a + b for a, b in zip(total, sums)]
    return amounts(*sums)


def amounts(tokens, flops, seconds):
    return f"{short(tokens)} {short(flops)} {clock(seconds):>7}" if flops else "-"


def short(x):
    """1234567 -> 1.2M."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if x >= size:
            return f"{x / size:.1f}{unit}" if x < 10 * size else f"{x / size:.0f}{unit}"
    return f"{x:.0f}"


def clock(seconds):
    return (f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000
            else f"{seconds / 3600:.1f} h")


def memory(stages, every, news):
    """A line on the most that is held at once: weights, a bank's adapters with their optimizer, and what a
    micro-batch keeps for backward."""
    def need(cell):
        """(bytes of all three, of the weights, of what learns, how many learn at once, of what)"""
        reader, adapter = stages.reader(cell.model), adapter_of(cell)
        config, e, n = reader.model.config, DTYPES[reader.about["dtype"]].itemsize, cell.recipe.micro_tokens
        kept = training_memory(config, e, n, n, adapter and adapter[:2])["activations"]
        count = parameter_count(config)
        if adapter is None:
            # what it began with is kept, a tied head twice; fp32 weights are the optimizer's own
            began = count + config.tie_word_embeddings * config.vocab_size * config.hidden_size
            learning = e * (began - count) + (STATE if e == 4 else e + STATE) * count
            return e * count + learning + kept, e * count, learning, 1, "whole models"
        learn = 1 if cell.together else min(cell.bank, news)
        learning = learn * factors(config, adapter) * STATE
        return e * count + learning + kept, e * count, learning, learn, "adapters"

    total, weights, learning, learn, kind = max(map(need, every))
    return (f"Memory: weights {short(weights)}B, {learn} {kind} side by side with their optimizer "
            f"{short(learning)}B,\nactivations of a micro-batch {short(total - weights - learning)}B; keys "
            f"and values while it writes and answers (up to 1 GB) come on top.")
