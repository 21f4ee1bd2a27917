"""How far an update moves the model where it says nothing new: KL(base || tuned) on neutral texts.

Only what training would pay for counts: the assistant's turns of a conversation, all of a plain text.
"""

import numpy as np
import torch

from model.loss import divergences
from newnews.batches import pad
from newnews.randomness import stream
from newnews.studies.ways import KL, TEXTS


def texts(neutral, item):
    """The examples (newnews/neutral.py) that a news item's adapter is shown, the same ones in every cell."""
    rng = np.random.default_rng(stream(KL, item.id))
    return [neutral.draw(rng) for _ in range(TEXTS)]


@torch.no_grad()
def drift(model, examples, device):
    """Mean nats a token of each example, as a list. The model carries one adapter; the base is itself
    without it. B examples, N supervised tokens."""
    batch = pad(examples, 1, None).to(device)
    keep = batch.weights[:, 1:] > 0                                                         # N of (B, T - 1)
    base = model(batch.ids[:, :-1], keep=keep, head=lambda hidden, _: hidden,
                 adapters=[-1] * len(examples))                                             # (N, D)
    nats = model(batch.ids[:, :-1], keep=keep,
                 head=lambda hidden, head: divergences(hidden, base, head))                 # (N,)
    rows = keep.nonzero()[:, 0]
    sums = nats.new_zeros(len(examples)).index_add(0, rows, nats)
    return (sums / keep.sum(1)).tolist()
