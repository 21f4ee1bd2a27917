"""The summary of a study as a table for a terminal, and as a picture."""

from newnews.experiment import WAYS

TITLES = {"closed_book": "closed book", "in_context": "in context",
          "choice": "multiple choice", "free": "free form"}
COLOURS = ("#8c8c8c", "#4e79a7", "#76b7b2", "#edc948", "#e15759", "#b07aa1", "#59a14f", "#9c755f", "#ff9da7")


def number(x):
    return "  - " if x is None else f"{x:4.2f}"


def interval(d):
    if d["low"] is None:
        return "-"
    return f"{number(d['mean'])} [{number(d['low'])}, {number(d['high'])}]"


def table(summary):
    """The accuracies: one block for each format and way, a row a protocol, a column a domain."""
    protocols, overlap, lines = summary["protocols"], summary["overlap"], []
    domains = list(protocols["base"]["closed_book"]["free"]["by_domain"])
    for format in ("free", "choice"):
        for way in WAYS:
            title = f"{TITLES[format]}, {TITLES[way]}"
            lines += block(protocols, format, way, title, domains, way == "closed_book")
    every = summary["all_questions"]
    lines += block(every, "free", "closed_book", "free form, closed book, all",
                   list(every["base"]["closed_book"]["free"]["by_domain"]), False)
    letters = interval(protocols["base"]["in_context"]["letter"])
    rehearsed = ", ".join(f"{d} {n}" for d, n in overlap["by_domain"].items())
    lines += [f"{overlap['rehearsed']} of {overlap['questions']} test questions were asked in self-play too "
              f"({rehearsed});", "they are left out, for every protocol, of all blocks but the last.",
              f"Multiple choice is by option text. By letter, base in context: {letters} (chance .25).",
              "Intervals: 95%, clustered by news item. Gap recovered: (tuned - base) / (context - base).",
              f"{summary['seconds']:.0f} s in all."]
    return "\n".join(lines)


def block(protocols, format, way, title, domains, more):
    """The lines of one format and way; more: with the share of the gap recovered and the time."""
    lines = [f"{title:<30}" + "".join(f"{d[:8]:>9}" for d in domains) + f"{'all, 95% interval':>21}"
             + (f"{'gap recovered':>18}{'time':>6}" if more else "")]
    for name, p in protocols.items():
        cell = p[way][format]
        line = f"  {name:<28}" + "".join(f"{number(cell['by_domain'][d]['mean']):>9}" for d in domains)
        line += f"{interval(cell):>21}"
        if more:
            line += f"{interval(p['recovered'][format]) if name != 'base' else '':>18}{p['seconds']:>4.0f} s"
        lines.append(line)
    cell = protocols["base"][way][format]
    counts = "".join(f"{cell['by_domain'][d]['n']:>9}" for d in domains)
    return [*lines, f"  {'n':<28}{counts}{cell['n']:>21}", ""]


def draw(summary, path):
    """Closed-book accuracy by protocol (bars with intervals), in-context accuracy of the same model
    (rings), and the base model in context (dashed): a row a format, a panel a domain. Needs matplotlib (the
    extra `plots`)."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    protocols = summary["protocols"]
    domains = ["all", *protocols["base"]["closed_book"]["free"]["by_domain"]]
    names = list(protocols)
    figure, axes = plt.subplots(2, len(domains), figsize=(2.3 * len(domains), 5.2), squeeze=False,
                                sharey=True,
                                layout="constrained")
    for row, format in zip(axes, ("free", "choice")):
        for ax, domain in zip(row, domains):
            part = lambda name, way: (lambda c: c if domain == "all" else c["by_domain"][domain])(
                protocols[name][way][format])
            for x, name in enumerate(names):
                closed, context = part(name, "closed_book"), part(name, "in_context")
                if closed["mean"] is None:
                    continue
                ax.bar(x, closed["mean"], color=COLOURS[x % len(COLOURS)], width=0.75,
                       label=name.replace("_", " "))
                ax.errorbar(x, closed["mean"],
                            [[closed["mean"] - closed["low"]], [closed["high"] - closed["mean"]]],
                            color="#222222", linewidth=1, capsize=2)
                ax.plot(x, context["mean"], "o", markersize=5, markerfacecolor="none",
                        markeredgecolor="#222222")
            top = part("base", "in_context")["mean"]
            if top is None:
                ax.text(0.5, 0.5, "all rehearsed", transform=ax.transAxes, ha="center", fontsize=8,
                        color="#777777")
            else:
                ax.axhline(top, color="#222222", linestyle="--", linewidth=0.8)
            if format == "choice":
                ax.axhline(0.25, color="#999999", linestyle=":", linewidth=0.8)
            ax.set(ylim=(0, 1.03), xticks=[])
            ax.set_title(f"{domain} (n = {part('base', 'closed_book')['n']})", fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
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
