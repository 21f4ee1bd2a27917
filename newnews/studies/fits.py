"""Accuracy against compute: what twice the FLOPs bring, and whether cells lie on one curve. No torch."""

import re

import numpy as np

from newnews.studies.contrasts import answered
from newnews.studies.report import ORDER
from newnews.studies.stats import paired
from newnews.tasks.news import WAYS

STEPS = re.compile(r" recipe\.(steps|batch)=\S+")     # in the names of cells: what one curve has several of


def fit_rows(done, tuned, costs):
    """What each protocol of three cells or more gains closed book with twice the FLOPs, by least squares over
    log2 FLOPs for the answers to each question: one line through all cells; and, where these lie on several
    curves (they differ in more than steps), a line each of one slope, and how far it lies above the first."""
    rows = []
    for protocol in dict.fromkeys(r["protocol"] for r in costs):
        mine = [r for r in costs if r["protocol"] == protocol and r["flops"] > 0]
        curves = [STEPS.sub("", r["cell"]) for r in mine]
        names, x = list(dict.fromkeys(curves)), np.log2([r["flops"] for r in mine] or [1.0])
        which = np.array([[curve == name for name in names] for curve in curves], float)        # (G, curves)
        above = [f"{name} above {names[0]}" for name in names[1:]]
        for title, levels, more in (("one line", np.ones((len(mine), 1)), []), ("a line each", which, above)):
            design = np.column_stack([x - x.mean(), levels])                            # (G, 1 + lines)
            if len(mine) < 3 or np.linalg.matrix_rank(design, 0.1) < 1 + levels.shape[1] \
                    or title != "one line" and not above:
                continue                            # too few cells, of too much the same FLOPs; or one curve
            slope, first, *others = np.linalg.pinv(design)                              # (G,) each
            for what, weights in ((f"twice the FLOPs, {title}", slope),
                                  *zip(more, (other - first for other in others))):
                rows += [fitted(done, protocol, what, weights, [tuned[r["cell"]] for r in mine], f)
                         for f in ORDER if f in done.study["ask"]]
    return rows


def fitted(done, protocol, what, weights, groups, format):
    """A weighted sum of the accuracies of some groups of cells, (G,), with its interval."""
    values, common = answered([done.fresh(cell, WAYS[0], format) for group in groups for cell in group])
    values = values.reshape(len(groups), -1, len(common))                               # (G, S, n)
    sums = np.tensordot(weights, values, 1)                                             # (S, n)
    found = paired(sums, 0 * sums, [row["news"] for row in common], shares=False)
    return {"protocol": protocol, "format": format, "what": what, "value": found["mean"],
            **{key: found[key] for key in ("low", "high", "p", "n")}, "cells": len(groups)}
