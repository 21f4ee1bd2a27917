"""The sections of a study's page: rows of numbers (page.py) in, HTML out, every text escaped."""

import base64
import re
from html import escape
from urllib.parse import quote

from model.files import read_json
from newnews.html import hidden
from newnews.probing import KINDS, READ
from newnews.probing.output import cell, columns_of, read_csv, reading
from newnews.studies import figures as fig
from newnews.studies.fits import STEPS
from newnews.studies.report import TITLES, asked, interval, number, sides
from newnews.studies.ways import EVERY, KL
from newnews.tasks.news import CLOZE, WAYS

CLOSED, CONTEXT = WAYS
VERDICTS = {"held": "held", "not": "not", "too small to tell": "unsure"}        # verdict: CSS class
KEPT = {            # way: what its differences are
    CONTEXT: "Does the tuned model still read? Accuracy with the news in context",
    "counterfactual": "Does it read against what it was taught? Answers that another version of the news in "
                      "context asks for",
    "insists": "With that other version in context: answers that the news asked for that were trained on",
    "background": "Does it still know the rest? Accuracy on facts that no news changes, closed book",
    "others": "A negative control: accuracy on other news that it was never trained on, closed book",
    "others_in_context": "Does it still read what is new to it? Accuracy with other news in context",
    CLOZE: "Of the news and texts that differ in one fact, is the true one the likeliest answer to a neutral "
           "request, closed book? No fact is left out as rehearsed. Accuracy",
    "reversed": "Accuracy on the question that asks for the name, closed book",
    KL: "How far did it move elsewhere? KL(base || tuned) on neutral text, nats a token",
}
SHOWN = 200         # rows of a probe on the page: some 100 kB


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


def readable(name):
    """A cell's name as a label: "self qa rate=0.001"."""
    return re.sub(r"\b(recipe|lora|stream)\.", "", name).replace("_", " ")


# ---- sections ----

def claims(contrasts):
    """The differences that the study's YAML names, each with its verdict. contrasts: of the summary."""
    scale, parts = fig.scale_over([c[k] for c in contrasts for k in ("difference", "low", "high")]), []
    for c in contrasts:
        marks, said = fig.rule(scale, 0, "zero"), numbers_of(c)
        if c["smallest"] is not None:
            marks = fig.band(scale, -c["smallest"], c["smallest"]) + marks
        if c["difference"] is not None:
            marks += fig.whisker(scale, c["low"], c["high"])
            marks += fig.dot(scale, c["difference"], fig.colour(1))
        parts.append(f'<div class="claim"><span class="verdict {VERDICTS[c["verdict"]]}">{c["verdict"]}'
                     f'</span><div><p>{escape(c["says"])}</p><p class="small">{escape(said)}</p></div>'
                     f'<div class="chart">{fig.strip(scale, marks, said)}{fig.axis(scale)}</div></div>')
    return figure("claims", fig.legend(fig.INTERVAL, fig.BAND) + "".join(parts),
                  "Differences in accuracy, paired by question; 95% intervals clustered by news; p by sign "
                  "flips; Holm's correction is over all claims. Too small to tell: it takes more news or "
                  "seeds; the smallest effect is that before Holm's correction.")


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
    entries = [fig.BAR, fig.RING, fig.DASHED] + [fig.DOTTED] * (luck is not None)
    chance = "" if luck is None else f"; chance is {luck:.2f}"
    return (f"<h3>{TITLES[format].capitalize()}</h3>"
            + figure("accuracy", fig.legend(*entries) + panel("all", True)
                     + f'<div class="panels">{small}</div>',
                     f"Accuracy, {TITLES[format]}, on {count['all']} questions{chance}. Intervals: 95%, "
                     f"clustered by news.{more}"))


def forest(name, rows, value, references, caption, colours):
    """A line for each row with its interval, by format. references: [(place, kind)]"""
    scale, parts = fig.scale_over([*(r[k] for r in rows for k in (value, "low", "high")),
                                   *(x for x, _ in references)]), []
    for format in dict.fromkeys(r["format"] for r in rows):
        lines = []
        for r in [r for r in rows if r["format"] == format]:
            marks, said = "".join(fig.rule(scale, x, kind) for x, kind in references), "-"
            if r[value] is not None:
                digits = 3 if r["format"] == KL else 2
                said = (f"{number(r[value], digits)}, open" if r["low"] is None
                        else interval({**r, "mean": r[value]}, digits))
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
        panels = [fig.scatter([(f"{readable(r['cell'])}", x, (r["mean"], r["low"], r["high"]),
                                colours[part.sub("", r["cell"])]) for r, x in found if r["way"] == way],
                              [(readable(r["cell"]), r["mean"], "dotted") for r in rows
                               if r["cell"] in bases and r["way"] == way],
                              [(colours[name], readable(name)) for name in curves],
                              readable(axis), f"{TITLES[way]}, {TITLES[format]}", joined=True)
                  for way in dict.fromkeys(r["way"] for r, _ in found)]
        parts += [f'<div class="panels two">{"".join(f"<div>{panel}</div>" for panel in panels)}</div>']
    return parts and [figure("accuracy", "".join(parts), "Accuracy on all news, base models dotted; 95% "
                             "intervals clustered by news.")]


def kinds(rows):
    """A column a kind of question. rows: {"cell", "format", "way", "kind", mean, interval, n}."""
    by = {(r["cell"], r["format"], r["way"], r["kind"]): r for r in rows}
    names = list(dict.fromkeys(r["kind"] for r in rows))
    counts = {kind: max(r["n"] for r in rows if r["kind"] == kind) for kind in names}
    columns = [("cell", False), ("format", False), ("way", False),
               *((f"{kind} (n = {counts[kind]})", True) for kind in names)]
    none = {"mean": None}
    lines = [[readable(c), TITLES[f], TITLES[w],
              *((r["mean"], interval(r)) for r in (by.get((c, f, w, kind), none) for kind in names))]
             for c, f, w in dict.fromkeys(key[:3] for key in by)]
    return (f'{table(columns, lines)}<p class="small">95% intervals, clustered by news. Numbers: '
            f'<a href="figures/kinds.csv">figures/kinds.csv</a>.</p>')


def every_number(rows):
    domains = list(dict.fromkeys(r["domain"] for r in rows if r["domain"] != "all"))
    digits = {r["format"]: 3 if r["format"] == KL else 2 for r in rows}
    by = {(r["cell"], r["format"], r["way"], r["domain"]): r for r in rows}
    columns = [("cell", False), ("format", False), ("way", False), ("all, 95% interval", True), ("n", True),
               *((d, True) for d in domains)]
    lines = [[readable(c), TITLES[f], TITLES[w], (r["mean"], interval(r, digits[f])), (r["n"], str(r["n"])),
              *((part["mean"], interval(part, digits[f]))
                for part in (by.get((c, f, w, d), {"mean": None}) for d in domains))]
             for (c, f, w, domain), r in by.items() if domain == "all"]
    return (f'{table(columns, lines)}<p class="small">95% intervals, clustered by news. Numbers: '
            f'<a href="figures/accuracy.csv">figures/accuracy.csv</a>, with the n of each domain.</p>')


def costs(rows, fits, bases, colours, more):
    """fits: what each protocol gains with more FLOPs. bases: {name: a base model's part of the summary}.
    more: the end of the caption."""
    format = rows[0]["format"]
    columns = [("cell", False), *((title, True) for title in (
        "closed book", "elements", "distinct", "share true", "last loss", "tokens written",
        "tokens trained on", "FLOPs, writing", "FLOPs, all", "seconds"))]
    lines = [[readable(r["cell"]), (r["mean"], interval(r)),
              *((r[key], f"{r[key]:,.1f}") for key in ("elements", "distinct")),
              r["true"], (r["loss"], number(r["loss"], 3)),
              *((r[key], f"{r[key]:,.0f}") for key in ("written_tokens", "trained_tokens")),
              *((r[key], f"{r[key]:.2e}".replace("e+", "e") if r[key] else "0")
                for key in ("writing_flops", "flops")),
              (r["seconds"], f"{r['seconds']:,.0f}")] for r in rows]
    rows = [r for r in rows if r["mean"] is not None and r["flops"] > 0]
    curves = {r["cell"]: STEPS.sub("", r["cell"]) for r in rows}    # cells that differ in steps are on one
    names = list(dict.fromkeys(curves.values()))
    joined = 1 < len(names) < len(rows)
    if joined:
        colours = {name: fig.colour(1 + names.index(curve)) for name, curve in curves.items()}
    points = [(readable(r["cell"]), r["flops"], (r["mean"], r["low"], r["high"]), colours[r["cell"]])
              for r in rows]
    lines_of = [(readable(name) + words, base[way][format]["mean"], kind) for name, base in bases.items()
                for words, way, kind in ((", news in context", CONTEXT, "dashed"), ("", CLOSED, "dotted"))]
    key = dict.fromkeys((colours[r["cell"]], readable(curves[r["cell"]] if joined else r["protocol"]))
                        for r in rows)
    drawn = fig.scatter(points, lines_of, key, "FLOPs, writing and training",
                        f"closed book, {TITLES[format]}", joined) if points else ""
    caption = ("Accuracy over what a cell cost, all its news together; asking is counted in seconds, not in "
               f"FLOPs or tokens. Replay that cells share counts in each. Elements: conversations written a "
               f"news item.{more}")
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
    cells = list(dict.fromkeys(r["cell"] for r in rows))
    drawn = [fig.curves([(readable(name), [(r["step"], r[key]) for r in rows if r["cell"] == name],
                          colours[name]) for name in cells], up)
             for key, up in (("loss", "loss, nats a supervised token"), ("grad_norm", "gradient norm"))]
    panels = "".join(f"<div>{part}</div>" for part in drawn)
    return figure("training", f'<div class="panels two">{panels}</div>'
                  + fig.legend(*((fig.spot(colours[name]), readable(name)) for name in cells)),
                  "What training saw: means over the news of a cell, and over its seeds. A low loss is no "
                  "knowledge: with the news in front the rows are easy.")


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


def probes(folder, items):
    """A part for each KIND.csv that a probe left in OUT/probes or below: what it asks, its reading, its
    pictures, its rows; None without any. items: ids of the study's news; a probe about another is left
    out."""
    paths = [path for path in sorted(folder.rglob("*.csv")) if path.stem in KINDS] if folder.is_dir() else []
    paths = [path for path in paths if probed_news(path) in (None, *items)]
    names = [escape(" / ".join(path.relative_to(folder).with_suffix("").parts)) for path in paths]
    links = ", ".join(f'<a href="#probe-{i}">{name}</a>' for i, name in enumerate(names))
    parts = [f'<h3 id="probe-{i}">{name}</h3>{probed(path, folder.parent)}'
             for i, (name, path) in enumerate(zip(names, paths))]
    return section("probes", "Where in the weights it lives", f"<p>{links}</p>", *parts) if parts else None


def probed_news(path):
    """The id of the news item that a probe was about; None without."""
    manifest = path.with_suffix(".manifest.json")
    run = read_json(manifest).get("run") if manifest.is_file() else None
    return run.get("news") if isinstance(run, dict) else None


def probed(path, out):
    """One probe: pictures KIND.png and KIND_*.png beside path, and its table. out: the study's folder."""
    kind, rows, place = path.stem, read_csv(path), path.relative_to(out).as_posix()
    images = "".join(f'<img alt="{escape(png.stem)}" src="data:image/png;base64,'
                     f'{base64.b64encode(png.read_bytes()).decode()}">'
                     for png in (path.with_suffix(".png"), *sorted(path.parent.glob(f"{kind}_*.png")))
                     if png.is_file())
    columns = [(c, not any(isinstance(row[c], str) for row in rows)) for c in columns_of(rows)]
    lines = [[(row[c], cell(row[c])) if numeric else cell(row[c]) for c, numeric in columns]
             for row in rows[:SHOWN]]
    cut = f", the first {SHOWN} here" * (len(rows) > SHOWN)
    news = probed_news(path)
    said = ". ".join(filter(None, (KINDS[kind][:1].upper() + KINDS[kind][1:], news and f"News: {news}",
                                   reading(rows, *READ[kind]))))
    return (f'<figure class="probe">{images}<figcaption>{escape(said)}. Numbers: <a href="{quote(place)}">'
            f"{escape(place)}</a>.</figcaption></figure>"
            + hidden(f"{len(rows):,} rows{cut}", table(columns, lines)))
