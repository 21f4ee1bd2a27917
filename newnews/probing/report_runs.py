"""The kinds that compare runs: rows, table and picture of lens, patch, context and shadow.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

from dataclasses import replace

from newnews.examples import Example
from newnews.finetune import read_conversations
from newnews.probing import context, lens, output, patch, shadow
from newnews.probing.asked import asked
from newnews.probing.updates import random_twin
from newnews.protocols.base import Protocol, conversation
from newnews.protocols.shadow import Shadowed

ELEMENTS = 4        # replay elements that shadow reads; each token takes one backward pass


def null(label, here):
    """The name of a reading in a figure: all but the first update are nulls."""
    return label if label == next(iter(here.updates)) or label.startswith("null") else f"null: {label}"


def both(here):
    """(closed book, in context)"""
    here.need_item()
    return [asked(here.chat, here.prompts, here.item, way, here.device) for way in (False, True)]


def run_lens(here):
    closed, read = both(here)
    labels = here.mount()
    runs = {"base, closed book": (closed, -1), "base, in context": (read, -1)}
    runs |= {f"{null(label, here)}, closed book": (closed, k) for k, label in enumerate(labels)}
    rows = lens.rows(here.model, runs, here.layers)
    panels = [(f"{key} at {site}", {run: [(r["layer"], r[key]) for r in rows if (r["run"], r["site"]) == (run, site)]
                                    for run in runs})
              for key in ("logprob", "rank") for site in ("last", "subject", "question", "news")
              if any(r["site"] == site for r in rows)]
    shown = [r for r in rows if r["site"] in ("last", "subject")]
    return rows, output.table(shown, limit=60), lambda path: output.draw_curves(path, panels)


def run_patch(here):
    closed, read = both(here)
    labels = here.mount()
    name, twin = labels[0], len(labels) - 1
    pairs = {"base in context -> base closed": ((closed, -1), (read, -1)),
             f"{name} closed -> base closed": ((closed, -1), (closed, 0)),
             f"base in context -> {name} closed": ((closed, 0), (read, -1)),
             "null: random twin -> base closed": ((closed, -1), (closed, twin))}
    pairs |= {f"null: {label} -> base closed": ((closed, -1), (closed, k))
              for k, label in enumerate(labels[1:-1], 1)}
    rows = patch.rows(here.model, pairs, here.layers)
    # the share is of the pair's own effect, which for a null may be nothing: maps show nats
    rows = [{**row, "gain": row["log_odds"] - row["recipient"]} for row in rows]
    panels = []
    for pair in pairs:
        some = [{**r, "what": f"{r['output']} {r['site']}"} for r in rows if r["pair"] == pair]
        panels.append((pair, *output.pivot(some, "what", "layer", "gain")))
    best = [max((r for r in rows if (r["pair"], r["output"], r["site"]) == (pair, kind, site)),
                key=lambda r: abs(r["gain"])) for pair in pairs for kind in patch.OUTPUTS for site in patch.SITES]
    text = "the layer with the largest effect (all layers are in the CSV)\n" + output.table(best, limit=60)
    return rows, text, lambda path: output.draw_maps(path, panels)


def run_context(here):
    closed, read = both(here)
    contexts = {"news": context.context_patches(here.model, closed, read, here.layers)}
    if here.others:
        # the null of reading: another news item before the same questions
        other = replace(here.item, statement=here.others[0].statement, subject="", worlds=[], world=0)
        before = asked(here.chat, here.prompts, other, True, here.device)
        contexts["null: another news"] = context.context_patches(here.model, closed, before, here.layers)
    updates = {null(label, here): update for label, update in here.updates.items()}
    rows = context.rows(contexts, {**updates, "null: random twin": random_twin(here.first)})
    means = {}
    for row in rows:
        means.setdefault((row["context"], row["update"], row["module"]), []).append(row)
    summary = [{"context": c, "update": u, "module": m}
               | {key: sum(r[key] for r in some) / len(some) for key in ("cosine", "columns", "rows", "effect")}
               for (c, u, m), some in means.items()]
    panels = []
    for key in ("cosine", "effect"):
        for module in context.MODULES:
            curves = {}
            for r in rows:
                if r["module"] == module:
                    label = r["update"] if r["context"] == "news" else f"null: another news, {r['update']}"
                    if r["context"] == "news" or not r["update"].startswith("null"):
                        curves.setdefault(label, []).append((r["layer"], r[key]))
            panels.append((f"{key}, {module}", curves))
    return rows, "means over layers\n" + output.table(summary, limit=60), \
        lambda path: output.draw_curves(path, panels)


def run_shadow(here):
    here.need_item()
    if here.replay is None:     # the item's own questions, as if they had been rehearsed
        messages = [conversation(q.ask, q.right) for q in here.item.questions]
    else:
        messages = [row["messages"] for row in read_conversations(here.replay)
                    if row.get("news", here.item.id) == here.item.id]
    if not messages:
        raise ValueError(f"{here.replay or here.item.id}: no replay elements about {here.item.id}")
    front = Shadowed(Protocol(here.prompts))
    elements = []
    for one in messages[:ELEMENTS]:
        forms = (one, front.messages({"messages": one}, here.item))
        elements.append(tuple(Example(*here.chat.conversation(form)) for form in forms))
    labels = here.mount()
    updates = {null(label, here): update for label, update in zip(labels, [*here.updates.values(),
                                                                           random_twin(here.first)])}
    rows = shadow.rows(here.model, here.chat, elements, updates)
    whole = [row for row in rows if row["place"] == "all"]
    keys = ["loss", "norm", *(f"cosine {label}" for label in updates)]
    means = [{"news": news, **{key: sum(r[key] for r in whole if r["news"] == news) / len(elements)
                               for key in keys}} for news in ("without", "with")]
    tokens = {news: [r for r in rows if r["news"] == news and r["place"] != "all"] for news in ("without", "with")}
    panels = [(key, {f"{news} the news": [(i, r[key]) for i, r in enumerate(some)] for news, some in tokens.items()})
              for key in keys]
    text = (f"{len(elements)} replay elements, each whole, mean\n{output.table(means)}\n\nby token\n"
            + output.table(tokens["without"] + tokens["with"],
                           ["element", "news", "place", "token", *keys[:3]], 24))
    return rows, text, lambda path: output.draw_curves(path, panels, "supervised token")
