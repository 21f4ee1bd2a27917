"""News that arrive one after another into one model: what does it still know of the earlier ones? No torch.

After each arrival the one adapter goes on from where it was, on the rows about what has arrived; each use of
one is, with the probability `replay_share`, that of a row about an earlier news item instead. The optimizer,
its warm-up and the order of the rows begin anew. Then the adapter is asked, closed book, about all news so
far: the forgetting matrix, accuracy on news j after arrival i.

    OUT/figures/stream.csv      the matrix, a row for each cell, format, arrival and news item
    OUT/stream.png              a panel for each cell, means over seeds
"""

from html import escape
from random import Random

import numpy as np

from newnews.outputs import write_picture
from newnews.randomness import stream
from newnews.studies import figures as fig
from newnews.studies import sections
from newnews.studies.contrasts import groups
from newnews.studies.report import TITLES, interval, readable
from newnews.studies.stats import paired
from newnews.studies.summary import judged
from newnews.tasks.news import WAYS

SIDE = 220          # pixels of a matrix on the page


def arrivals(news, seed):
    """The news in the order in which they arrive."""
    return Random(stream("arrivals", seed)).sample(news, len(news))


def drawing(examples):
    """draw(rng) -> one of the examples, for newnews.neutral.mixed."""
    def draw(rng):
        example = examples[rng.integers(len(examples))]
        return example(rng) if callable(example) else example
    return draw


def matrix(done):
    """Rows {"cell", "format", "after", "news", "arrived", "right", "n"}: accuracy on a news item after so
    many arrivals, over its n questions that were not rehearsed. done: summary.Finished."""
    rows = []
    for cell in done.index["cells"]:
        for after, arrival in enumerate(cell.get("arrivals", ()), 1):
            place, right = {news: i for i, news in enumerate(arrival["news"], 1)}, {}
            for _, verdict in judged(done.out / arrival["answers"], done.tasks[cell["model"], WAYS[0]],
                                     done.items):
                if verdict["question"] not in done.seen:
                    right.setdefault((verdict["format"], verdict["news"]), []).append(verdict["right"])
            rows += [{"cell": cell["name"], "format": format, "after": after, "news": news,
                      "arrived": place[news], "right": sum(some) / len(some), "n": len(some)}
                     for (format, news), some in right.items()]
    return rows


def forgotten(rows):
    """What was lost between a news item's own arrival and the last one, from the rows of `matrix`, by group
    of seeds and format: {"cell", "format", "arrival", "end", "mean" of the difference, "low", "high", "n"}.
    Each news item counts alike. Those that came last under some seed, and had no time to be forgotten, are
    left out."""
    out = []
    for group, cells in groups(dict.fromkeys(row["cell"] for row in rows)).items():
        for format in dict.fromkeys(row["format"] for row in rows):
            mine = [[r for r in rows if (r["cell"], r["format"]) == (cell, format)] for cell in cells]
            first = [{r["news"]: r["right"] for r in some if r["arrived"] == r["after"]} for some in mine]
            ends = [max((r["after"] for r in some), default=0) for some in mine]
            last = [{r["news"]: r["right"] for r in some if r["after"] == end != r["arrived"]}
                    for some, end in zip(mine, ends)]
            news = [name for name in first[0] if all(name in some for some in [*first, *last])]
            a, b = (np.array([[some[name] for name in news] for some in by]) for by in (first, last))
            found = paired(a, b, news, shares=False)     # means over a news item's answers
            out.append({"cell": group, "format": format, "arrival": a.mean() if news else None,
                        "end": b.mean() if news else None,
                        **{key: found[key] for key in ("mean", "low", "high", "n")}})
    return out


def squares(rows, cells, format):
    """(n, n) mean accuracy: row i - 1 after arrival i, column j - 1 on the news that arrived as number j; NaN
    where nothing was asked."""
    n = max(row["after"] for row in rows)
    total, count = np.zeros((n, n)), np.zeros((n, n))
    for row in rows:
        if row["cell"] in cells and row["format"] == format:
            total[row["after"] - 1, row["arrived"] - 1] += row["right"]
            count[row["after"] - 1, row["arrived"] - 1] += 1
    return np.divide(total, count, out=np.full((n, n), np.nan), where=count > 0)


def ages(values):
    """[(arrivals since, mean accuracy on the news that arrived so long ago)] of a matrix of `squares`."""
    return [(age, float(some.mean())) for age in range(len(values))
            if len(some := (part := np.diagonal(values, -age))[~np.isnan(part)])]


def section(rows):
    """The part of the page about a stream."""
    parts, lines, pooled = [], [], groups(dict.fromkeys(row["cell"] for row in rows))
    for format in dict.fromkeys(row["format"] for row in rows):
        series = []
        for i, (group, cells) in enumerate(pooled.items(), 1):
            values = squares(rows, cells, format)
            series.append((readable(group), ages(values), fig.colour(i)))
            marks = "".join(
                f'<rect x="{b}" y="{a}" width="1" height="1" fill-opacity="{values[a, b]:.3f}">'
                f"<title>after {a + 1}, on news {b + 1}: {values[a, b]:.2f}</title></rect>"
                for a, b in zip(*np.nonzero(~np.isnan(values))))
            parts.append(f"<div><h4>{escape(readable(group))}, {TITLES[format]}</h4>"
                         f'<svg role="img" height="{SIDE}" viewBox="0 0 {len(values)} {len(values)}" '
                         f'preserveAspectRatio="xMinYMin" fill="{fig.colour(i)}" stroke="var(--soft)" '
                         f'stroke-width="0.02">{marks}</svg><div class="small">↓ after arrival 1 to '
                         f"{len(values)} → on news 1 to {len(values)}</div></div>")
        drawn = fig.curves(series, f"closed book, {TITLES[format]}", "arrivals since", shares=True)
        lines.append(drawn + fig.legend(*((fig.spot(fill), name) for name, _, fill in series)))
    table = [[readable(r["cell"]), TITLES[r["format"]], r["arrival"], r["end"],
              (r["mean"], interval(r) if r["low"] is not None else "-"), (r["n"], str(r["n"]))]
             for r in forgotten(rows)]
    columns = [("cell", False), ("format", False), ("on arrival", True), ("at the end", True),
               ("forgotten, 95% interval", True), ("news", True)]
    caption = ("Accuracy on news, closed book, over how many others have arrived since (the longer ago, the "
               "fewer news a point has), and all of it: a square is the accuracy on one news item after one "
               "arrival, full colour is 1. Means over seeds, each with an order of its own. The table "
               "leaves out news that came last under some seed.")
    return sections.section("stream", "What later news leave of earlier ones", sections.table(columns, table),
                            sections.figure("stream", f'{"".join(lines)}<div class="panels">{"".join(parts)}'
                                            "</div>", caption))


def draw(rows, path):
    """The matrices as a picture: a column a cell, a row a format. Needs matplotlib."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pooled = groups(dict.fromkeys(row["cell"] for row in rows))
    formats = list(dict.fromkeys(row["format"] for row in rows))
    figure, axes = plt.subplots(len(formats), len(pooled), squeeze=False, layout="compressed",
                                figsize=(3 * len(pooled) + 0.6, 3.3 * len(formats)))
    for line, format in zip(axes, formats):
        for ax, (group, cells) in zip(line, pooled.items()):
            values = squares(rows, cells, format)
            n = len(values) + 0.5
            image = ax.imshow(values, vmin=0, vmax=1, cmap="viridis", extent=(0.5, n, n, 0.5))
            ax.set_title(f"{readable(group)}\n{TITLES[format]}", fontsize=9)
        line[0].set_ylabel("after arrival")
    figure.supxlabel("news, in the order of their arrival", fontsize=9)
    figure.colorbar(image, ax=axes, label="accuracy, closed book")
    write_picture(path, figure)
    plt.close(figure)
