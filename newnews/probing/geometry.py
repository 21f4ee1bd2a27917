"""Do representations take the shape of a graph that only the context knows? (ICLR, arXiv 2501.00070)

Words that have nothing to do with each other sit on the nodes of a graph, and the prompt is a random walk
over it: plain words, no template. x_i is the mean representation (resid_post) of node i's word over the last
WINDOW tokens of all walks. Unlike the paper's, each token's is first divided by its root mean square, as the
next block's norm does, and a walk's first token is left out: a few tokens, the first always, have a hundred
times the others' norm in Qwen2.5, and raw energies are theirs alone.

    energy      the Dirichlet energy, sum over edges (i, j) of |x_i - x_j|^2, per edge, relative to the mean
                of |x_i - x_j|^2 over all pairs: 1 where the graph leaves no trace. Null: its nodes permuted.
    following   rule-following accuracy: the probability that the next token is a neighbour's word. Null: a
                model that knows the words and not the edges, neighbours / nodes of what all words get.
    transition  the shortest context from which on following stays above 1/2; its slope over the number of
                nodes, log against log, is the exponent of the power law.

Graphs: grid-K (K x K), ring-N, hex-K (K x K bricks of a honeycomb, dead ends cut off).
Letters: B walks, T tokens, n nodes, D width, V vocabulary.
"""

import math
import re

import numpy as np
import torch

from newnews.probing.asked import states

WINDOW, FOLLOWS, SHUFFLES = 50, 0.5, 200
WORDS = """apple bird car egg house milk plane opera box sand sun mango rock math code phone river chair king
    glass horse paper stone bread wolf piano lamp tiger cloud sugar knife train shirt coffee garden doctor
    bridge pencil island soup window forest camera ship""".split()


def graph(name):
    """near (n, n) bool, which nodes are neighbours, of a graph such as grid-4, ring-10 or hex-4. ValueError
    for other names."""
    match = re.fullmatch(r"(grid|ring|hex)-(\d+)", name)
    kind, size = (match[1], int(match[2])) if match else ("", 0)
    low, high = {"grid": (2, 30), "hex": (3, 30)}.get(kind, (3, 1000))
    if not low <= size <= high:
        raise ValueError(f"graph {name!r}: expected grid-K (K x K nodes, K from 2 to 30), ring-N (N from 3 "
                         f"to 1000) or hex-K (K from 3 to 30)")
    if kind == "ring":
        near = torch.eye(size, dtype=torch.bool).roll(1, 1)
    else:
        place = torch.arange(size ** 2)
        row, column, step = place // size, place % size, place - place[:, None]
        # a honeycomb is a wall of bricks: every other upright edge is missing
        upright = (kind == "grid") | ((row + column) % 2 == 0)
        near = (step == 1) & (column < size - 1)[:, None] | (step == size) & upright[:, None]
    near = near | near.T
    while (ends := near.sum(1) == 1).any():         # cut dead ends off, until there are none
        near[ends] = near[:, ends] = False
    kept = near.any(1)
    return near[kept][:, kept]


def walks(near, rows, tokens):
    """(B, T) int64: nodes of random walks over near (n, n), each from a random node to uniform neighbours."""
    generator, near = torch.Generator().manual_seed(0), near.float()
    out = [torch.randint(len(near), (rows,), generator=generator)]
    for _ in range(tokens - 1):
        out.append(torch.multinomial(near[out[-1]], 1, generator=generator)[:, 0])
    return torch.stack(out, 1)


def words(chat, n):
    """n token ids that are whole words with a space before them: of WORDS those that are one token, then
    other words of the vocabulary, in a random order."""
    ids = [chat.encode(f" {word}") for word in WORDS]
    found = [one for one, *more in ids if not more]
    if len(found) < n:      # a small vocabulary; sorted by id, which no dictionary's order changes
        texts = {i: chat.decode([i]) for i in sorted(chat.tokenizer.get_vocab().values())}
        found += [i for i, text in texts.items() if re.fullmatch(r" [A-Za-z]{3,}", text) and i not in found]
    if len(found) < n:
        raise ValueError(f"a graph of {n} nodes needs as many words of one token; this vocabulary has "
                         f"{len(found)}")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return torch.tensor(found)[order[:n]]


@torch.inference_mode()
def read_walks(model, nodes, ids, near, layers, adapter=-1):
    """({layer: (B, T, D) fp32 of root mean square 1}, following (B, T), null (B, T)) of walks nodes (B, T)
    over words ids (n,); near (n, n) bool. One walk at a time: the logits are (T, V)."""
    device = model.lm_head.weight.device
    names = {layer: f"model.layers.{layer}.resid_post" for layer in layers}
    read, following, null = {layer: [] for layer in layers}, [], []
    for walk in nodes:
        seen = states(model, ids[walk][None].to(device), [*names.values(), "model.norm"], adapter)
        logits = model.lm_head(seen["model.norm"])[0].float()                               # (T, V)
        p = (logits[:, ids.to(device)] - logits.logsumexp(-1, keepdim=True)).exp().cpu()     # (T, n)
        following.append((p * near[walk]).sum(-1))
        null.append(p.sum(-1) * near[walk].float().mean(-1))
        for layer, name in names.items():
            x = seen[name][0].float().cpu()                                                 # (T, D)
            read[layer].append(x * x.square().mean(-1, keepdim=True).rsqrt())
    read = {layer: torch.stack(some) for layer, some in read.items()}
    return read, torch.stack(following), torch.stack(null)


def node_means(states, nodes, n):
    """X (n, D): each node's mean over its tokens in states (B, T, D), NaN where the walks were not there."""
    sums = torch.zeros(n, states.shape[-1], dtype=torch.float64)
    sums.index_add_(0, nodes.flatten(), states.flatten(0, 1).double())
    return sums / nodes.flatten().bincount(minlength=n)[:, None]


def relative_energy(X, near):
    """(energy, null, low): mean |x_i - x_j|^2 over the edges near (n, n) bool, over that of all pairs; the
    mean of the same with the graph's nodes permuted, and its 5% quantile. NaN nodes are left out."""
    square = torch.cdist(X, X, compute_mode="donot_use_mm_for_euclid_dist").square()        # (n, n)
    square /= square[~torch.eye(len(X), dtype=torch.bool)].nanmean()
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(X), generator=generator) for _ in range(SHUFFLES)]
    null = torch.stack([square[near[order][:, order]].nanmean() for order in orders])
    return float(square[near].nanmean()), float(null.nanmean()), float(null.nanquantile(0.05))


def components(X):
    """((n, 2) coordinates in the first two principal components, (2,) their shares of the variance); NaN
    nodes stay NaN."""
    seen = ~X.isnan().any(-1)
    centred = X[seen] - X[seen].mean(0)
    U, S, _ = torch.linalg.svd(centred, full_matrices=False)
    out = torch.full((len(X), 2), float("nan"), dtype=X.dtype)
    out[seen] = (U * S)[:, :2]
    return out, (S.square() / S.square().sum())[:2]


def contexts(tokens):
    """Context lengths by half octaves, 8, 11, 16, 23, ... and `tokens` itself."""
    steps = [round(8 * 2 ** (k / 2)) for k in range(int(2 * math.log2(tokens / 8)) + 1)]
    return sorted({*steps, tokens})


def rows(model, chat, name, layers, adapter=-1, tokens=512, count=4):
    """(rows, maps) of one graph. Rows {"graph", "nodes", "layer", "context", "energy" (relative),
    "null_energy", "null_low" (5%), "following", "null_following"}; following over the second half of the
    context. maps {layer: (coordinates (n, 2), shares (2,), words)} at the longest context."""
    near = graph(name)
    n = len(near)
    nodes, ids = walks(near, count, tokens), words(chat, n)
    read, following, null = read_walks(model, nodes, ids, near, layers, adapter)
    out, maps = [], {}
    for layer in layers:
        for end in contexts(tokens):
            part = slice(max(1, end - WINDOW), end)
            X, half = node_means(read[layer][:, part], nodes[:, part], n), slice(end // 2, end)
            relative, mean, low = relative_energy(X, near)
            out.append({"graph": name, "nodes": n, "layer": layer, "context": end,
                        "energy": relative, "null_energy": mean, "null_low": low,
                        "following": float(following[:, half].mean()),
                        "null_following": float(null[:, half].mean())})
        maps[layer] = (*components(X), [chat.decode([i]).strip() for i in ids.tolist()])
    return out, maps


def transition(rows):
    """The shortest context of one graph's rows from which on following stays at FOLLOWS or more, or None."""
    lost = max((row["context"] for row in rows if row["following"] < FOLLOWS), default=0)
    return min((row["context"] for row in rows if row["context"] > lost), default=None)


def exponent(sizes, lengths):
    """The slope of log length over log size, least squares; None for fewer than three sizes."""
    if len(set(sizes)) < 3:
        return None
    return float(np.polyfit(np.log(sizes), np.log(lengths), 1)[0])
