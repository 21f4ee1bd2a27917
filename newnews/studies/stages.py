"""The stages of a study: replay, update, answers. Each is a function of a spec, and knows nothing else.

The digest of the spec names its folder or file, so cells and studies share what they have in common, a second
start computes only what is missing, and a change recomputes only what depends on it: other accepted answers
recompute nothing, other questions no replay and no adapter.

    STORE/replay/self_qa-DIGEST.jsonl           what the writer wrote
    STORE/updates/self_qa-DIGEST/NEWS/          one bank of updates, PEFT folders, trained side by side; or
                                 together/      the one that all its news share, or, in a stream, had so far;
                                                with tuning: full, model folders
    STORE/answers/self_qa.closed_book-DIGEST.jsonl      raw responses, judged by nobody; of the way `kl`
                                                        {"item", "id", "kl": nats a token}
"""

import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from model.checkpoint import load_bank, load_model
from model.lora import remove_lora
from newnews.ask import CHUNK_REPLIES, CHUNK_TOKENS, answer_all, ask
from newnews.batches import once, width
from newnews.console import progress
from newnews.finetune import train_bank, train_whole
from newnews.loading import load
from newnews.neutral import Neutral, mixed
from newnews.outputs import Rows, digest
from newnews.prompts import prompts_for
from newnews.protocols import protocols
from newnews.protocols.form import in_form
from newnews.selfplay import write_replay
from newnews.studies.drift import drift, texts
from newnews.studies.sources import chosen
from newnews.studies.stream import arrivals, drawing
from newnews.studies.ways import KL, TEXTS
from newnews.tasks.settings import requests_digest
from newnews.together import work_off

TOGETHER = "together"       # the name of an adapter that several news share


@dataclass
class Reader:
    """A model that is loaded: what a stage needs of it."""
    model: object
    chat: object
    about: dict
    prompts: object

    def identity(self):
        """What results depend on: the weights and files by content, how it computes; no path, no prose."""
        return {"model": self.about["digest"], "dtype": self.about["dtype"],
                "device": self.about["device"].partition(":")[0]}


@dataclass(frozen=True)
class Update:
    """The trained adapters of a cell: which folder has a news item's, and which have none."""
    folders: dict           # news id -> PEFT folder, or folder of a whole model
    diverged: dict          # news id -> the step at which its loss was no number any more
    empty: list             # news ids about which nothing usable was written
    seconds: float
    flops: int
    tokens: int
    manifests: list
    scale: float            # what they are multiplied by when they are asked
    full: bool              # whole models
    arrivals: list = field(default_factory=list)    # of a stream: the Update after each


def gathered(manifests, news, cell):
    """The Update of a cell from [(folder, manifest)] of its banks."""
    folders, diverged = {}, {}
    for folder, manifest in manifests:
        for name in manifest["run"]["names"]:
            adapter = TOGETHER if manifest["names"] == [TOGETHER] else name
            folders[name] = folder / adapter
            if adapter in manifest["stopped"]:
                diverged[name] = manifest["stopped"][adapter]
    spent = {key: sum(manifest[key] for _, manifest in manifests) for key in ("seconds", "flops", "tokens")}
    update = Update(folders, diverged, empty=[item.id for item in news if item.id not in folders], **spent,
                    manifests=[manifest for _, manifest in manifests], scale=cell.scale,
                    full=cell.full)
    if cell.stream is None:
        return update
    # Each adapter of a stream takes the place of the one before, and its manifest names all before it.
    after = [gathered([one], [], replace(cell, stream=None)) for one in manifests]
    return replace(update, manifests=update.manifests[-1:], arrivals=after)


class Stages:
    """Computes stages in a store folder. Keeps the model that it used last."""

    def __init__(self, store, device="auto", dtype="auto"):
        self.store, self.device, self.dtype, self.loaded = Path(store), device, dtype, (None, None)
        self.whole = None, None     # folder and model of the whole model that was asked last
        self.place = ""             # stands before the label of a progress bar: "2/5 "

    def reader(self, name):
        if self.loaded[0] != name:
            model, chat, about = load(name, None, self.device, self.dtype)
            self.loaded = name, Reader(model, chat, about, prompts_for(about["folder"]))
        return self.loaded[1]

    def replay(self, cell, protocol, news):
        """Rows (whole) that a writing protocol has about the news, one chunk an item."""
        writer, output = self.reader(cell.writer), Rows(*self.replay_file(cell, protocol, news))
        return write_replay(output, writer.model, writer.chat, writer.prompts, news,
                            protocols(writer.prompts)[protocol], cell.draws, cell.seed)

    def replay_file(self, cell, protocol, news):
        """(path, spec)."""
        writer = self.reader(cell.writer)
        kind = protocols(writer.prompts)[protocol]
        spec = {"stage": "replay", **writer.identity(), "protocol": protocol, "draws": cell.draws,
                "seed": cell.seed, "prompts": writer.prompts.writing(kind.words),
                "news": [[getattr(item, part) for part in kind.told] for item in news]}
        return self.store / "replay" / f"{protocol}-{digest(spec)}.jsonl", spec

    def update(self, cell, news, replay):
        """Train the adapters of a cell, bank by bank. replay: Rows (whole) of each source of its protocol."""
        rows = [row for written in replay for row in written.read()]
        banks = self.banks(cell, rows, news)
        if cell.stream is not None:     # each goes on from the one before, and holds the rows of all so far
            for bank in banks[-1:]:
                self.bank_folder(*bank)     # what does not fit is found before the first is trained
            return gathered([self.bank(bank, *self.bank_folder(*bank)) for bank in banks], news, cell)
        jobs = [partial(self.bank, bank, *self.bank_folder(*bank)) for bank in banks]       # found here too
        work_off(jobs)
        return gathered([job() for job in jobs], news, cell)

    def banks(self, cell, rows, news):
        """[(cell, learner, protocol, items, their rows by news)] of each bank, out of all rows; of a stream
        after each arrival, with all items so far."""
        learner = self.reader(cell.learner)
        protocol = in_form(protocols(learner.prompts)[cell.protocol], cell.form)
        by_news = chosen(protocol, rows, news)
        written = [item for item in news if by_news[item.id]]
        if cell.stream is not None:
            written = arrivals(written, cell.seed)
            return [(cell, learner, protocol, written[:i], by_news) for i in range(1, len(written) + 1)]
        size = 1 if cell.full and not cell.together else cell.bank
        return [(cell, learner, protocol, written[i:i + size], by_news) for i in range(0, len(written), size)]

    def bank(self, bank, folder, spec, lists):
        """(folder, manifest) of the adapters of some items, trained side by side. bank: one of `banks`, and
        what `bank_folder` says of it."""
        cell, learner, protocol, items, by_news = bank
        names, start = [TOGETHER] if cell.together else spec["names"], None
        label = f"{self.place}train {cell.name}"
        if cell.full:
            return folder, train_whole(folder, learner.model, *lists, *names, cell.recipe, spec,
                                       learner.about["folder"], label)
        if cell.stream is not None and items[1:]:
            start = [self.bank_folder(cell, learner, protocol, items[:-1], by_news)[0] / TOGETHER]
        manifest = train_bank(folder, learner.model, lists, names, cell.recipe, spec["lora"], spec,
                              cell.learner, label, protocol.loss, start)
        return folder, manifest

    def bank_folder(self, cell, learner, protocol, items, by_news):
        """(folder, spec, [examples of each adapter])."""
        lists, most = [], learner.model.config.max_position_embeddings
        for item in items:
            try:
                lists.append(protocol.examples(by_news[item.id], item, learner.chat))
                longest = max(width(once(e)) for e in lists[-1])
                if longest > most:
                    raise ValueError(f"a conversation of {cell.protocol} has {longest} tokens; the model's "
                                     f"context is {most}")
            except ValueError as error:
                raise ValueError(f"news {item.id}: {error}") from None
        spec = {"stage": "update", **learner.identity(), "protocol": cell.protocol,
                "lora": "full" if cell.full else dict(zip(("rank", "alpha", "targets", "layers"), cell.lora)),
                "recipe": asdict(cell.recipe),
                "names": [item.id for item in items],
                "data": digest([[row["messages"] for row in by_news[item.id]] for item in items],
                               [item.statement for item in items], *protocol.wording())}
        # What differs from a plain study only: without these, stores that are there keep their names.
        spec |= {"form": cell.form} if cell.form != "chat" else {}
        if cell.stream is not None:         # the last has arrived; those before are in the names and the data
            *before, new = lists
            spec["stream"] = share = cell.stream if before else 0.0
            earlier = [example for examples in before for example in examples]
            lists = [mixed(new, share, drawing(earlier)) if share else new]
        if cell.together:
            spec["together"], lists = True, [[example for examples in lists for example in examples]]
        if cell.neutral:
            share, source = cell.neutral
            neutral = self.neutral(cell.learner, source)
            lists = [mixed(examples, share, neutral.draw) for examples in lists]
            spec["neutral"] = [share, neutral.digest]
        return self.store / "updates" / f"{cell.protocol}-{digest(spec)}", spec, lists

    def answers(self, model, task, items, way, who, label, update=None):
        """Rows (whole) of the raw responses of the base model, or with an update of each item's
        adapter. who: how the file's name begins, "base" or the protocol; label: of the progress bar."""
        reader, label = self.reader(model), f"ask {label}, {way.replace('_', ' ')}"
        path, spec, items = self.answers_file(model, task, items, way, who, update)
        if update and update.full:
            def asked(item):
                requests = [(item.id, request) for request in task.requests(item)]
                return ask(self.model_in(update.folders[item.id], reader), reader.chat, requests)
            return self.one_by_one(Rows(path, spec), items, asked, label)
        return answer_all(Rows(path, spec), reader.model, reader.chat, task, items,
                          update and partial(self.carrying, reader, update), f"{self.place}{label}")

    def drift(self, model, items, source, who, label, update=None):
        """Rows (whole) of how far each item's adapter has moved the model on neutral texts of `source`."""
        reader, neutral = self.reader(model), self.neutral(model, source)
        path, spec, items = self.answers_file(model, neutral, items, KL, who, update)

        def compared(item):
            with self.carrying(reader, update, [item]) if update else nullcontext():
                found = drift(reader.model, texts(neutral, item), reader.about["device"])
            return [{"item": item.id, "id": f"{KL}-{i}", "kl": nats} for i, nats in enumerate(found)]
        return self.one_by_one(Rows(path, spec), items, compared, f"compare {label}")

    def one_by_one(self, output, items, rows_of, label):
        """Fill `output` with rows_of(item), a chunk each."""
        if output.whole:
            return output
        bar = progress(len(items), output.chunks, f"{self.place}{label}", "item")
        for item in items[output.chunks:]:
            start = time.time()
            output.add(rows_of(item), seconds=round(time.time() - start, 3))
            bar.update(1)
        bar.close()
        output.finish()
        return output

    def model_in(self, folder, reader):
        """The whole model of a folder, as the reader's is loaded."""
        if self.whole[0] != folder:
            weight = reader.model.lm_head.weight
            self.whole = folder, load_model(folder, weight.device, weight.dtype)
        return self.whole[1]

    def neutral(self, model, source):
        reader = self.reader(model)
        return Neutral(source, reader.chat, reader.prompts, reader.model.config.max_position_embeddings)

    @contextmanager
    def carrying(self, reader, update, items):
        """The model with the adapters of these items on it; gives which is each one's. News may share one."""
        folders = [update.folders[item.id] for item in items]
        bank = list(dict.fromkeys(folders))
        load_bank(bank, reader.model, update.scale)
        try:
            yield [bank.index(folder) for folder in folders]
        finally:
            remove_lora(reader.model)

    def answers_file(self, model, task, items, way, who, update=None):
        """(path, spec, the items that have an update). task: a NewsTask, or Neutral texts to compare on."""
        spec = {"stage": "answers", **self.reader(model).identity()}
        if way == KL:
            spec |= {"task": KL, "neutral": task.digest, "texts": TEXTS, "news": [item.id for item in items]}
        else:
            spec |= {"task": task.name, "chunk": [CHUNK_TOKENS, CHUNK_REPLIES],
                     "requests": requests_digest(task, items)}
        if update is not None:
            items = [item for item in items if item.id in update.folders and item.id not in update.diverged]
            spec["update"] = digest([manifest["run"] for manifest in update.manifests])
            spec |= {"scale": update.scale} if update.scale != 1 else {}
        return self.store / "answers" / f"{who}.{way}-{digest(spec)}.jsonl", spec, items
