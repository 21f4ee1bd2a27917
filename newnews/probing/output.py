"""What a probe leaves behind: rows as CSV, a table that fits a screen, maps and curves as PNG."""

import csv
import io

from newnews.outputs import write_picture, write_text

COLOURS = ("#e15759", "#4e79a7", "#59a14f", "#edc948", "#b07aa1", "#76b7b2", "#9c755f", "#ff9da7")
GREY = "#8c8c8c"        # of nulls


def columns_of(rows):
    return list(dict.fromkeys(key for row in rows for key in row))


def write_csv(path, rows):
    """A column for every key of any row, in the order in which they first appear; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path):
    """The rows of such a file; cells that are numbers as floats, empty ones None."""
    def value(text):
        try:
            return float(text) if text else None
        except ValueError:
            return text

    with open(path, encoding="utf-8", newline="") as f:
        return [{key: value(text) for key, text in row.items()} for row in csv.DictReader(f)]


def reading(rows, key, *names):
    """One sentence: of every label its number in the column `key` that is farthest from 0, nulls among them,
    with the head, where that is the number of one. Labels stand in the columns `names` and in the names of
    columns ("null_cosine", "cosine naive"); rows of another shape, without the first of `names`, are left
    out. "" without numbers."""
    found = {}
    for row in [row for row in rows if not names or row.get(names[0]) is not None]:
        labels = [cell(row.get(name)) for name in names]
        head = ("" if row.get("head") is None else
                f" (layer {cell(row['layer'])}, head {cell(row['head'])})")
        for column, x in row.items():
            null, own = column == f"null_{key}", column.startswith(f"{key} ")
            if isinstance(x, float) and x == x and (null or own or column == key):
                who = ", ".join(filter(None, (*labels, "null" * null, column[len(key) + 1:] * own)))
                found[who] = max(found.get(who, (0.0, "")), (x, head), key=lambda pair: abs(pair[0]))
    said = "; ".join(f"{who or 'update'} {x:.2g}{head}" for who, (x, head) in found.items())
    return f"{key}, farthest from 0: " * bool(found) + said


def means(rows, by, keys):
    """A row for every combination of the columns `by`, in the order in which they first appear: those, and
    the mean of each of `keys` over its rows; None counts for nothing, a key without a number is left out."""
    out = []
    for group in dict.fromkeys(tuple(row[key] for key in by) for row in rows):
        some = [row for row in rows if tuple(row[key] for key in by) == group]
        found = {key: [row[key] for row in some if row.get(key) is not None] for key in keys}
        out.append({**dict(zip(by, group)), **{k: sum(found[k]) / len(found[k]) for k in keys if found[k]}})
    return out


def curves(rows, label, x, y):
    """{row[label]: [(row[x], row[y]), ...]}, what a panel of draw_curves draws; rows without y are left
    out."""
    return {name: [(row[x], row[y]) for row in rows if row[label] == name and row.get(y) is not None]
            for name in dict.fromkeys(row[label] for row in rows)}


def cell(value):
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def table(rows, columns=None, limit=40):
    """Rows as aligned text, `limit` of them; numbers with three digits, texts cut to 48 letters."""
    columns = columns or columns_of(rows)
    shown = [[cell(row.get(c))[:48] for c in columns] for row in rows[:limit]]
    wide = [max(map(len, column)) for column in zip(columns, *shown)]
    lines = ["  ".join(f"{text:>{w}}" for text, w in zip(line, wide)) for line in [columns, *shown]]
    if len(rows) > limit:
        lines.append(f"({len(rows) - limit} more rows in the CSV)")
    return "\n".join(lines)


def figure(panels, wide, high, across=4):
    """(figure, axes): up to `across` panels a row. ImportError where matplotlib is missing."""
    from matplotlib.figure import Figure      # not pyplot, which keeps every figure
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    made = Figure(figsize=(wide * across, high * down), layout="constrained")
    axes = made.subplots(down, across, squeeze=False)
    for ax in axes.flat[len(panels):]:
        ax.set_axis_off()
    return made, list(axes.flat)


def draw_curves(path, panels, xlabel="layer", log=False):
    """A panel for each (title, {label: [(x, y), ...]}); labels that begin with "null" are grey and dashed.
    log: x by octaves. While there are colours enough for the labels of all panels they share one legend. An
    empty curve is a label without a line."""
    panels = [panel for panel in panels if any(panel[1].values())]
    made, axes = figure(panels, 3.6, 2.8)
    every = [label for _, curves in panels for label in curves]
    real = [label for label in dict.fromkeys(every) if not label.startswith("null")]
    shared, known = len(real) <= len(COLOURS), {}
    for ax, (title, curves) in zip(axes, panels):
        names = real if shared else [label for label in curves if label in real]
        for label, points in curves.items():
            null = label not in names
            colour = GREY if null else COLOURS[names.index(label) % len(COLOURS)]
            xs, ys = zip(*sorted(points)) if points else ((), ())
            known[label], = ax.plot(xs, ys, "o--" if null else "o-", color=colour, label=label, markersize=3,
                                    linewidth=1.2)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel(xlabel, fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        if log:
            ax.set_xscale("log", base=2)
        elif all(float(x).is_integer() for points in curves.values() for x, _ in points):
            ax.xaxis.get_major_locator().set_params(integer=True)
        if not shared:
            ax.legend(fontsize=7, frameon=False)
    if shared:
        made.legend(known.values(), known, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    write_picture(path, made)


def draw_maps(path, panels, across=4):
    """A panel for each (title, row labels, column labels, matrix), one colour scale around 0 for all."""
    made, axes = figure(panels, 4.4, 1.2 + 0.3 * max(len(panel[1]) for panel in panels), across)
    numbers = [x for panel in panels for row in panel[3] for x in row if x is not None]
    top = max(map(abs, numbers), default=1) or 1
    for ax, (title, down, across, matrix) in zip(axes, panels):
        matrix = [[float("nan") if x is None else x for x in row] for row in matrix]
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
        ax.set_xticks(range(len(across)), across, fontsize=7, rotation=45, ha="right")
        ax.set_yticks(range(len(down)), down, fontsize=7)
        for y, row in enumerate(matrix):
            for x, number in enumerate(row):
                if max(len(across), len(down)) <= 16 and number == number:      # else they overlap
                    ax.text(x, y, f"{number:.2g}", ha="center", va="center", fontsize=6,
                            color="white" if abs(number) > 0.7 * top else "black")
        ax.set_title(title, fontsize=9)
    made.colorbar(image, ax=axes, shrink=0.8)
    write_picture(path, made)


def draw_graphs(path, panels):
    """A panel for each (title, coordinates (n, 2), edges, words): the words where they are, the edges drawn;
    a node whose place is NaN is left out."""
    made, axes = figure(panels, 3.6, 3.2)
    for ax, (title, places, edges, words) in zip(axes, panels):
        for i, j in edges:
            ax.plot(*zip(places[i], places[j]), "-", color=GREY, linewidth=0.8, zorder=1)
        for (x, y), word in zip(places, words):
            if x == x:
                ax.annotate(word, (x, y), ha="center", va="center", fontsize=7, zorder=2,
                            bbox={"boxstyle": "round,pad=0.1", "color": "white", "alpha": 0.8})
        ax.scatter(*zip(*places), s=0)
        ax.set_title(title, fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    write_picture(path, made)


def pivot(rows, down, across, value):
    """(row labels, column labels, matrix) of rows: one number for each pair, None where there is no row."""
    labels = [list(dict.fromkeys(str(row[key]) for row in rows)) for key in (down, across)]
    for some in labels:
        some.sort(key=lambda label: label == "all")         # all comes last; the rest stays in order
    found = {(str(row[down]), str(row[across])): row[value] for row in rows}
    return *labels, [[found.get((d, a)) for a in labels[1]] for d in labels[0]]
