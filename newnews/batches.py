"""What a step of training is made of: examples in the order of a seed, cut into padded batches.

One idea runs through it: a step is K lists of newnews.examples.Example, one a learner, and every Batch that
is made of them has the same number of rows of each.

B rows   T longest row   K learners   N supervised tokens
"""

from typing import NamedTuple

import numpy as np
import torch

from newnews.examples import Example


class Shuffled:
    """Batches from K fixed lists of examples: each list in its own order, drawn again every epoch
    from (seed, epoch).

    A list may hold functions rng -> Example, drawn anew at each use (fresh masks, say) by a numpy generator
    from (seed, epoch, place in the list), so a resumed run draws the same. A list shorter than the batch
    gives itself whole: copies of one conversation would change nothing but the cost. With functions it fills
    the batch, since no two uses are the same.
    """

    def __init__(self, lists, batch, seeds):
        self.lists, self.batch, self.seeds, self.orders = lists, batch, seeds, {}
        if not lists or not all(lists):
            raise ValueError("no training examples")

    def __call__(self, step):
        return [[self.draw(k, epoch, place) for epoch, place in self.pick(k, step)]
                for k in range(len(self.lists))]

    def draw(self, k, epoch, place):
        example = self.lists[k][place]
        if callable(example):       # place + 1: to numpy [seed, epoch, 0] is [seed, epoch], the order's own
            example = example(np.random.default_rng([self.seeds[k], epoch, place + 1]))
        return example

    def pick(self, k, step):
        """(epoch, place in the list) of each example of adapter k in this step."""
        n = len(self.lists[k])
        b = self.batch if any(map(callable, self.lists[k])) else min(self.batch, n)
        for position in range(step * b, step * b + b):
            epoch, place = divmod(position, n)
            if self.orders.get(k, (None,))[0] != epoch:
                self.orders[k] = epoch, np.random.default_rng([self.seeds[k], epoch]).permutation(n)
            yield epoch, int(self.orders[k][1][place])


class Batch(NamedTuple):
    """Rows of one forward pass, padded on the right with weight 0: K equal groups, one for each learner."""
    ids: torch.Tensor               # (B, T) int64
    weights: torch.Tensor           # (B, T) fp32: how much predicting ids[:, t] counts
    K: int                          # learners side by side; rows k B/K to (k+1) B/K - 1 are learner k's
    adapters: torch.Tensor | None   # (B,) int64 on the CPU, for the model's call; None: all weights learn
    other: "Batch | None" = None    # the same rows as Example.other shows them
    lengths: tuple = ()             # tokens of each row, without padding
    noise: tuple = ()               # Example.noise of each row

    def to(self, device):
        other = self.other and self.other.to(device)
        return self._replace(ids=self.ids.to(device), weights=self.weights.to(device), other=other)

    def sums(self, values, keep):
        """Sum values (N,), one for each True of keep (B, T) in order, over each learner's rows: (K,)."""
        group = torch.arange(len(keep), device=keep.device) // (len(keep) // self.K)
        group = group[:, None].expand_as(keep)[keep]                # (N,)
        return values.new_zeros(self.K).index_add(0, group, values)


def micro_batches(lists, budget, bank=True, rank=0, world=1):
    """Split a step, K lists of Examples, into Batches of at most `budget` padded tokens: rows of like length
    together, the same number of rows from each list (short lists are filled with empty rows).

    Process `rank` of `world` gets every world-th row: as many Batches, of as many rows, as the others, and
    rows of like length, so none waits long."""
    filler = Example([0, 0], [0.0, 0.0])
    if any(example.other for examples in lists for example in examples):
        filler = filler._replace(other=filler)
    lists = [sorted(examples, key=lambda example: -width(example)) for examples in lists]
    depth = -(-max(map(len, lists)) // world) * world
    lists = [examples + [filler] * (depth - len(examples)) for examples in lists]
    start = 0
    while start < depth:
        T = max(2, max(width(examples[start]) for examples in lists))
        b = max(1, min((depth - start) // world, budget // (T * len(lists))))      # rows of each process
        end = start + b * world
        rows = [example for examples in lists for example in examples[start + rank:end:world]]
        yield pad(rows, len(lists), torch.arange(len(lists)).repeat_interleave(b) if bank else None)
        start = end


def width(example):
    return max(len(example.ids), len(example.other.ids) if example.other else 0)


def once(example):
    """The example; one that is drawn anew at each use is drawn once, to look at."""
    return example(np.random.default_rng(0)) if callable(example) else example


def pad(rows, K, adapters):
    """Examples as a Batch. If one has a second view, all must have it, with as many supervised tokens."""
    T = max(2, max(len(row.ids) for row in rows))
    ids, weights = np.zeros((len(rows), T), np.int64), np.zeros((len(rows), T), np.float32)
    for i, row in enumerate(rows):
        ids[i, :len(row.ids)], weights[i, :len(row.weights)] = row.ids, row.weights
    batch = Batch(torch.from_numpy(ids), torch.from_numpy(weights), K, adapters,
                  lengths=tuple(len(row.ids) for row in rows), noise=tuple(row.noise for row in rows))
    if any(row.other for row in rows):
        if not all(row.other for row in rows):
            raise ValueError("some examples of a step have a second view (other) and some have none")
        other = pad([row.other for row in rows], K, adapters)
        here, there = ((view.weights[:, 1:] > 0).sum(1).tolist() for view in (batch, other))
        if here != there:
            raise ValueError(f"an example's second view must supervise as many tokens as the first one: "
                             f"{here} and {there} tokens a row")
        batch = batch._replace(other=other)
    return batch
