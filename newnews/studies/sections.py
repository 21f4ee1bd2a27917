"""The sections of a study's page: rows of numbers (page.py) in, HTML out, every text escaped."""

import re
from html import escape

from newnews.html import hidden
from newnews.studies import figures as fig
from newnews.studies.contrasts import SIZE
from newnews.studies.fits import STEPS
from newnews.studies.report import TITLES, asked, interval, number, readable, sides
from newnews.studies.ways import EVERY, KL
from newnews.tasks.news import CLOZE, WAYS

CLOSED, CONTEXT = WAYS
VERDICTS = {"held": "held", "not": "not", "too small to tell": "unsure"}        # verdict: CSS class
KEPT = {            # way: what its differences are
    CONTEXT: "Does the tuned model still read? Accuracy with the news in context",
    "counterfactual": "Does it read against what it was taught? With another version of the news in context: "
                      "how often it answers what that text says",
    "insists": "With that other version in context: how often it answers what it was trained on instead",
    "background": "Does it still know the rest? Accuracy on facts that no news changes, closed book",
    "others": "A negative control: accuracy on other news that it was never trained on, closed book",
    "others_in_context": "Does it still read what is new to it? Accuracy with other news in context",
    CLOZE: "Of the news and texts that differ in one fact, is the true one the likeliest answer to a neutral "
           "request, closed book? No fact is left out as rehearsed. Accuracy",
    "reversed": "Accuracy on the question that asks for the name, closed book",
    KL: "How far did it move elsewhere? KL(base || tuned) on neutral text, nats a token",
}
PANELS = 8          # cells in the panels of single domains; more are hidden until a click


# ---- parts ----

def table(columns, rows):
    """A table that sorts. columns: [(title, is it a number)]; a number may be (number, text)."""
    def data(value, numeric):
        if not numeric:
            return f"<td>{escape(str(value))}</td>"
        value, text = value if isinstance(value, tuple) else (value, number(value))
        return f'<td class="number" data-value="{"" if value is None else value}">{escape(text)}</td>'

    kinds = [' class="number"' * numeric for _, numeric in columns]
    head = "".join(f'<th scope="col"{kind}><button type="button">{escape(title)}</button></th>'
                   for (title, _), kind in zip(columns, kinds))
    body = "".join(f"<tr>{''.join(data(value, numeric) for value, (_, numeric) in zip(row, columns))}</tr>"
                   for row in rows)
    return (f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            f"</div>")


def figure(name, body, caption):
    return (f"<figure>{body}<figcaption>{caption} Numbers: "
            f'<a href="figures/{name}.csv">figures/{name}.csv</a>.</figcaption></figure>')


def section(id, title, *parts):
    return id, title, f'<section><h2 id="{id}">{escape(title)}</h2>{"".join(parts)}</section>'


def by_asking(rows, line, columns):
    """A table for each format and way of asking. line(row): its cells; columns: of `table`."""
    keys = dict.fromkeys((r["format"], r["way"]) for r in rows)
    return "".join(f"<h4>{escape(titled(f, w))}</h4>"
                   + table(columns, [line(r) for r in rows if (r["format"], r["way"]) == (f, w)])
                   for f, w in keys)


def titled(format, way):
    """A way of asking in words: "Free form, closed book"."""
    words = ", ".join(dict.fromkeys((TITLES[format], TITLES[way])))
    return words[:1].upper() + words[1:]


def apart(names, colours):
    """{name: a colour of its own}: that of its protocol, where no other cell has it."""
    mine = [colours[name] for name in names]
    return {name: shade if len(set(mine)) == len(mine) else fig.colour(i)
            for i, (name, shade) in enumerate(zip(names, mine), 1)}


# ---- sections ----

def claims(contrasts):
    """The differences that the study's YAML names, each with its verdict. contrasts: of the summary."""
    scale, parts = fig.scale_over([c[k] for c in contrasts for k in ("difference", "low", "high")]), []
    for c in contrasts:
        marks, said = fig.rule(scale, 0, "zero"), numbers_of(c)
        if c["direction"] == "=":
            marks = fig.band(scale, -SIZE, SIZE) + marks
        if c["difference"] is not None:
            marks += fig.whisker(scale, c["low"], c["high"])
            marks += fig.dot(scale, c["difference"], fig.colour(1))
        parts.append(f'<div class="claim"><span class="verdict {VERDICTS[c["verdict"]]}">{c["verdict"]}'
                     f'</span><div><p>{escape(c["says"])}</p><p class="small">{escape(said)}</p></div>'
                     f'<div class="chart">{fig.strip(scale, marks, said)}{fig.axis(scale)}</div></div>')
    same = any(c["direction"] == "=" for c in contrasts)
    return figure("claims", fig.legend(fig.INTERVAL, *[fig.BAND] * same) + "".join(parts),
                  f"Differences in accuracy, paired by question; 95% intervals clustered by news; p by sign "
                  f"flips; Holm's correction is over all claims. Held: Holm's p is under .05 and the "
                  f"interval lies on the claimed side of zero; a claim of no difference: the whole interval "
                  f"lies within {SIZE:g}. Not: the interval rules the claim out at a size of {SIZE:g}. Too "
                  f"small to tell: neither; more news or seeds are needed. The smallest effect is that "
                  f"before Holm's correction.")


def numbers_of(contrast):
    c = contrast
    a, b = (f"{readable(name)}, {TITLES[last]}" if last in EVERY else readable(name + dot + last)
            for name, dot, last in (side.rpartition(".") for side in sides(c)))
    parts = [f"{a} minus {b} ({asked(c)}): "
             + interval({"mean": c["difference"], "low": c["low"], "high": c["high"]})]
    parts += [f"{words}\u00a0{float(f'{c[key]:.2g}'):.5f}".rstrip("0").rstrip(".") for key, words in (
        ("p", "p"), ("holm", "after Holm"), ("smallest", "smallest effect that it could see"))
        if c[key] is not None]
    if c["low"] is not None and c["smallest"] is None:
        parts.append("so few news cannot hold one of so many claims")
    return "; ".join([*parts, f"{c['n']} questions about {c['news']} news"])


def headline(groups, formats):
    columns = [("cell", False), *((title, True) for title in ("closed book", "in context", "gap recovered",
                                                              "n"))]
    made = []
    for f in formats:
        rows = [[readable(name), *((part["mean"], interval(part)) for part in
                                   (group[CLOSED][f], group[CONTEXT][f], group["recovered"][f])),
                 (group[CLOSED][f]["n"], str(group[CLOSED][f]["n"]))] for name, group in groups.items()]
        made.append(f"<div><h3>{TITLES[f].capitalize()}</h3>{table(columns, rows)}</div>")
    return ("<p>The study names no claims; these are its numbers.</p>"
            f'<div class="pair">{"".join(made)}</div>')


def accuracy(rows, base_of, luck, colours, more):
    """Closed book by cell with the rings of the same model in context; all news, then each domain. rows: of
    one format. luck: the share that guessing gets right, or None. more: the end of the caption."""
    format, mine = rows[0]["format"], {(r["cell"], r["way"], r["domain"]): r for r in rows}
    cells, domains = (list(dict.fromkeys(r[key] for r in rows)) for key in ("cell", "domain"))

    def panel(domain, wide):
        lines = []
        for name in cells:
            closed, read, base = (mine.get((cell, way, domain), {"mean": None}) for cell, way in (
                (name, CLOSED), (name, CONTEXT), (base_of[name], CONTEXT)))
            if closed["mean"] is None:
                continue
            marks = (fig.bar(closed["mean"], colours[name]) + fig.rule(fig.SHARES, base["mean"], "dashed")
                     + fig.rule(fig.SHARES, luck, "dotted")
                     + fig.whisker(fig.SHARES, closed["low"], closed["high"])
                     + fig.ring(fig.SHARES, read["mean"]))
            title = (f"{readable(name)}: closed book {interval(closed)}, n = {closed['n']}; "
                     f"in context {interval(read)}")
            value = interval(closed) if wide else number(closed["mean"])
            lines.append((readable(name), marks, value, title))
        return fig.chart(fig.SHARES, lines) if lines else '<p class="small">All questions were rehearsed.</p>'

    count = {d: max(r["n"] for r in rows if (r["way"], r["domain"]) == (CLOSED, d)) for d in domains}
    small = "".join(f"<div><h4>{escape(d)} (n = {count[d]})</h4>{panel(d, False)}</div>" for d in domains[1:])
    small = f'<div class="panels">{small}</div>'
    entries = [fig.BAR, fig.RING, fig.DASHED] + [fig.DOTTED] * (luck is not None)
    chance = "" if luck is None else f"; chance is {luck:.2f}"
    return (f"<h3>{TITLES[format].capitalize()}</h3>"
            + figure("accuracy", fig.legend(*entries) + panel("all", True)
                     + (hidden("Each domain", small) if len(cells) > 1 + PANELS else small),
                     f"Accuracy, {TITLES[format]}, on {count['all']} questions{chance}. Intervals: 95%, "
                     f"clustered by news.{more}"))


def forest(name, rows, value, references, caption, colours):
    """A line for each row with its interval, by format; a row that nothing bounds has no mark. references:
    [(place, kind)]"""
    bound = [r for r in rows if r["low"] is not None]
    scale, parts = fig.scale_over([*(r[k] for r in bound for k in (value, "low", "high")),
                                   *(x for x, _ in references)]), []
    for format in dict.fromkeys(r["format"] for r in rows):
        lines = []
        for r in [r for r in rows if r["format"] == format]:
            marks, said = "".join(fig.rule(scale, x, kind) for x, kind in references), "-"
            if r[value] is not None:
                said = interval({**r, "mean": r[value]}, 3 if r["format"] == KL else 2)
            if r["low"] is not None:
                marks += (fig.whisker(scale, r["low"], r["high"])
                          + fig.dot(scale, r[value], colours[r["cell"]]))
            lines.append((readable(r["cell"]), marks, said, f"{readable(r['cell'])}: {said}, n = {r['n']}"))
        counts = sorted({r["n"] for r in rows if r["format"] == format})
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        parts.append(f"<h4>{TITLES[format]} (n = {n})</h4>{fig.chart(scale, lines)}")
    return figure(name, "".join(parts), caption)


def along(rows, bases, format):
    """Accuracy against each number > 0 of which the cells have three values or more, a panel a way.
    rows: of all news; bases: the names of base models."""
    parts, rows = [], [r for r in rows if r["format"] in (format, CLOZE) and r["mean"] is not None]
    for axis in dict.fromkeys(key for r in rows for key in re.findall(r" (\S+)=", r["cell"])):
        part = re.compile(rf" {re.escape(axis)}=([0-9.e+-]+)(?= |$)")
        found = [(r, float(part.search(r["cell"])[1])) for r in rows if part.search(r["cell"])]
        if len({x for _, x in found}) < 3 or min(x for _, x in found) <= 0:
            continue
        curves = list(dict.fromkeys(part.sub("", r["cell"]) for r, _ in found))
        colours = {name: fig.colour(i) for i, name in enumerate(curves, 1)}
        values = sorted({x for _, x in found})
        panels = [fig.scatter([(f"{readable(r['cell'])}", x, (r["mean"], r["low"], r["high"]),
                                colours[part.sub("", r["cell"])]) for r, x in found if r["way"] == way],
                              [(readable(r["cell"]), r["mean"], "dotted") for r in rows
                               if r["cell"] in bases and r["way"] == way],
                              [(colours[name], readable(name)) for name in curves],
                              axis.rpartition(".")[2], f"{TITLES[way]}, {TITLES[format]}", True,
                              values if len(values) < 8 else ())
                  for way in dict.fromkeys(r["way"] for r, _ in found)]
        parts += [f'<div class="panels two">{"".join(f"<div>{panel}</div>" for panel in panels)}</div>']
    return parts and [figure("accuracy", "".join(parts), "Accuracy on all news, base models dotted; 95% "
                             "intervals clustered by news.")]


def kinds(rows):
    """A column a kind of question. rows: {"cell", "format", "way", "kind", mean, interval, n}."""
    by = {(r["cell"], r["format"], r["way"], r["kind"]): r for r in rows}
    names = list(dict.fromkeys(r["kind"] for r in rows))
    counts = {kind: max(r["n"] for r in rows if r["kind"] == kind) for kind in names}
    lines = [dict(zip(("cell", "format", "way"), key)) for key in dict.fromkeys(key[:3] for key in by)]
    none = {"mean": None}

    def line(r):
        found = [by.get((*r.values(), kind), none) for kind in names]
        return [readable(r["cell"]), *((part["mean"], interval(part)) for part in found)]

    tables = by_asking(lines, line, [("cell", False), *((f"{k} (n = {counts[k]})", True) for k in names)])
    return (f'{tables}<p class="small">95% intervals, clustered by news. Numbers: '
            f'<a href="figures/kinds.csv">figures/kinds.csv</a>.</p>')


def every_number(rows, groups):
    """rows: of groups of seeds, named in `groups`, and of single seeds, which a click shows."""
    domains = list(dict.fromkeys(r["domain"] for r in rows if r["domain"] != "all"))
    digits = {r["format"]: 3 if r["format"] == KL else 2 for r in rows}
    by = {(r["cell"], r["format"], r["way"], r["domain"]): r for r in rows}
    columns = [("cell", False), ("all, 95% interval", True), ("n", True), *((d, True) for d in domains)]

    def line(r):
        parts = [by.get((r["cell"], r["format"], r["way"], d), {"mean": None}) for d in domains]
        return [readable(r["cell"]), (r["mean"], interval(r, digits[r["format"]])), (r["n"], str(r["n"])),
                *((part["mean"], interval(part, digits[r["format"]])) for part in parts)]

    mine, single = [[r for r in rows if r["domain"] == "all" and (r["cell"] in groups) == pooled]
                    for pooled in (True, False)]
    return (by_asking(mine, line, columns)
            + (hidden("Each seed", by_asking(single, line, columns)) if single else "")
            + '<p class="small">95% intervals, clustered by news. Numbers: '
            '<a href="figures/accuracy.csv">figures/accuracy.csv</a>, with the n of each domain.</p>')


def costs(rows, fits, bases, colours, more):
    """fits: what each protocol gains with more FLOPs. bases: {name: a base model's part of the summary}.
    more: the end of the caption."""
    format = rows[0]["format"]
    columns = [("cell", False), *((title, True) for title in (
        "closed book", "elements", "distinct", "true of the written", "last loss", "tokens written",
        "tokens trained on", "FLOPs, writing", "FLOPs, all", "seconds, all news"))]
    lines = [[readable(r["cell"]), (r["mean"], interval(r)),
              *((r[key], f"{r[key]:,.1f}") for key in ("elements", "distinct")),
              r["true"], (r["loss"], "-" if r["loss"] is None else f"{r['loss']:.2g}"),
              *((r[key], f"{r[key]:,.0f}") for key in ("written_tokens", "trained_tokens")),
              *((r[key], f"{r[key]:.2e}".replace("e+", "e") if r[key] else "0")
                for key in ("writing_flops", "flops")),
              (r["seconds"], f"{r['seconds']:,.0f}")] for r in rows]
    rows = [r for r in rows if r["mean"] is not None and r["flops"] > 0]
    curves = {r["cell"]: STEPS.sub("", r["cell"]) for r in rows}    # cells that differ in steps are on one
    names = list(dict.fromkeys(curves.values()))
    joined = 1 < len(names) < len(rows)
    shade = apart([r["cell"] for r in rows], colours)
    if joined:
        shade = {name: fig.colour(1 + names.index(curve)) for name, curve in curves.items()}
    points = [(readable(r["cell"]), r["flops"], (r["mean"], r["low"], r["high"]), shade[r["cell"]])
              for r in rows]
    lines_of = [(readable(name) + words, base[way][format]["mean"], kind) for name, base in bases.items()
                for words, way, kind in ((", news in context", CONTEXT, "dashed"), ("", CLOSED, "dotted"))]
    key = dict.fromkeys((shade[r["cell"]], readable(curves[r["cell"]] if joined else r["cell"]))
                        for r in rows)
    drawn = fig.scatter(points, lines_of, key, "FLOPs a news item, writing and training",
                        f"closed book, {TITLES[format]}", joined) if points else ""
    caption = ("Accuracy over what a news item cost; asking is counted in seconds, those of all news, not in "
               f"FLOPs or tokens. Replay that cells share counts in each. Elements: conversations written."
               f"{more}")
    found = [[readable(r["protocol"]), TITLES[r["format"]], readable(r["what"]),
              (r["value"], interval({**r, "mean": r["value"]}, 3)),
              (r["p"], "< 0.0001" if r["p"] is not None and r["p"] < 5e-5 else number(r["p"], 4)),
              (r["n"], str(r["n"])), (r["cells"], str(r["cells"]))] for r in fits]
    titles = ("closed book", "p", "n", "cells")
    fitted = ('<p class="small">Straight lines over the logarithm of FLOPs, fitted to each question, with '
              '95% intervals for other news. Cells that differ in steps alone are one curve; one that lies '
              'above another at equal FLOPs is no part of it. Numbers: <a href="figures/fits.csv">'
              'figures/fits.csv</a>. The last loss of training should not tell it.</p>'
              + table([("protocol", False), ("format", False), ("what", False),
                       *((title, True) for title in titles)], found))
    return figure("costs", drawn, caption) + table(columns, lines) + fitted * bool(fits)


def training(rows, colours):
    """rows: {"cell", "step", "loss", "grad_norm"}; the loss and the gradient's norm over training."""
    last = {r["cell"]: r["step"] for r in rows}
    longest = {STEPS.sub("", name): name for name in sorted(last, key=last.get)}
    cells = [name for name in last if name in longest.values()]
    shade = apart(cells, colours)
    drawn = [fig.curves([(readable(name), [(r["step"], r[key]) for r in rows if r["cell"] == name],
                          shade[name]) for name in cells], up)
             for key, up in (("loss", "loss, nats a supervised token"), ("grad_norm", "gradient norm"))]
    panels = "".join(f"<div>{part}</div>" for part in drawn)
    return figure("training", f'<div class="panels two">{panels}</div>'
                  + fig.legend(*((fig.spot(shade[name]), readable(name)) for name in cells)),
                  "What training saw: means over the news of a cell, and over its seeds"
                  + "; of cells that differ in steps alone the longest" * (len(cells) < len(last))
                  + ". A low loss is no knowledge: with the news in front the rows are easy.")


def walk(data, total, best, seeds):
    """best: the cell to begin with. data: newnews/studies/walk.py."""
    shown = len(data["news"])
    news = "".join(f'<option value="{i}">{escape(n["headline"] or n["id"])} ({escape(n["domain"])})</option>'
                   for i, n in enumerate(data["news"]))
    cells = "".join(f'<option value="{i}"{" selected" * (c["name"] == best)}>{escape(readable(c["name"]))}'
                    f"</option>" for i, c in enumerate(data["cells"]) if c["base"] != i)
    words = f"All {total} news." if shown == total else (
        f"{shown} of {total} news, the domains in turn, to keep this page small; "
        f"<code>python -m newnews answers</code> shows every question.")
    words += " Of several seeds the first." * (seeds > 1)
    return section("walk", "Walk a news item",
                   f"<p>{words} “+ news” means that it stands in the context. Bars go from "
                   f"the question's lowest log-probability (between -25 and -1) to 0, which is "
                   f"certainty; the model's pick is bold.</p>"
                   f'<div class="choose"><label>News <select id="walk-news">{news}</select></label>'
                   f'<label>After <select id="walk-cell">{cells}</select></label></div><div id="walk-here">'
                   f"<noscript>This part needs the page's own script.</noscript></div>")
