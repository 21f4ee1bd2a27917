"""A few news items of a study, whole: what was trained on, token by token, and what was answered before and
after. Data for the page's walk (page.js), JSON-able. No torch: tokens need the tokenizer only, that of the
model that is asked."""

import json
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from newnews.outputs import read_rows
from newnews.prompts import read_prompts
from newnews.protocols import protocols
from newnews.protocols.form import in_form
from newnews.studies.report import ORDER, TITLES
from newnews.studies.sources import chosen
from newnews.tasks.news import WAYS, shown_order

NEWS, LETTERS = 25, 1_500_000   # at most so many news items and letters of JSON: the page stays light
SHOWN = 3                       # conversations of each news item and protocol
LONGEST = 400                   # letters of a reply


def walk_data(done, cells):
    """{"cells": [{"name", "base": index}], "formats": {name: title}, "news": [...]} of a `summary.Finished`.

    cells: names of those that are shown, base models first.
    """
    replies = {}                        # (news, cell, way): question: format: what was answered
    for cell in cells:
        for way in WAYS:
            for response, verdict in done.rows[cell, way]:
                place = replies.setdefault((verdict["news"], cell, way), {})
                place.setdefault(verdict["question"], {})[verdict["format"]] = response, verdict

    def asked(item, q):
        found = [[answers(replies.get((item.id, cell, way), {}).get(q.id, {}), q, done.study["seed"])
                  for way in WAYS] for cell in cells]
        return {"ask": q.ask, "options": q.options, "answer": q.answer, "needs": q.needs.replace("_", " "),
                "rehearsed": q.id in done.seen, "answers": found}

    trained, news, size = Trained(done, cells), [], 0
    for item in in_turn(done.items)[:NEWS]:
        news.append({"id": item.id, "domain": item.domain, "headline": item.headline,
                     "statement": item.statement, "written": trained.groups(item),
                     "questions": [asked(item, q) for q in item.questions]})
        size += len(embedded(news[-1]))
        if size > LETTERS and len(news) > 1:
            news.pop()
            break
    bases = [cells.index(done.base_of[done.model_of[name]]) for name in cells]
    titles = {f: TITLES[f] + ": log-probability of each option" * (f in ("text", "letter")) for f in ORDER}
    return {"cells": [{"name": name, "base": base} for name, base in zip(cells, bases)],
            "formats": {f: title for f, title in titles.items() if f in done.study["ask"]}, "news": news}


def in_turn(items):
    """One news item of each domain in turn, so that a few are of all kinds."""
    domains = {}
    for item in items:
        domains.setdefault(item.domain, []).append(item)
    return [item for item in chain(*zip_longest(*domains.values())) if item is not None]


def answers(found, question, seed):
    """What one cell answered: {format: [sums by option, pick] or [reply, right, undecided, cut]}; None:
    nothing."""
    out = {}
    for format, (response, verdict) in found.items():
        if format in ("free", "reason"):
            text = " ".join(response["text"].split())
            out[format] = [text[:LONGEST] + " …" * (len(text) > LONGEST), int(verdict["right"]),
                           int(verdict["undecided"]), int(not response["stopped"])]
            continue
        sums = [round(x, 2) for x in response["logprobs"]]      # to look at; the pick is that of the raw ones
        if format == "letter":          # they stand in the order that was shown
            order = shown_order(question, seed)
            sums = [sums[order.index(k)] for k in range(len(sums))]
        out[format] = [sums, verdict["pick"]]
    return out or None


def embedded(data):
    """JSON for a <script> element: no text can close it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


class Trained:
    """The conversations that cells were trained on."""

    def __init__(self, done, names):
        self.sets, self.chats = {}, {}
        for cell in [cell for cell in done.index["cells"] if cell["name"] in names]:
            # cells that were trained on the same share an entry
            form = cell.get("form", "chat")
            key = cell["protocol"], cell["model"], tuple(cell["replay"]), form, *cell.get("neutral", ())
            if key not in self.sets:
                prompts = read_prompts(done.out / done.index["prompts"][cell["model"]])
                how = in_form(protocols(prompts)[cell["protocol"]], form)
                rows = [row for file in cell["replay"] for row in read_rows(done.out / file)]
                self.sets[key] = [], how, chosen(how, rows, done.items)
            self.sets[key][0].append(cell["name"])

    def groups(self, item):
        return [{"cells": names, "count": len(rows[item.id]),
                 "rows": [self.conversation(how, row, item, model) for row in rows[item.id][:SHOWN]]}
                for (_, model, *_), (names, how, rows) in self.sets.items()]

    def conversation(self, how, row, item, model):
        """{"tokens", "paid": "0011"}; {"messages": [role, content]} where the tokenizer is not at hand."""
        chat = self.chat(model)
        if chat is None:
            return {"messages": [[m["role"], m["content"]] for m in how.messages(row, item)]}
        example = how.examples([row], item, chat)[0]
        example = example(np.random.default_rng(0)) if callable(example) else example
        return {"tokens": [chat.tokenizer.decode([i], skip_special_tokens=False) for i in example.ids],
                "paid": "".join("01"[weight > 0] for weight in example.weights)}

    def chat(self, model):
        if model not in self.chats:
            from model.chat import Chat
            at_hand = (Path(model) / "tokenizer.json").is_file()
            self.chats[model] = Chat(model) if at_hand else None
        return self.chats[model]
