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

SIDES = {}          # {device: the stream on which graphs are captured}: one, since memory is kept by stream
STRIDE = 8          # steps between two looks; a row that has ended wastes half of it on average


def in_strides(model):
    return model.lm_head.weight.is_cuda


class Strides:
    """The steps of rows that decode together. Owns nothing but what a graph must find in its place again:
    cache, logits (B, V) and seen (B, V) are the queue's own, and are moved on in place."""

    def __init__(self, model, cache, logits, seen, adapters, sampling):
        self.model, self.cache, self.logits, self.seen, self.sampling = model, cache, logits, seen, sampling
        B, device = len(logits), logits.device
        off = model.model.switched_off
        self.rows = adapters if off else arrange(adapters, B, model.model.bank, device) or adapters
        self.u = torch.zeros(STRIDE, B, dtype=torch.float64, device=device)        # each step's noise
        self.drawn = torch.zeros(STRIDE, B, dtype=torch.int64, device=device)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)                 # the step in the stride
        self.graph = None

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
        self.cache.width = self.cache.keys.shape[3] - 1                            # all columns
        self.logits.copy_(self.model(tokens[:, None], self.cache, adapters=self.rows)[:, -1])
        self.at += 1

    def advance(self):
        """The first step runs as it is, which also warms up what may not start within a capture."""
        if self.graph is not None:
            return self.graph.replay()
        self.step()
        if self.logits.is_cuda:
            self.graph = captured(self.step)


def captured(step, pool=None):
    """A CUDA graph of step(), which is recorded and not run. pool: another graph's, to share the memory of
    what is made on the way; the two must never run at once, and that one must be alive."""
    device = torch.cuda.current_device()
    graph, side = torch.cuda.CUDAGraph(), SIDES.setdefault(device, torch.cuda.Stream())
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        graph.capture_begin(*() if pool is None else (pool,))
        step()
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(side)
    return graph
