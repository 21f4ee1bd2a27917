"""The sections of a study's page: rows of numbers (page.py) in, HTML out, every text escaped."""

import base64
from html import escape

from newnews.studies import figures as fig
from newnews.studies.report import TITLES, interval, number
from newnews.tasks.news import WAYS

CLOSED, CONTEXT = WAYS
VERDICTS = {"held": "held", "not": "not", "too small to tell": "unsure"}        # verdict: CSS class
PROBES = {      # newnews/probing writes KIND.csv and KIND.png
    "spectrum": "How much of each matrix's update its largest directions hold.",
    "compare": "How alike two updates are, matrix by matrix.",
    "readout": "What the update says by itself, amplified.",
    "gate": "What is left of the answers when a part of the update is switched off, or works alone.",
    "transplant": "The update scaled, cut to fewer directions, averaged and added to others.",
    "lens": "The answer's log-probability and rank, read from the residual stream after each layer.",
    "patch": "Activations of one run put into another: where the answer is carried.",
    "context": "The update beside the change of weights that reading the news amounts to.",
    "shadow": "Loss and gradient on the replay's tokens, with and without the news in front."}


# ---- parts ----

def table(columns, rows):
    """A table that sorts. columns: [(title, is it a number)]; rows: lists of texts, numbers or (number, text)."""
    def cell(value, numeric):
        if not numeric:
            return f"<td>{escape(str(value))}</td>"
        value, text = value if isinstance(value, tuple) else (value, number(value))
        return f'<td class="number" data-value="{"" if value is None else value}">{escape(text)}</td>'

    head = "".join(f'<th scope="col"{" class=" + chr(34) + "number" + chr(34) if numeric else ""}>'
                   f'<button type="button">{escape(title)}</button></th>' for title, numeric in columns)
    body = "".join(f"<tr>{''.join(cell(v, numeric) for v, (_, numeric) in zip(row, columns))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(name, body, caption):
    return (f"<figure>{body}<figcaption>{caption} Numbers: "
            f'<a href="figures/{name}.csv">figures/{name}.csv</a>.</figcaption></figure>')


def section(id, title, *parts):
    return id, title, f'<section><h2 id="{id}">{escape(title)}</h2>{"".join(parts)}</section>'


def readable(name):
    return name.replace("_", " ")


# ---- sections ----

def claims(contrasts):
    scale = fig.scale_over([c[k] for c in contrasts for k in ("difference", "low", "high")])
    parts = []
    for c in contrasts:
        small, marks = c.get("smallest"), fig.rule(scale, 0, "zero")
        if small is not None:
            left, right = (float(scale.at(x)[:-1]) for x in (-small, small))
            marks = f'<rect class="band" x="{left}%" width="{right - left:.2f}%" height="100%"/>' + marks
        if c["difference"] is not None:
            marks += fig.whisker(scale, c["low"], c["high"]) + fig.dot(scale, c["difference"], "var(--c1)")
        about = {"mean": c["difference"], "low": c["low"], "high": c["high"]}
        said = (f"{readable(c['a'])} minus {readable(c['b'])}, {TITLES.get(c['format'], c['format'])}, "
                f"{TITLES.get(c['way'], c['way'])}: {interval(about)}"
                + "".join(f"; {words} {c[key]:.2g}" for key, words in (("p", "p"), ("holm", "after Holm"))
                          if c.get(key) is not None)
                + (f"; smallest effect that it could see {small:.2f}" if small is not None else "")
                + (f"; n = {c['n']}" if c.get("n") is not None else ""))
        parts.append(f'<div class="claim"><span class="verdict {VERDICTS.get(c["verdict"], "unsure")}">'
                     f'{escape(c["verdict"])}</span><div><p>{escape(c.get("says") or c["name"])}</p>'
                     f'<p class="small">{escape(said)}</p></div><div class="chart">'
                     f"{fig.strip(scale, marks, said)}{fig.axis(scale)}</div></div>")
    return figure("claims", fig.legend(fig.LEGEND["interval"], fig.LEGEND["band"]) + "".join(parts),
                  "Differences in accuracy, paired by question, 95% intervals clustered by news; p values by sign "
                  "flips, Holm's correction over all claims.")


def headline(cells, formats):
    columns = [("cell", False), ("closed book", True), ("in context", True), ("gap recovered", True)]
    made = []
    for f in formats:
        rows = [[readable(name), *((part["mean"], interval(part)) for part in
                                   (cell[CLOSED][f], cell[CONTEXT][f], cell["recovered"][f]))]
                for name, cell in cells.items()]
        made.append(f"<div><h3>{TITLES[f].capitalize()}</h3>{table(columns, rows)}</div>")
    return ("<p>No contrasts were named before the run, so nothing is claimed here; these are the numbers.</p>"
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
            marks = (fig.bar(fig.SHARES, closed["mean"], colours[name])
                     + fig.rule(fig.SHARES, base["mean"], "dashed") + fig.rule(fig.SHARES, luck, "dotted")
                     + fig.whisker(fig.SHARES, closed["low"], closed["high"]) + fig.ring(fig.SHARES, read["mean"]))
            title = f"{readable(name)}: closed book {interval(closed)}, n = {closed['n']}; in context {interval(read)}"
            lines.append((readable(name), marks, interval(closed) if wide else number(closed["mean"]), title))
        return fig.chart(fig.SHARES, lines) if lines else '<p class="small">All questions were rehearsed.</p>'

    entries = ["bar", "ring", "dashed"] + ["dotted"] * (luck is not None)
    count = {d: max(r["n"] for (_, way, domain), r in mine.items() if (way, domain) == (CLOSED, d)) for d in domains}
    small = "".join(f"<div><h4>{escape(d)} (n = {count[d]})</h4>{panel(d, False)}</div>" for d in domains[1:])
    said = (f"Accuracy, {TITLES[format]}, on {count['all']} questions"
            + (f"; chance is {luck:.2f}" if luck is not None else "") + f". Intervals: 95%, clustered by news.{more}")
    return (f"<h3>{TITLES[format].capitalize()}</h3>"
            + figure("accuracy", fig.legend(*(fig.LEGEND[e] for e in entries)) + panel("all", True)
                     + f'<div class="panels">{small}</div>', said))


def forest(name, rows, value, references, caption, colours):
    """A line for each row with its interval, by format. references: [(place, kind)]"""
    scale = fig.scale_over([*(r[k] for r in rows for k in (value, "low", "high")), *(x for x, _ in references)])
    parts = []
    for format in dict.fromkeys(r["format"] for r in rows):
        lines = []
        for r in [r for r in rows if r["format"] == format]:
            marks, said = "".join(fig.rule(scale, x, kind) for x, kind in references), "-"
            if r[value] is not None:
                said = interval({**r, "mean": r[value]})
                said = f"{number(r[value])}, open" if r["low"] is None else said
                marks += fig.whisker(scale, r["low"], r["high"]) + fig.dot(scale, r[value], colours[r["cell"]])
            lines.append((readable(r["cell"]), marks, said, f"{readable(r['cell'])}: {said}"))
        parts.append(f"<h4>{TITLES[format]}</h4>{fig.chart(scale, lines)}")
    return figure(name, "".join(parts), caption)


def every_number(rows):
    domains = list(dict.fromkeys(r["domain"] for r in rows if r["domain"] != "all"))
    by = {(r["cell"], r["format"], r["way"], r["domain"]): r for r in rows}
    columns = [("cell", False), ("format", False), ("way", False), ("all, 95% interval", True), ("n", True),
               *((d, True) for d in domains)]
    lines = [[readable(c), TITLES[f], TITLES[w], (r["mean"], interval(r)), (r["n"], str(r["n"])),
              *(by.get((c, f, w, d), {"mean": None})["mean"] for d in domains)]
             for (c, f, w, domain), r in by.items() if domain == "all"]
    return table(columns, lines) + '<p class="small">Numbers: <a href="figures/accuracy.csv">figures/accuracy.csv' \
                                   "</a>, with the interval of each domain.</p>"


def costs(rows, base, colours, more):
    thousand, flops = lambda x: (x, f"{x:,.0f}"), lambda x: (x, f"{x:.2e}".replace("e+", "e") if x else "0")
    columns = [("cell", False), *((title, True) for title in (
        "closed book", "tokens written", "tokens trained on", "FLOPs, writing", "FLOPs, all", "seconds"))]
    lines = [[readable(r["cell"]), (r["mean"], interval(r)), thousand(r["written_tokens"]),
              thousand(r["trained_tokens"]), flops(r["writing_flops"]), flops(r["flops"]),
              (r["seconds"], f"{r['seconds']:,.0f}")] for r in rows]
    points = [(readable(r["cell"]), r["flops"], (r["mean"], r["low"], r["high"]), colours[r["cell"]])
              for r in rows if r["mean"] is not None and r["flops"] > 0]
    format = rows[0]["format"]
    drawn = fig.scatter(points, [("base, news in context", base[CONTEXT][format]["mean"], "dashed"),
                                 ("base", base[CLOSED][format]["mean"], "dotted")],
                        "FLOPs, writing and training", f"closed book, {TITLES[format]}") if points else ""
    return figure("costs", drawn, "Accuracy over what a cell cost, all its news together; asking is not counted. "
                                  f"Replay that cells share counts in each.{more}") + table(columns, lines)


def walk(data, total, best, seeds):
    """best: the cell to begin with. Data: newnews/studies/walk.py."""
    if not data["news"]:
        return None
    shown = len(data["news"])
    news = "".join(f'<option value="{i}">{escape(n["headline"] or n["id"])} ({escape(n["domain"])})</option>'
                   for i, n in enumerate(data["news"]))
    cells = "".join(f'<option value="{i}"{" selected" * (c["name"] == best)}>{escape(readable(c["name"]))}</option>'
                    for i, c in enumerate(data["cells"]) if c["base"] != i)
    words = f"All {total} news." if shown == total else (
        f"{shown} of {total} news, the domains in turn, to keep this page small; "
        f"<code>python -m newnews answers</code> shows every question.")
    words += " Of several seeds the first." * (seeds > 1)
    return section("walk", "Walk a news item",
                   f"<p>{words} Reading: with the news in context. Bars: from the lowest log-probability of the "
                   f"question to 0, which is certainty; the model's pick is bold.</p>"
                   f'<div class="choose"><label>News <select id="walk-news">{news}</select></label>'
                   f'<label>After <select id="walk-cell">{cells}</select></label></div><div id="walk-here">'
                   f"<noscript>This part needs the page's own script.</noscript></div>")


def probes(folder):
    """A figure for each PNG that newnews/probing left in OUT/probes."""
    parts = []
    for path in sorted(folder.rglob("*.png")) if folder.is_dir() else ():
        place, image = path.relative_to(folder.parent), base64.b64encode(path.read_bytes()).decode()
        csv = place.with_suffix(".csv")
        link = f' Numbers: <a href="{escape(str(csv))}">{escape(str(csv))}</a>.' * path.with_suffix(".csv").is_file()
        name = " / ".join(place.with_suffix("").parts[1:])
        parts.append(f'<h3>{escape(name)}</h3><figure class="probe"><img alt="{escape(name)}" '
                     f'src="data:image/png;base64,{image}"><figcaption>{PROBES.get(path.stem, "")}{link}'
                     f"</figcaption></figure>")
    return section("probes", "Where in the weights it lives", *parts) if parts else None
