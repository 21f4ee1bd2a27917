"""Verdicts of an answers file as a table of shares with standard errors and intervals. No torch."""

import math
from itertools import chain

from newnews.studies.stats import cluster_sums, share, squared_deviations
from newnews.studies.summary import verdicts


def scored(file, task, items):
    """One verdict an item, of a benchmark."""
    return task.merged(verdicts(file, task, items))


def standard_error(values, clusters):
    """Of a mean, clustered; with one value a cluster sqrt(p (1 - p) / (n - 1)), as lm-eval-harness has it."""
    sums, counts = cluster_sums(values, clusters)
    return math.sqrt(squared_deviations(sums, counts)) / len(values) if len(sums) > 1 else math.nan


def values_of(rows, field):
    """(values, clusters) of a field, which holds a verdict or a list of them (one an instruction)."""
    lists = [row[field] if isinstance(row[field], list) else [row[field]] for row in rows]
    return list(chain(*lists)), [row["item"] for row, some in zip(rows, lists) for _ in some]


def score_table(task, rows):
    """The shares of the task's columns by group (a subject) and over all, as text."""
    groups = dict.fromkeys(row["group"] for row in rows if row.get("group"))
    wide = max([14, *(len(name) + 2 for name in groups)])
    lines = [f"{task.name:<{wide}}{'n':>6}" + "".join(f"{title:>30}" for title in task.columns.values())]
    for group in (*groups, "all"):
        mine = rows if group == "all" else [row for row in rows if row["group"] == group]
        line = f"{group:<{wide}}{len(mine):>6}"
        for field in task.columns:
            values, clusters = values_of(mine, field)
            s = share(values, clusters)
            error = f"{standard_error(values, clusters):.3f}"
            line += f"{s['mean']:>10.3f} ±{error} [{s['low']:.2f}, {s['high']:.2f}]"
        lines.append(line)
    lines.append("Share, ± standard error, [95% interval].")
    if rows and "cut" in rows[0]:
        cut = sum(row["cut"] for row in rows)
        silent = sum(row.get("answer", "") is None for row in rows)
        lines.append(f"{cut} of {len(rows)} replies were cut at the limit; no answer was found in {silent}."
                     if "answer" in rows[0] else f"{cut} of {len(rows)} replies were cut at the limit.")
    return "\n".join(lines)
