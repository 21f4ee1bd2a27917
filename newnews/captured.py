"""Training on a GPU: loss and backward of a micro-batch as a CUDA graph, recorded once a shape and replayed.

A step at 24 layers with a bank of adapters is 5,500 operations (counted on a CPU, views left out). Started
one by one from Python they take longer than the GPU needs for thousands of tokens. A graph's shapes are
fixed, so rows are padded to a multiple of TOKENS, and the supervised positions, which alone meet the head, to
a multiple of an eighth of all positions. Gradients are added to parameter.grad, in place; where that is no
buffer that stays (newnews/optimizer.py: give_sums), or weights are gathered on the way (sharded), nothing is.

    B rows      T padded length     N padded number of supervised positions     K learners
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from model.loss import token_losses
from model.strides import record

TOKENS = 16         # at least this many tokens a shape apart: few shapes, little padding


class Fixed(NamedTuple):
    """A newnews.batches.Batch in a fixed shape."""
    ids: torch.Tensor       # (B, T) int64, what the model reads
    places: torch.Tensor    # (N,) int64, supervised positions in (B T); padding is position 0 with weight 0
    targets: torch.Tensor   # (N,) int64
    weights: torch.Tensor   # (N,) fp32
    groups: torch.Tensor    # (N,) int64, the learner


def fixed(batch):
    """Batch -> Fixed, on the CPU."""
    ids, targets, weights = batch.ids[:, :-1], batch.ids[:, 1:], batch.weights[:, 1:]
    B, T = ids.shape
    wide = -(-T // TOKENS) * TOKENS
    rows, columns = (weights > 0).nonzero(as_tuple=True)                    # (n,) each
    eighth = -(-B * wide // 8)
    more = (0, -len(rows) % eighth if len(rows) else eighth)
    return Fixed(F.pad(ids, (0, wide - T)), F.pad(rows * wide + columns, more),
                 F.pad(targets[rows, columns], more), F.pad(weights[rows, columns], more),
                 F.pad(rows // (B // batch.K), more))


def sums(model, x, K, adapters):
    """What newnews.training.next_token gives of the same batch: the weighted sum of losses, (K,)."""
    def head(hidden, lm_head):
        return token_losses(hidden, x.targets, lm_head, add=lm_head.weight.grad is not None)

    losses = model(x.ids, keep=x.places, head=head, adapters=adapters) * x.weights          # (N,)
    return losses.new_zeros(K).index_add(0, x.groups, losses)


@dataclass
class Shape:
    """What the graph of a shape finds in its place at every replay."""
    x: Fixed
    scale: torch.Tensor             # (K,)
    graph: object = None            # torch.cuda.CUDAGraph, from the second batch on
    part: torch.Tensor = None       # (K,), written by a replay, overwritten by the next


class Graphs:
    """Calls add the gradients of (sums / scale).sum() and return sums / scale, (K,), without its graph, good
    until the next call. A shape is recorded when it comes for the second time: the first one runs as it is,
    and warms up."""

    def __init__(self, model):
        self.model, self.shapes, self.pool = model, {}, None

    def __call__(self, batch, scale):
        new = fixed(batch)
        key = new.ids.shape, len(new.places), batch.K
        if key not in self.shapes:                      # the first: its tensors stay, for those that follow
            on_device = Fixed(*(t.to(scale.device) for t in new))
            shape = self.shapes[key] = Shape(on_device, scale.clone())
            return self.backward(shape, batch)
        shape = self.shapes[key]
        for mine, its in zip((*shape.x, shape.scale), (*new, scale)):
            mine.copy_(its)
        if not scale.is_cuda:
            return self.backward(shape, batch)
        if shape.graph is None:
            def step():
                shape.part = self.backward(shape, batch)
            shape.graph = record(step, scale.device, self.pool)
            self.pool = shape.graph.pool()
        shape.graph.replay()
        return shape.part

    def backward(self, shape, batch):
        part = sums(self.model, shape.x, batch.K, batch.adapters) / shape.scale
        part.sum().backward()
        return part.detach()
