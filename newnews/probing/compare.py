"""Do two updates point the same way? Cosines and principal angles, from the factors.

Cosine <dW1, dW2>_F / (||dW1|| ||dW2||), with <B1 A1, B2 A2>_F = sum((B1^T B2) * (A1 A2^T)): O(d r^2), dW
never formed. Overlap of column (row) spaces: mean cos^2 of the principal angles between the first r left
(right) singular vectors, in [0, 1]; two random spaces of dimension r in d have r / d.

Subspace claims are worthless without their nulls (a group of adapters shares its mean, and random ones
overlap by r / d; measured on 500 adapters against 2512.05117): every row carries the same numbers for the
pair in which the second is replaced by a random twin. null_same_rows: by one that keeps its row space, for
adapters that began with one seed share most of A (on data/pocket two unrelated ones overlap by .9 in their
rows). And over a group the cosine after the group's mean has been taken out, from the centred Gram matrix H
G H.
"""

import torch

from newnews.probing.updates import frames, layer_of, module_of, projections, random_twin


def inner(one, two):
    """<dW1, dW2>_F of two Updates of one shape; a float."""
    return float(((one.B.T @ two.B) * (one.A @ two.A.T)).sum())


def cosine(one, two):
    size = (inner(one, one) * inner(two, two)) ** 0.5
    return inner(one, two) / size if size else 0.0


def overlaps(one, two):
    """(column spaces, row spaces): mean cos^2 of the principal angles between the first r singular directions
    of two Updates, a Frobenius norm; r: the fewer that one of them has (updates.frames). An update of zeros
    has none and overlaps with nothing."""
    (U1, V1), (U2, V2) = frames(one), frames(two)
    r = min(U1.shape[1], U2.shape[1])
    return tuple(float((a[:, :r].T @ b[:, :r]).square().sum()) / max(r, 1) for a, b in ((U1, U2), (V1, V2)))


def gram(group):
    """G (n, n): inner products of n updates {name: Update} over all modules; a module that one lacks counts
    0."""
    G = torch.zeros(len(group), len(group), dtype=torch.float64)
    for i, one in enumerate(group):
        for j, two in enumerate(group[:i + 1]):
            G[i, j] = G[j, i] = sum(inner(one[name], two[name]) for name in one if name in two)
    return G


def cosines(G, centred=False):
    """(n, n) cosines of a Gram matrix; centred: after the group's mean was taken out of every member. Of n
    members without anything in common but that mean, the centred cosines are -1 / (n - 1)."""
    if centred:
        H = torch.eye(len(G), dtype=G.dtype) - 1 / len(G)
        G = H @ G @ H
    size = G.diagonal().clamp_min(0).sqrt()
    return G / (size[:, None] * size).clamp_min(1e-300)


def rows(first, others, seed=0):
    """Rows {"with", "layer", "module", "cosine", "columns", "rows", null_*}: the update against each of
    `others` {label: update}, projection by projection, and module "all", which is everything; nulls with a
    random twin of the other."""
    out = []
    for label, other in others.items():
        twins, same_rows = random_twin(other, seed), random_twin(other, seed, keep_rows=True)
        for name in [name for name in projections(first) if name in other]:
            one, two, twin = first[name], other[name], twins[name]
            row = {"with": label, "layer": layer_of(name), "module": module_of(name),
                   "cosine": cosine(one, two), "null_cosine": cosine(one, twin),
                   "null_same_rows": cosine(one, same_rows[name])}
            for prefix, what in (("", two), ("null_", twin)):
                row[f"{prefix}columns"], row[f"{prefix}rows"] = overlaps(one, what)
            out.append(row)
        whole = cosines(gram([first, other, twins, same_rows]))
        out.append({"with": label, "layer": None, "module": "all", "cosine": float(whole[0, 1]),
                    "null_cosine": float(whole[0, 2]), "null_same_rows": float(whole[0, 3])})
    return out


def group_rows(group):
    """Rows {"one", "two", "cosine", "centred", "with_mean"} of every pair in {label: update}, over all
    modules: the plain cosine, that without the group's mean (None of two: theirs is -1 by construction), and
    the first one's cosine with the mean of the OTHERS."""
    G, labels, out = gram(list(group.values())), list(group), []
    plain, centred = cosines(G), cosines(G, centred=True)
    for i in range(len(labels)):
        rest = [k for k in range(len(labels)) if k != i]
        size = float((G[i, i] * G[rest][:, rest].sum()).clamp_min(1e-300).sqrt())
        for j in rest:
            out.append({"one": labels[i], "two": labels[j], "cosine": float(plain[i, j]),
                        "centred": float(centred[i, j]) if rest[1:] else None,
                        "with_mean": float(G[i, rest].sum()) / size})
    return out
