"""The summary of a study as a table for a terminal, and as a picture. No torch."""

import re
from functools import partial
from textwrap import wrap

from newnews.outputs import write_picture
from newnews.studies.ways import EVERY, KL, formats_of, ways_of
from newnews.tasks.news import WAYS

TITLES = {"letter": "by letter", "text": "multiple choice", "free": "free form", "reason": "after thought",
          **{name: way.title for name, way in EVERY.items()}}
ORDER = ("free", "text", "letter", "reason")        # of the blocks
WIDE = 22           # of a column with an interval
COLOURS = ("#8c8c8c", "#4e79a7", "#76b7b2", "#edc948", "#e15759", "#b07aa1", "#59a14f", "#9c755f",
           "#ff9da7", "#f28e2b")
SHADES = {"naive": 1, "paraphrase": 2, "implication": 3, "self_qa": 4, "mixed": 5}
INK = "#222222"


def readable(name):
    """A cell's name as a label: "self qa, 60 steps, rate 0.001"."""
    def words(found):
        key, value = found[1].rpartition(".")[2], re.sub(r"\b(runs|data)/", "", found[2])
        return f", {value} {key}" if key in ("steps", "draws") else f", {key} {value}"

    return re.sub(r" ([\w.]+)=(\S+)", words, re.sub(r"^base (runs|data)/", "base ", name)).replace("_", " ")


def number(x, digits=2):
    return "-" if x is None else f"{x:z.{digits}f}"      # z: no -0.00


def interval(d, digits=2):
    """A mean with its interval: "-" without a mean, "[open]" where nothing bounds it."""
    if d["mean"] is None:
        return "-"
    mean, low, high = (number(d[key], digits) for key in ("mean", "low", "high"))
    return f"{mean} [open]" if d["low"] is None else f"{mean} [{low}, {high}]"


def table(summary):
    """The claims, then the accuracies: one block for each format and way, a row a group of cells that differ
    in their seed alone, a column a domain; for the first format also a column a kind of question."""
    groups, overlap, lines = summary["groups"], summary["overlap"], claims(summary["contrasts"])
    formats = [f for f in ORDER if f in summary["study"]["ask"]]
    domains = list(overlap["by_domain"])
    for format in formats:
        for way in WAYS:
            lines += block(groups, format, way, f"{TITLES[format]}, {TITLES[way]}", domains,
                           way == "closed_book")
    first = next(iter(groups.values()))["closed_book"][formats[0]]
    for by, title in (("by_needs", "kinds"), ("by_steps", "steps of thought")):
        for way in WAYS if len(first[by]) > 1 else ():
            lines += block(groups, formats[0], way, f"{TITLES[formats[0]]}, {TITLES[way]}: {title}",
                           sorted(first[by]) if by == "by_steps" else list(first[by]), False, by)
    lines += beside(groups, formats, ways_of(summary["study"])[len(WAYS):])
    every = {name: group["all_questions"] for name, group in groups.items()}
    lines += block(every, formats[0], "closed_book", f"{TITLES[formats[0]]}, closed book, all", domains,
                   False)
    rehearsed = ", ".join(f"{d} {n}" for d, n in overlap["by_domain"].items())
    seeds = max(len(group["cells"]) for group in groups.values())
    lines += [overlapping(summary) + (", under one seed or another" if seeds > 1 else ""),
              f"({rehearsed}); they are left out of all blocks but the last.",
              ("Multiple choice is by option text. " if "text" in formats else "")
              + "Gap recovered: (tuned - base) / (base in context - base).",
              "Intervals: 95%, clustered by news item."]
    if seeds > 1:
        lines[-1:] = [f"Rows are means over {seeds} seeds, n counts questions; time is that of one seed. "
                      f"Intervals: 95%,", "for other news (clustered by news item) and other seeds. "
                      "The base model has no seed."]
    if any("[open]" in line for line in lines):
        lines.append("[open]: nothing bounds it; there are too few news, or the gap itself may be nothing.")
    return "\n".join([*lines, *left_out(summary), f"{summary['seconds']:.0f} s in all."])


def overlapping(summary):
    """How many test questions were rehearsed, as far as the source of the news can tell."""
    overlap, news = summary["overlap"], summary["study"]["news"]
    found = "asked or answered in self-play too" if isinstance(news, dict) and "split" in news else \
        "asked in self-play too (word for word; other wordings, and answers, are not recognised)"
    return f"{overlap['rehearsed']} of {overlap['questions']} test questions were {found}"


def left_out(summary):
    """A line for each cell and reason for which it lacks news items."""
    under = ", under every seed" * (max(len(group["cells"]) for group in summary["groups"].values()) > 1)
    reasons = {"diverged": "diverged", "empty": "had nothing usable written"}
    at = lambda found, news: f"{news} (step {found[news]})" if isinstance(found, dict) else news
    return [f"{name}: {len(about[key])} of {summary['news']} news {words} and are left out{under}: "
            + ", ".join(at(about[key], news) for news in about[key])
            for name, about in summary["about"].items() for key, words in reasons.items() if about[key]]


def sides(c):
    """Both sides of a claim: where one is asked in a way of its own, the other says its way too."""
    own = [c[side].rpartition(".")[2] in EVERY for side in "ab"]
    return [c[side] if mine or not any(own) else f"{c[side]}.{c['way']}" for side, mine in zip("ab", own)]


def asked(c):
    """Format, way and kind of question of a claim; no way where the sides say it, or it is a format."""
    said = sides(c) != [c["a"], c["b"]] or c["a"].rpartition(".")[2] in EVERY or c["format"] == c["way"]
    return ", ".join([TITLES[c["format"]], *[TITLES[c["way"]]] * (not said),
                      *[c["needs"].replace("_", " ")] * bool(c["needs"])])


def claims(contrasts):
    """The lines about the claims: what became of each, then its numbers."""
    if not contrasts:
        return []
    wide, lines = max(len(c["verdict"]) for c in contrasts) + 2, ["Claims:"]
    for c in contrasts:
        what = f"{' - '.join(sides(c))}, {asked(c)}:"
        numbers = f"{c['n']} questions about {c['news']} news say nothing"
        if c["low"] is not None:
            least = f"{c['smallest']:.2f}" if (c["smallest"] or 2) <= 1 else "nothing"
            numbers = (f"{c['difference']:+z.2f} [{c['low']:+z.2f}, {c['high']:+z.2f}], Holm's p "
                       f"{c['holm']:.4f}; could see {least}; n {c['n']} / {c['news']} news")
        found = [f"{what} {numbers}"] if len(what + numbers) < 113 else [what, numbers]
        said = wrap(c["says"], 116 - wide)
        lines += [f"  {c['verdict'] if i == 0 else '':<{wide}}{text}" for i, text in enumerate(said)]
        lines += [f"      {text}" for text in found]
    return [*lines, ""]


def block(groups, format, way, title, columns, more, by="by_domain"):
    """The lines of one format and way. columns: the domains, or with by = "by_needs" what questions need.
    and "by_steps" how many steps they take. more: the gap recovered and the time are shown too."""
    wide = max(29, len(title) + 1, *(len(name) + 3 for name in groups))
    head = f"{title:<{wide}}" + "".join(f"{c[:8]:>9}" for c in columns) + f"{'all, 95% interval':>19}"
    lines = [head + (f"{'gap recovered':>20}{'time':>7}" if more else "")]
    for name, group in groups.items():
        found = group[way][format]
        line = f"  {name:<{wide - 2}}"
        for column in columns:
            line += f"{number(found[by].get(column, {'mean': None})['mean']):>9}"
        line += f"{interval(found):>19}"
        if more and "seconds" in group:
            line += f"{interval(group['recovered'][format]):>20}{group['seconds']:>5.0f} s"
        lines.append(line)
    first = next(iter(groups.values()))[way][format]
    counts = "".join(f"{first[by].get(c, {'n': 0})['n']:>9}" for c in columns)
    return [*lines, f"  {'n':<{wide - 2}}{counts}{first['n']:>19}", ""]


def beside(groups, formats, also):
    """What else was asked: a block a format, a row a group, a column a way; those with a format of their own
    in the first block."""
    wide, lines = max(29, *(len(name) + 3 for name in groups)), []
    for i, format in enumerate(formats if also else ()):
        ways = [way for way in also if i == 0 or not EVERY[way].formats]
        if not ways:
            break
        lines.append(f"{TITLES[format]:<{wide}}" + "".join(f"{TITLES[way]:>{WIDE}}" for way in ways))
        for name, group in groups.items():
            found = [(group[way][formats_of(way, [format])[0]], 3 if way == KL else 2) for way in ways]
            lines.append(f"  {name:<{wide - 2}}" + "".join(f"{interval(*pair):>{WIDE}}" for pair in found))
        counts = [next(iter(groups.values()))[way][formats_of(way, [format])[0]]["n"] for way in ways]
        lines += [f"  {'n':<{wide - 2}}" + "".join(f"{n:>{WIDE}}" for n in counts), ""]
    return lines


def walk(question, rows, other=None):
    """What was answered to one question: a line a cell and way. rows: [(cell, way, raw response,
    verdict)]; other: the right answer by the other version of the news, where that was in context."""
    wide = max(16, *(len(cell) for cell, *_ in rows)) if rows else 16
    titles = max(12, *(len(TITLES[way]) + 2 for _, way, *_ in rows)) if rows else 12
    lines = [f"{question.id}: {question.ask}", f"{'right':<{wide + titles + 2}}{question.right}", ""]
    if other is not None:
        lines.insert(2, f"{'right by the other version':<{wide + titles + 2}}{other}")
    for cell, way, response, verdict in rows:
        if verdict["format"] in ("free", "reason"):
            said = " ".join(response["text"].split()) + ("" if response["stopped"] else " ... (cut)")
        else:
            said = question.options[verdict["pick"]]
        mark = "+" if verdict["right"] else "-"
        lines.append(f"{mark} {cell:<{wide + 1}}{TITLES[way]:<{titles}}{verdict['format']:<8}{said}")
    return "\n".join(lines)


def shades(protocols):
    """{protocol: number of its colour}: the five of the paper have the same in every figure, the others take
    what is free, in turn; 0 is the base's."""
    others = [p for p in dict.fromkeys(protocols) if p not in SHADES]
    free = [i for i in range(1, len(COLOURS)) if i not in {SHADES.get(p) for p in protocols}]
    return SHADES | {p: free[-1 - i % len(free)] for i, p in enumerate(others)}


def draw(summary, path):
    """Closed-book accuracy with its interval, a panel each of the first two formats, a bar a group of cells;
    rings are the same models with the news in context. Needs matplotlib."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = summary["groups"]
    formats = [f for f in ORDER if f in summary["study"]["ask"]][:2]
    figure, axes = plt.subplots(1, len(formats), squeeze=False, sharey=True, layout="constrained",
                                figsize=(1.8 + 3.7 * len(formats), 1.3 + 0.3 * len(cells)))
    for ax, format in zip(axes[0], formats):
        panel(ax, cells, format, summary["chance"] if format in ("text", "letter") else None)
    axes[0][0].set(yticks=range(len(cells)), yticklabels=map(readable, cells),
                   ylim=(len(cells) - 0.4, -0.6))
    line = partial(plt.Line2D, [], [], color=INK)
    entries = [(line(marker="s", linestyle="", color=COLOURS[1]), "closed book"),
               (line(linewidth=1), "95% interval"),
               (line(marker="o", linestyle="", markerfacecolor="white"), "same model, news in context"),
               (line(linestyle="--", linewidth=0.8), "base, news in context"),
               (line(linestyle=":", linewidth=0.8), "chance")]
    entries = entries if {"text", "letter"} & set(formats) else entries[:-1]
    figure.legend(*zip(*entries), loc="outside lower center", ncols=5 if formats[1:] else 2, frameon=False,
                  fontsize=8, handlelength=1.5, columnspacing=1.2)
    write_picture(path, figure)
    plt.close(figure)


def panel(ax, cells, format, chance):
    """Of several base models each has its own line, so none is drawn."""
    protocols = [name.split(" ")[0] for name in cells]
    shade = shades([p for p in protocols if p != "base"]) | {"base": 0}
    for y, (protocol, cell) in enumerate(zip(protocols, cells.values())):
        closed, context = cell["closed_book"][format], cell["in_context"][format]
        if closed["mean"] is None:
            continue
        ax.barh(y, closed["mean"], color=COLOURS[shade[protocol]], height=0.7)
        if closed["low"] is not None:
            ax.plot([closed["low"], closed["high"]], [y, y], color=INK, linewidth=1)
        if context["mean"] is not None:
            ax.plot(context["mean"], y, "o", markersize=5, markerfacecolor="white", markeredgecolor=INK)
        ax.annotate(interval(closed), (1, y), (6, 0), textcoords="offset points", va="center", fontsize=8,
                    annotation_clip=False)
    base = next(iter(cells.values()))
    top = base["in_context"][format]["mean"]
    if top is not None and not any(name.startswith("base ") for name in cells):
        ax.axvline(top, color=INK, linestyle="--", linewidth=0.8, zorder=0)
    if chance is not None:
        ax.axvline(chance, color=INK, linestyle=":", linewidth=0.8)
    ax.set(xlim=(0, 1), xticks=(0, 0.25, 0.5, 0.75, 1), xticklabels=("0", ".25", ".5", ".75", "1"))
    ax.set_title(f"{TITLES[format]}, accuracy (n = {base['closed_book'][format]['n']})", fontsize=9)
    ax.tick_params(labelsize=8)
    ax.tick_params(axis="y", length=0, labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
