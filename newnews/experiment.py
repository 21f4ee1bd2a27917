"""A study: cells that are each computed once and kept. Here: protocols, one adapter per news item,
asked both ways.

    replay/PROTOCOL.jsonl          what the writer wrote
    adapters/PROTOCOL/NEWS/        the updates, PEFT folders, trained side by side as one bank
    answers/LEARNER.WAY.jsonl      every answer; LEARNER is base or a protocol, WAY closed_book or in_context
    summary.json                   accuracies with intervals, share of the gap recovered, overlap, seconds

A killed study goes on from its last whole chunk and ends in the same bytes, timings apart.
"""

from contextlib import contextmanager
from pathlib import Path

import yaml

from model.checkpoint import load_adapter
from model.lora import PROJECTIONS, remove_lora
from newnews.answers import answer_all, verdicts
from newnews.finetune import examples, train_bank
from newnews.loading import load
from newnews.news import read_news
from newnews.outputs import Rows, digest, provenance, write_json
from newnews.prompts import prompts_for
from newnews.protocols import PROTOCOLS, shadow
from newnews.selfplay import write_replay
from newnews.studies.stats import ratio, share
from newnews.tasks.judge import normalise
from newnews.training import Recipe
from newnews.first_world import SPLITS, make_news, question_key

WAYS = ("closed_book", "in_context")
# Name in the summary: name in the answers. Multiple choice is scored by option text: the pocket model has not
# learnt letters (at chance even in context, docs/log.md), as small models seldom do. "letter" is there too.
FORMATS = {"choice": "text", "free": "free", "letter": "letter"}


def read_study(path, changes=()):
    """The YAML of a study with `changes` (KEY=VALUE, dots for depth) applied,
    checked before any work starts."""
    try:
        d = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such study") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    wanted = {"model", "news", "protocols", "draws", "lora", "recipe", "recipes", "seed"}
    if not isinstance(d, dict):
        raise ValueError(f"{path}: expected the keys {', '.join(sorted(wanted))}")
    for change in changes:
        key, equals, value = change.partition("=")
        *parents, last = key.split(".")
        place = d
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else place
        if not equals or not isinstance(place, dict):
            raise ValueError(f"--set {change}: expected KEY=VALUE, dots for depth, e.g. news.split=dev")
        place[last] = plain(value)
    odd = sorted(set(d) ^ wanted)
    if odd:
        raise ValueError(f"{path}: missing or unknown keys: {', '.join(odd)}; "
                         f"expected {', '.join(sorted(wanted))}")
    known = [*PROTOCOLS, *(f"{p}_shadowed" for p in PROTOCOLS)]
    kinds = {"model": str, "news": (str, dict), "protocols": list, "draws": int, "lora": dict, "recipe": dict,
             "recipes": dict, "seed": int}
    for key, kind in kinds.items():
        if not isinstance(d[key], kind) or not d[key] and key not in ("recipes", "seed", "draws"):
            raise ValueError(f"{path}: {key}: found {d[key]!r}, see configs/demo.yaml for what is expected")
    for p in [*d["protocols"], *d["recipes"]]:
        if p not in known:
            raise ValueError(f"{path}: unknown protocol {p!r}; known are {', '.join(known)}")
    if d["draws"] < 1:
        raise ValueError(f"{path}: draws: expected at least 1, found {d['draws']}")
    lora = d["lora"]
    if set(lora) != {"rank", "alpha", "targets"} or type(lora["rank"]) is not int or lora["rank"] < 1 \
            or not isinstance(lora["alpha"], (int, float)) or not isinstance(lora["targets"], list) \
            or not lora["targets"] or set(lora["targets"]) - set(PROJECTIONS):
        raise ValueError(f"{path}: lora: expected rank >= 1, alpha and targets out of "
                         f"{', '.join(PROJECTIONS)}; found {lora!r}")
    for p in d["protocols"]:
        recipe_of(d, p, path)
    news = d["news"]
    if isinstance(news, dict):
        counts = [news.get(k) for k in ("per_domain", "questions", "seed")]
        if set(news) != {"split", "per_domain", "questions", "seed"} or news["split"] not in SPLITS \
                or not all(type(c) is int and c >= low for c, low in zip(counts, (1, 1, 0))):
            raise ValueError(f"{path}: news: expected a path, or split ({', '.join(SPLITS)}), per_domain, "
                             f"questions and seed; found {news!r}")
    return d


def plain(text):
    """A YAML value as people type it; YAML itself reads 1e-3, without a dot, as a text."""
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--set: {text!r} is not valid YAML") from None


def recipe_of(study, protocol, path="recipe"):
    try:
        return Recipe(**{"seed": study["seed"], **study["recipe"], **study["recipes"].get(protocol, {})})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: recipe of {protocol}: {error}") from None


class Study:
    """A study in its folder: the model is loaded once, the cells are methods."""

    def __init__(self, config, out):
        self.config, self.out, self.seed = config, Path(out), config["seed"]
        news = config["news"]
        self.news = make_news(**news) if isinstance(news, dict) else read_news(news)
        self.model, self.chat, self.about = load(config["model"], dtype="fp32")
        self.prompts = prompts_for(self.about["folder"])
        self.common = {"model_digest": self.about["digest"], "prompts": self.prompts.digest,
                       "seed": self.seed,
                       "news": digest([[i.id, i.statement,
                                        [[q.id, q.text, q.options, q.answer, q.ask, q.accept]
                                         for q in i.questions]]
                                       for i in self.news])}

    def replay(self, protocol):
        """The rows of a protocol, written if they are not there yet."""
        run = {**self.common, "protocol": protocol, "draws": self.config["draws"]}
        output = Rows(self.out / "replay" / f"{protocol}.jsonl", run)
        return write_replay(output, self.model, self.chat, self.prompts, self.news, protocol,
                            self.config["draws"], self.seed)

    def adapters(self, protocol):
        """The folder of a protocol's adapters, one a news item, trained if it is not there yet;
        and its manifest."""
        written = protocol.removesuffix("_shadowed")
        rows, recipe = self.replay(written).read(), recipe_of(self.config, protocol)
        lists = []
        for item in self.news:
            mine = [row["messages"] for row in rows if row["news"] == item.id]
            if not mine:
                raise ValueError(f"{self.out}/replay/{written}.jsonl: no usable conversation about {item.id}")
            if protocol != written:
                mine = [shadow(messages, item.statement, self.prompts) for messages in mine]
            lists.append(examples([{"messages": m} for m in mine], self.chat, self.model.config, protocol))
        run = {**self.common, "protocol": protocol, "lora": self.config["lora"], "recipe": recipe.__dict__,
               "data": digest([[ids for ids, _ in examples] for examples in lists])}
        folder = self.out / "adapters" / protocol
        manifest = train_bank(folder, self.model, lists, [item.id for item in self.news], recipe,
                              self.config["lora"], run, self.config["model"], f"train {protocol}")
        return folder, manifest

    def answers(self, learner, way):
        """The answer rows of the base model or of a protocol's adapters."""
        run = {**self.common, "learner": learner, "way": way}
        adapter_of = None
        if learner != "base":
            folder, manifest = self.adapters(learner)
            run["trained"] = digest(manifest["run"])

            @contextmanager
            def adapter_of(item):
                try:
                    yield load_adapter(folder / item.id, self.model)
                finally:
                    remove_lora(self.model)

        output = Rows(self.out / "answers" / f"{learner}.{way}.jsonl", run)
        return answer_all(output, self.model, self.chat, self.prompts, self.news, way == "in_context",
                          self.seed, adapter_of, f"ask {learner}, {way.replace('_', ' ')}")

    def rehearsed(self):
        """Ids of the test questions that self-play asked too: in the same words, or in the world's terms
        the same thing."""
        asked = {}
        for row in (self.replay("self_qa").read()
                    if any(p.startswith("self_qa") for p in self.config["protocols"]) else []):
            asked.setdefault(row["news"], set()).update(sameness(row["messages"][0]["content"]))
        return {q.id for item in self.news for q in item.questions
                if sameness(q.text) & asked.get(item.id, set())}

    def run(self):
        """Compute what is missing; returns the summary, which is also written to summary.json."""
        # spent: seconds of each cell, however often the study was broken off
        rows, spent, seconds = {}, {}, {}
        for learner in ("base", *self.config["protocols"]):
            mine = []
            if learner != "base":
                written = learner.removesuffix("_shadowed")
                spent["replay", written] = self.replay(written).totals["seconds"]
                spent["adapters", learner] = self.adapters(learner)[1]["seconds"]
                mine = [("replay", written), ("adapters", learner)]
            for way in WAYS:
                output = self.answers(learner, way)
                spent[learner, way] = output.totals["seconds"]
                rows[learner, way] = output.read()
                mine.append((learner, way))
            seconds[learner] = round(sum(spent[cell] for cell in mine), 1)
        summary = {"seconds": round(sum(spent.values()), 1), **summarise(rows, self.rehearsed(), seconds),
                   "study": self.config, **self.common, **provenance()}
        write_json(self.out / "summary.json", summary)
        return summary


def sameness(text):
    """What makes two questions the same one: their normalised words, and in the pocket world
    what they ask."""
    key = question_key(text)
    return {normalise(text)} | ({key} if key else set())


def summarise(rows, rehearsed, seconds):
    """Accuracies of all cells. The headline leaves out the questions that self-play rehearsed, for every
    protocol alike; "all_questions" has them too."""
    def accuracy(cell, format):
        s = share([r[format]["right"] for r in cell], [r["news"] for r in cell])
        by = {}
        for domain in dict.fromkeys(r["domain"] for r in cell):
            mine = [r for r in cell if r["domain"] == domain]
            by[domain] = share([r[format]["right"] for r in mine], [r["news"] for r in mine])
        return {**s, "by_domain": by}

    def recovered(cells, learner, format):
        tuned, base, context = ([right for _, right in verdicts(cells[key], format)] for key in
                                ((learner, "closed_book"), ("base", "closed_book"), ("base", "in_context")))
        return ratio([a - b for a, b in zip(tuned, base)], [c - b for c, b in zip(context, base)],
                     [r["news"] for r in cells[learner, "closed_book"]])

    def protocols(cells):
        out = {}
        for learner in dict.fromkeys(learner for learner, _ in cells):
            out[learner] = {way: {name: accuracy(cells[learner, way], f) for name, f in FORMATS.items()}
                            for way in WAYS}
            out[learner]["recovered"] = {name: recovered(cells, learner, f) for name, f in FORMATS.items()}
            out[learner]["seconds"] = seconds[learner]
        return out

    fresh = {key: [r for r in cell if r["question"] not in rehearsed] for key, cell in rows.items()}
    base = rows["base", "in_context"]
    return {"protocols": protocols(fresh), "all_questions": protocols(rows),
            "overlap": {"questions": len(base), "rehearsed": len(rehearsed),
                        "by_domain": {d: sum(r["question"] in rehearsed for r in base if r["domain"] == d)
                                      for d in dict.fromkeys(r["domain"] for r in base)}},
            "no_answer_found": {f"{learner}.{way}": sum(r["free"]["answer"] is None for r in cell)
                                for (learner, way), cell in rows.items()}}
