"""The summary of a study as a table for a terminal, and as a picture. No torch."""

from textwrap import wrap

from newnews.studies.ways import EVERY, KL, formats_of, ways_of
from newnews.tasks.news import WAYS

TITLES = {"letter": "by letter", "text": "multiple choice", "free": "free form", "reason": "after thought",
          **{name: way.title for name, way in EVERY.items()}}
ORDER = ("free", "text", "letter", "reason")        # of the blocks
WIDE = 22           # of a column with an interval
COLOURS = ("#8c8c8c", "#4e79a7", "#76b7b2", "#edc948", "#e15759", "#b07aa1", "#59a14f", "#9c755f",
           "#ff9da7", "#f28e2b")


def number(x, digits=2):
    return "-" if x is None else f"{x:z.{digits}f}"      # z: no -0.00


def interval(d, digits=2):
    """A mean with its interval: "-" without a mean, "[open]" where nothing bounds it."""
    mean, low, high = (number(d[key], digits) for key in ("mean", "low", "high"))
    return "-" if d["mean"] is None else f"{mean} [open]" if d["low"] is None else f"{mean} [{low}, {high}]"


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
        lines.insert(2, f"{'right there, counterfactual':<{wide + titles + 2}}{other}")
    for cell, way, response, verdict in rows:
        if verdict["format"] in ("free", "reason"):
            said = " ".join(response["text"].split()) + ("" if response["stopped"] else " ... (cut)")
        else:
            said = question.options[verdict["pick"]]
        mark = "+" if verdict["right"] else "-"
        lines.append(f"{mark} {cell:<{wide + 1}}{TITLES[way]:<{titles}}{verdict['format']:<8}{said}")
    return "\n".join(lines)


def draw(summary, path):
    """Closed-book accuracy by group (bars with intervals), in-context accuracy of the same model
    (rings), and the base model in context (dashed): a row a format, a panel a domain. Needs matplotlib (the
    extra `plots`)."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = summary["groups"]
    formats = [f for f in ORDER if f in summary["study"]["ask"]][:2]
    domains = ["all", *summary["overlap"]["by_domain"]]
    figure, axes = plt.subplots(len(formats), len(domains), squeeze=False, sharey=True, layout="constrained",
                                figsize=(2.3 * len(domains), 2.6 * len(formats)))
    for row, format in zip(axes, formats):
        for ax, domain in zip(row, domains):
            panel(ax, cells, format, domain, summary["chance"])
        row[0].set_ylabel(TITLES[format] + "\naccuracy")
    handles, labels = axes[0][0].get_legend_handles_labels()
    rings = plt.Line2D([], [], marker="o", linestyle="", markerfacecolor="none", markeredgecolor="#222222")
    dashes = plt.Line2D([], [], color="#222222", linestyle="--", linewidth=0.8)
    figure.legend([*handles, rings, dashes],
                  [*labels, "same model, news in context", "base, news in context"],
                  loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle("Bars: closed book after training on each protocol, 95% intervals clustered by news",
                    fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def panel(ax, cells, format, domain, chance):
    """One panel: a bar a group of cells. Of several base models each has its own line, so none is drawn."""
    def part(cell, way):
        found = cell[way][format]
        return found if domain == "all" else found["by_domain"].get(domain, {"mean": None, "n": 0})

    for x, (name, cell) in enumerate(cells.items()):
        closed, context = part(cell, "closed_book"), part(cell, "in_context")
        if closed["mean"] is None:
            continue
        ax.bar(x, closed["mean"], color=COLOURS[x % len(COLOURS)], width=0.75, label=name.replace("_", " "))
        ax.errorbar(x, closed["mean"], [[closed["mean"] - closed["low"]], [closed["high"] - closed["mean"]]],
                    color="#222222", linewidth=1, capsize=2)
        ax.plot(x, context["mean"], "o", markersize=5, markerfacecolor="none", markeredgecolor="#222222")
    base = next(iter(cells.values()))
    top = part(base, "in_context")["mean"]
    if top is None:
        ax.text(0.5, 0.5, "all rehearsed", transform=ax.transAxes, ha="center", fontsize=8, color="#777777")
    elif not any(name.startswith("base ") for name in cells):
        ax.axhline(top, color="#222222", linestyle="--", linewidth=0.8)
    if format in ("text", "letter") and chance is not None:
        ax.axhline(chance, color="#999999", linestyle=":", linewidth=0.8)
    ax.set(ylim=(0, 1.03), xticks=[])
    ax.set_title(f"{domain} (n = {part(base, 'closed_book')['n']})", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
