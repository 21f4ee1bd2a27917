"""Decoding on a GPU: some steps between two looks at what was drawn, each a replay of one CUDA graph.

A step of the 0.5B shape is 900 operations (counted on a CPU, views left out). Started one by one they keep
the CPU busy for many times what the GPU needs for them, and a look at every token (has the row ended?) makes
the GPU wait for the answer. So a step, drawing a token of each row and reading it, is captured once for the
rows that decode together, and replayed; rows that end in the middle of a stride draw on, for nothing, until
its end. All columns of the cache take part, masked by each row's length, since a graph's shapes are fixed.
"""

import numpy as np
import torch

from model.drawing import pick_at, uniforms
from model.lora import arrange

SIDES = {}          # {device: the stream on which graphs are recorded}: one, since a pool's memory is kept by
                    # stream (a new one for each graph reuses nothing: 97 GB, docs/log.md). Two owners of
                    # graphs must not live at once: freeing one may clear what both share of cuBLAS
STRIDE = 8          # steps between two looks; a row that has ended wastes half of it on average


def in_strides(model):
    """On a GPU; not with hooks on the model, whose Python a replay does not run (capture.py, dense.py)."""
    return model.lm_head.weight.is_cuda and not any(m._forward_hooks or m._forward_pre_hooks
                                                    for m in model.modules())


class Strides:
    """The steps of rows that decode together. Owns nothing but what a graph must find in its place again:
    cache, logits (B, V) and seen (B, V) are the queue's own, and are moved on in place."""

    def __init__(self, model, cache, logits, seen, adapters, sampling):
        self.model, self.cache, self.logits, self.seen, self.sampling = model, cache, logits, seen, sampling
        B, device = len(logits), logits.device
        # arranged once; a list of -1 arranges to None, which the model would take for adapter 0
        self.rows = arrange(adapters, B, model.model.bank, device) or adapters
        self.u = torch.zeros(STRIDE, B, dtype=torch.float64, device=device)        # each step's noise
        self.drawn = torch.zeros(STRIDE, B, dtype=torch.int64, device=device)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)                 # the step in the stride
        self.graph, self.begun = None, False

    def take(self, streams, ages, room):
        """m <= `room` tokens more of each row, (m, B). streams, ages (B,): as for `pick`."""
        m, width = min(STRIDE, room), self.cache.width
        if self.sampling.temperature:
            steps = [uniforms(self.sampling.seed, streams, ages + np.uint64(i)) for i in range(m)]
            self.u[:m] = torch.from_numpy(np.stack(steps))
        self.at.zero_()
        for _ in range(m):
            self.advance()
        self.cache.width = width + m
        return self.drawn[:m].clone()

    def step(self):
        """Draw a token of each row and read it; everything on the device, in tensors that stay."""
        u = self.u.index_select(0, self.at)[0]
        tokens = pick_at(self.logits, self.sampling, u, self.seen)                 # (B,)
        self.drawn.index_copy_(0, self.at, tokens[None])
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        self.cache.width = self.cache.keys.shape[3] - 1         # all columns: a graph's shapes are fixed
        self.logits.copy_(self.model(tokens[:, None], self.cache, adapters=self.rows)[:, -1])
        self.at += 1

    def advance(self):
        """The first step runs as it is, which warms up what may not start while a graph is recorded."""
        if self.begun and self.graph is None and self.logits.is_cuda:
            self.graph = record(self.step, self.logits.device)
        self.begun = True
        if self.graph is None:
            self.step()
        else:
            self.graph.replay()


def record(step, device, pool=None):
    """A CUDA graph of step(), which is recorded and not run. pool: another graph's, to share the memory of
    what is made on the way; the two must never run at once, and that one must be alive."""
    if device not in SIDES:
        SIDES[device] = torch.cuda.Stream(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph, pool=pool, stream=SIDES[device]):
        step()
    return graph
