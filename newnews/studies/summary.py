"""From raw responses to accuracies: verdicts, then means with intervals. No torch, no model: a table can be
made again from the files of a study alone, and is, whenever the judge or the accepted answers have changed.

OUT/study.json names the files, relative to OUT:

    study, prompts, base    the YAML; {model: file}; {model: {way: answers file}}
    cells                   [{"name", "protocol", "model", "writer", "learner", "neutral": [share, source] or
                            [], "form", "recipe", "answers": {way: file}, "replay": [files], "seconds",
                            "flops", "tokens", "course": [[step, loss, gradient norm]],
                            "diverged": {news: step}, "empty": [news]}], of a stream with
                            "arrivals": [{"news": [those so far], "answers": file}]
    seconds, computed_at    of all stages; the commits at which they were computed
    git, code, ...          of the last run (newnews/provenance.py)

Cells that differ in their seed alone are one group: means over seeds, with intervals that hold for other news
and other seeds (stats.crossed).

What else was asked (the study's `also`, newnews/studies/ways.py) stands beside the two ways.

What is left out, for every cell alike: questions that some cell's rows ask or answer (`rehearsed`), under
whatever seed. What is left out of one cell: news items whose adapter diverged, or about which nothing usable
was written; of a group, those of any of its cells, since seeds are compared on the same questions. All are
counted.
"""

from functools import cached_property
from pathlib import Path

from model.files import read_json
from newnews.outputs import read_manifest, read_rows
from newnews.prompts import read_prompts
from newnews.reading import shown
from newnews.studies.contrasts import answered, base_names, contrasted, groups, read_contrasts
from newnews.studies.report import TITLES
from newnews.studies.sources import source
from newnews.studies.stats import crossed, paired, ratio, share
from newnews.studies.ways import KL, formats_of, news_of, task_of, ways_of
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
    """Ids of the test questions that rows of any protocol ask, or whose answer they state: in whatever words,
    where the source of the news can read them (the pocket world); a file's only word for word."""
    said = {}
    for row in (row for file in files for row in read_rows(file)):
        for message in row["messages"]:
            said.setdefault(row["news"], set()).update(keys(message["content"]))
    return {q.id for item in items for q in item.questions
            if (keys(q.text) | keys(q.ask)) & said.get(item.id, set())}


def accuracy(lists, field="right"):
    """Share of right answers with its interval, over all, by domain, by what a question needs (recall,
    computation, ...), and by how many steps of thought it takes ("0": not said). lists: verdicts, a list a
    seed."""
    values, rows = answered(lists, field)
    news = [r["news"] for r in rows]
    mean = nats if any(row["format"] == KL for row in rows) else crossed

    def of(places):
        return {**mean(values[:, places], [news[i] for i in places]), "seeds": len(lists)}

    def by(key):
        return {str(value): of([i for i, row in enumerate(rows) if row[key] == value])
                for value in dict.fromkeys(row[key] for row in rows)}

    return {**of(range(len(rows))), **{f"by_{key}": by(key) for key in ("domain", "needs", "steps")}}


def nats(values, clusters):
    """As stats.crossed, of numbers that are no shares."""
    found = paired(values, 0 * values, clusters, shares=False)
    return {key: found[key] for key in ("mean", "low", "high", "n")}


def recovered(tuned, base, context):
    """Share of the gap recovered: (tuned - base) / (base in context - base), on the n questions that all were
    asked. tuned: a list of verdicts a seed, or none."""
    if not tuned:
        return {"mean": None, "low": None, "high": None, "n": 0}
    values, rows = answered([*tuned, base, context])
    found = ratio(values[:-2] - values[-2], values[-1] - values[-2], [r["news"] for r in rows])
    return {**found, "n": len(rows)}


def block(rows, members, formats, also=()):
    """{name: {way: {format: accuracy}, "recovered": {format: ratio}}} of cells or groups.

    rows(cell, way, format): the verdicts that count. members: {name: (its cells, one a seed, and the base
    model's)}.
    """
    out = {}
    for name, (cells, base) in members.items():
        out[name] = {way: {f: accuracy([rows(cell, way, f) for cell in cells])
                           for f in formats_of(way, formats)} for way in (*WAYS, *also)}
        for f in [f for f in formats if f in ("free", "reason")]:
            for way in WAYS:
                exact = accuracy([rows(cell, way, f) for cell in cells], "exact")
                out[name][way][f]["exact"] = exact["mean"]
        tuned = [cell for cell in cells if cell != base]    # of a base model nothing is recovered
        out[name]["recovered"] = {f: recovered([rows(cell, "closed_book", f) for cell in tuned],
                                               rows(base, "closed_book", f), rows(base, "in_context", f))
                                  for f in formats}
    return out


class Finished:
    """A study in its folder: the YAML, the news, the tasks, which answers file belongs to which cell and way,
    and the verdicts on them."""

    def __init__(self, out):
        out = Path(out)
        if not (out / "study.json").is_file():
            raise ValueError(f"{out}: holds no study.json: it is no study's folder, or the study has not "
                             f"ended yet (start its command again, it goes on)")
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
        self.ways, self.news = ways_of(self.study), news_of(self.study, self.source, self.items)
        self.tasks = {(model, way): task_of(way, self.study, prompts[model])
                      for model in prompts for way in self.ways if way != KL}
        self.asked = {key: requests_digest(task, self.news[key[1]]) for key, task in self.tasks.items()}
        self.base_of = base_names(index["base"])
        self.answers = {self.base_of[model]: files for model, files in index["base"].items()}
        self.answers |= {cell["name"]: cell["answers"] for cell in index["cells"]}
        self.model_of = {name: model for model, name in self.base_of.items()}
        self.model_of |= {cell["name"]: cell["model"] for cell in index["cells"]}

    def judged(self, cell, way):
        """[(raw response, verdict)]. Refuses news whose questions or options are not those that were asked:
        the number of an option would mean another one."""
        file, key = self.out / self.answers[cell][way], (self.model_of[cell], way)
        if way == KL:
            domain = {item.id: item.domain for item in self.items}
            return [(row, {"news": row["item"], "domain": domain[row["item"]], "question": row["id"],
                           "needs": "", "steps": 0, "format": KL, "right": row["kl"]})
                    for row in read_rows(file)]
        rows = judged(file, self.tasks[key], self.news[way])
        if read_manifest(file)["run"].get("requests") != self.asked[key]:
            raise ValueError(f"{file}: the news, questions or options were changed since they were asked; "
                             f"run the study again")
        return rows

    @cached_property
    def rows(self):
        """{(cell, way): [(raw response, verdict)]} of all cells and ways."""
        return {(cell, way): self.judged(cell, way) for cell in self.answers for way in self.ways}

    @cached_property
    def seen(self):
        """Ids of the questions that were rehearsed."""
        files = dict.fromkeys(self.out / file for cell in self.index["cells"] for file in cell["replay"])
        return rehearsed(files, self.items, self.source.keys)

    def every(self, cell, way, format):
        """The verdicts of a cell in one way and format."""
        return [verdict for _, verdict in self.rows[cell, way] if verdict["format"] == format]

    def fresh(self, cell, way, format):
        """Those that count: on questions that were not rehearsed."""
        return [row for row in self.every(cell, way, format) if row["question"] not in self.seen]

    def walk(self, question):
        """[(cell, way, raw response, verdict)] about one question, by its id. About "others" it was asked of
        the model that the news item before was trained on."""
        known = [q.id for item in self.items for q in item.questions]
        if question not in known:
            raise ValueError(f"{self.out}: no question {question!r}; it has {', '.join(known[:8])}"
                             f"{', ...' if known[8:] else ''}")
        ways = [way for way in self.ways if way not in (KL, "insists")]     # no replies of their own
        return [(cell, way, response, verdict) for cell in self.answers for way in ways
                for response, verdict in self.judged(cell, way) if verdict["question"] == question]


def summarise(done):
    """The summary of a finished study."""
    index, study, items, seen = done.index, done.study, done.items, done.seen
    fresh, every, names = done.fresh, done.every, list(done.answers)
    single = {name: ([name], done.base_of[done.model_of[name]]) for name in names}
    pooled = {group: (cells, single[cells[0]][1]) for group, cells in groups(names).items()}
    formats, also = study["ask"], done.ways[len(WAYS):]
    questions = [(q, item.domain) for item in items for q in item.questions]
    domains = dict.fromkeys(item.domain for item in items)
    about = {cell["name"]: {key: cell[key] for key in ("seconds", "flops", "tokens", "diverged", "empty")}
             for cell in index["cells"]}
    return {"study": study, "judge": NewsTask.version, "news": len(items),
            "cells": block(fresh, single, formats, also),
            "all_questions": block(every, single, formats, also),
            "groups": grouped(block(fresh, pooled, formats, also), block(every, pooled, formats, also),
                              pooled, about),
            "contrasts": contrasted(read_contrasts(study.get("contrasts", []), names, formats, done.out,
                                                   lambda: items, done.ways), names, fresh),
            "about": about, "seconds": index["seconds"], "chance": chance(items, seen),
            "overlap": {"questions": len(questions), "rehearsed": len(seen),
                        "by_domain": {d: sum(q.id in seen for q, mine in questions if mine == d)
                                      for d in domains}},
            "undecided": {f"{name}.{way}": {f: sum(r.get("undecided", False) or r.get("answer", 0) is None
                                                   for r in every(name, way, f))
                                            for f in formats if f in ("free", "reason")}
                          for name, way in done.rows}}


def chance(items, seen):
    """The mean of 1 / options over the questions that count; None without any."""
    shares = [1 / len(q.options) for item in items for q in item.questions if q.id not in seen]
    return sum(shares) / len(shares) if shares else None


def grouped(fresh, every, pooled, about):
    """The groups as the summary has them: what `block` found; "cells"; "all_questions", rehearsed ones
    included; "left_out", the news that one of the cells lacks; "seconds", the mean of its cells."""
    out = {}
    for group, (cells, _) in pooled.items():
        costs = [about[cell] for cell in cells if cell in about]        # none of a base model
        left = dict.fromkeys(news for cost in costs for news in [*cost["diverged"], *cost["empty"]])
        out[group] = {"cells": cells, **fresh[group], "all_questions": every[group], "left_out": list(left)}
        if costs:
            out[group]["seconds"] = round(sum(cost["seconds"] for cost in costs) / len(costs), 1)
    return out


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
