"""Next-token loss on chosen positions, in chunks: the logits of a whole batch never exist."""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

CHUNK_NUMBERS = 2 ** 26         # logits at a time: 256 MB in fp32


def token_losses(hidden, targets, head, chunk=None):
    """Negative log-likelihood in nats of each target: hidden (N, D), targets (N,) -> (N,), at least fp32.

    hidden holds only the positions that carry loss. `chunk` of them at a time go through the head, and
    backward computes those logits again instead of keeping them. By default a chunk's logits are
    CHUNK_NUMBERS: 441 positions at Qwen2.5's V = 152k, and everything at once for a pocket model.
    """
    chunk = chunk or max(1, CHUNK_NUMBERS // head.weight.shape[0])

    def one(h, t):
        logits = head(h)                                                                 # (chunk, V)
        return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), t,
                               reduction="none")

    if hidden.shape[0] <= chunk:
        return one(hidden, targets)
    return torch.cat([checkpoint(one, h, t, use_reentrant=False)
                      for h, t in zip(hidden.split(chunk), targets.split(chunk))])
