"""From raw responses to accuracies: verdicts, then means with intervals. No torch, no model: a table can be
made again from the files of a study alone, and is, whenever the judge or the accepted answers have changed.

OUT/study.json names the files: {"study": the YAML, "prompts": {model: file}, "base": {model: {way: answers
file}}, "cells": [{"name", "protocol", "model", "answers": {way: file}, "replay": [files], "seconds", "flops",
"tokens", "diverged": {news: step}, "empty": [news]}]}. Paths are relative to OUT.

What is left out, for every cell alike: questions that some protocol's rows ask or answer (`rehearsed`). What
is left out of one cell: news items whose adapter diverged, or about which nothing usable was written; both
counted.
"""

from pathlib import Path

from model.files import read_json
from newnews.outputs import read_manifest, read_rows
from newnews.prompts import read_prompts
from newnews.reading import shown
from newnews.studies.sources import source
from newnews.studies.report import TITLES
from newnews.studies.stats import ratio, share
from newnews.tasks.base import check_response
from newnews.tasks.news import WAYS, NewsTask
from newnews.tasks.settings import requests_digest


def judged(file, task, items):
    """[(raw response, verdict)] of an answers file, in its order."""
    by_item = {item.id: item for item in items}
    requests = {(item.id, r.id): r for item in items for r in task.requests(item)}
    out = []
    for response in read_rows(file):
        key = str(response.get("item")), str(response.get("id"))
        if key not in requests:
            raise ValueError(f"{file}: a response to {shown(key[1])}, which these data do not ask, or not "
                             f"twice; were they changed? Run the study again")
        try:
            check_response(requests[key], response)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        out.append((response, task.judge(by_item[key[0]], requests.pop(key), response)))
    return out


def verdicts(file, task, items):
    return [verdict for _, verdict in judged(file, task, items)]


def rehearsed(files, items, keys):
    """Ids of the test questions that rows of any protocol ask, or whose answer they state, in whatever
    words."""
    said = {}
    for row in (row for file in files for row in read_rows(file)):
        for message in row["messages"]:
            said.setdefault(row["news"], set()).update(keys(message["content"]))
    return {q.id for item in items for q in item.questions
            if (keys(q.text) | keys(q.ask)) & said.get(item.id, set())}


def accuracy(rows, field="right"):
    """Share of right answers with its interval, over all and by domain."""
    def of(some):
        return share([r[field] for r in some], [r["news"] for r in some])

    domains = dict.fromkeys(r["domain"] for r in rows)
    return {**of(rows), "by_domain": {d: of([r for r in rows if r["domain"] == d]) for d in domains}}


def recovered(tuned, base, context):
    """Share of the gap recovered: (tuned - base) / (base in context - base), on the questions that all three
    were asked."""
    tuned, base, context = ({r["question"]: r for r in rows} for rows in (tuned, base, context))
    shared = [q for q in tuned if q in base and q in context]
    return ratio([tuned[q]["right"] - base[q]["right"] for q in shared],
                 [context[q]["right"] - base[q]["right"] for q in shared],
                 [tuned[q]["news"] for q in shared])


def block(verdicts_of, cells, formats, fresh):
    """{cell name: {way: {format: accuracy}, "recovered": {format: ratio}}}; base models first.

    verdicts_of: {(cell name or "base MODEL", way): rows}. fresh(row): is the question counted?
    """
    def rows(name, way, format):
        return [r for r in verdicts_of[name, way] if r["format"] == format and fresh(r)]

    out = {}
    for name, base in cells:
        out[name] = {way: {format: accuracy(rows(name, way, format)) for format in formats} for way in WAYS}
        for format in [f for f in formats if f in ("free", "reason")]:
            for way in WAYS:
                out[name][way][format]["exact"] = accuracy(rows(name, way, format), "exact")["mean"]
        out[name]["recovered"] = {format: recovered(rows(name, "closed_book", format),
                                                    rows(base, "closed_book", format),
                                                    rows(base, "in_context", format)) for format in formats}
    return out


class Finished:
    """A study in its folder: the YAML, the news, the tasks, and which answers file belongs to which cell and
    way."""

    def __init__(self, out):
        out = Path(out)
        index = read_json(out / "study.json")
        missing = {"study", "prompts", "base", "cells", "seconds"} - set(index)
        if missing or not isinstance(index["prompts"], dict):
            raise ValueError(f"{out}/study.json: expected study, prompts, base, cells and seconds; "
                             f"run the study again")
        self.out, self.index, self.study = out, index, index["study"]
        self.source = source(self.study["news"], out / "study.json")
        self.items = self.source.load()
        # each model is asked in words of its own, and its answers are found by them
        prompts = {model: read_prompts(out / file) for model, file in index["prompts"].items()}
        self.tasks = {(model, way): NewsTask(prompts[model], way == "in_context", self.study["seed"],
                                             self.study["ask"]) for model in prompts for way in WAYS}
        self.asked = {key: requests_digest(task, self.items) for key, task in self.tasks.items()}
        # the base models are cells too; with several of them their names say which
        alone = len(index["base"]) == 1
        self.base_of = {model: "base" if alone else f"base {model}" for model in index["base"]}
        self.answers = {self.base_of[model]: files for model, files in index["base"].items()}
        self.answers |= {cell["name"]: cell["answers"] for cell in index["cells"]}
        self.model_of = {name: model for model, name in self.base_of.items()}
        self.model_of |= {cell["name"]: cell["model"] for cell in index["cells"]}

    def judged(self, cell, way):
        """[(raw response, verdict)]. Refuses news whose questions or options are not those that were asked:
        the number of an option would mean another one."""
        file, key = self.out / self.answers[cell][way], (self.model_of[cell], way)
        rows = judged(file, self.tasks[key], self.items)
        if read_manifest(file)["run"].get("requests") != self.asked[key]:
            raise ValueError(f"{file}: the news, questions or options were changed since they were asked; "
                             f"run the study again")
        return rows

    def walk(self, question):
        """[(cell, way, raw response, verdict)] about one question, by its id."""
        known = [q.id for item in self.items for q in item.questions]
        if question not in known:
            raise ValueError(f"{self.out}: no question {question!r}; it has {', '.join(known[:8])}"
                             f"{', ...' if known[8:] else ''}")
        return [(cell, way, response, verdict) for cell in self.answers for way in WAYS
                for response, verdict in self.judged(cell, way) if verdict["question"] == question]


def summarise(out):
    """The summary of the study in the folder OUT, from its raw files."""
    done = Finished(out)
    index, study, items = done.index, done.study, done.items
    verdicts_of = {(name, way): [verdict for _, verdict in done.judged(name, way)]
                   for name in done.answers for way in WAYS}
    cells = [*((name, name) for name in done.base_of.values()),
             *((cell["name"], done.base_of[cell["model"]]) for cell in index["cells"])]
    files = dict.fromkeys(done.out / file for cell in index["cells"] for file in cell["replay"])
    seen = rehearsed(files, items, done.source.keys)
    formats, questions = study["ask"], [(q, item.domain) for item in items for q in item.questions]
    domains = dict.fromkeys(item.domain for item in items)
    about = {cell["name"]: {key: cell[key] for key in ("seconds", "flops", "tokens", "diverged", "empty")}
             for cell in index["cells"]}
    return {"study": study, "judge": NewsTask.version, "news": len(items),
            "cells": block(verdicts_of, cells, formats, lambda r: r["question"] not in seen),
            "all_questions": block(verdicts_of, cells, formats, lambda r: True),
            "about": about, "seconds": index["seconds"],
            "overlap": {"questions": len(questions), "rehearsed": len(seen),
                        "by_domain": {d: sum(q.id in seen for q, mine in questions if mine == d)
                                      for d in domains}},
            "undecided": {f"{name}.{way}": {f: sum(r.get("undecided", False) or r.get("answer", 0) is None
                                                   for r in rows if r["format"] == f)
                                            for f in formats if f in ("free", "reason")}
                          for (name, way), rows in verdicts_of.items()}}


def accuracy_table(rows):
    """The accuracies of verdict rows by domain and format, as text."""
    formats = list(dict.fromkeys(r["format"] for r in rows))
    columns = [(f, "right", TITLES[f]) for f in formats]
    columns += [(f, "exact", f"{f}, exact") for f in formats if f in ("free", "reason")]
    columns += [("text", "per_byte", "text, per byte")] if "text" in formats else []
    lines = [f"{'':<14}{'n':>6}" + "".join(f"{title[:20]:>22}" for *_, title in columns)]
    for domain in [*dict.fromkeys(r["domain"] for r in rows), "all"]:
        mine = [r for r in rows if domain in (r["domain"], "all")]
        line = f"{domain:<14}{len({r['question'] for r in mine}):>6}"
        for format, field, _ in columns:
            some = [r for r in mine if r["format"] == format]
            s = share([r[field] for r in some], [r["news"] for r in some])
            line += f"{s['mean']:>9.3f} [{s['low']:.2f}, {s['high']:.2f}]"
        lines.append(line)
    for format in [f for f in formats if f in ("free", "reason")]:
        some = [r for r in rows if r["format"] == format]
        none, undecided = sum(r["answer"] is None for r in some), sum(r["undecided"] for r in some)
        lines.append(f"{TITLES[format]}: no answer found in {none}, undecided {undecided} of {len(some)} "
                     f"replies" + "; does the model know these prompts (--prompts)?" * (none == len(some)))
    return "\n".join(lines)
