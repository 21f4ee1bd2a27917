"""Losses on chosen positions, in chunks: the logits of a whole batch never exist."""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

CHUNK_NUMBERS = 2 ** 26         # logits at a time: 256 MB in fp32


def token_losses(hidden, targets, head, add=False):
    """Negative log-likelihood in nats of each target: hidden (N, D), targets (N,) -> (N,), at least fp32.

    hidden holds only the positions that carry loss. A chunk of them at a time goes through the head, and
    backward computes those logits again instead of keeping them. A chunk's logits are CHUNK_NUMBERS: 441
    positions at Qwen2.5's V = 152k, and everything at once for a pocket model.
    add: backward itself adds the head's gradient to head.weight.grad, which must be there (`AddingHead`).
    """
    chunk = max(1, CHUNK_NUMBERS // head.weight.shape[0])
    if add:
        return AddingHead.apply(hidden, head.weight, targets, max(1, chunk // 2))

    def one(h, t):
        return F.cross_entropy(wide(head(h)), t, reduction="none")                       # of (chunk, V)

    return in_chunks(one, hidden, targets, chunk)


class AddingHead(torch.autograd.Function):
    """`token_losses` of a head that learns: its gradient is added to weight.grad a chunk at a time. As
    autograd has it, every chunk gives one as large as the weight (545 MB at 0.5B), and where the weight is
    the embedding too, autograd adds those to the embedding's own out of place: three at once."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, chunk):
        ctx.save_for_backward(hidden, targets)
        ctx.weight, ctx.chunk = weight, chunk
        return torch.cat([F.cross_entropy(wide(F.linear(h, weight)), t, reduction="none")
                          for h, t in zip(hidden.split(chunk), targets.split(chunk))])

    @staticmethod
    def backward(ctx, g):
        hidden, targets = ctx.saved_tensors
        weight, dh = ctx.weight, torch.empty_like(hidden)
        for i in range(0, len(hidden), ctx.chunk):
            some = slice(i, i + ctx.chunk)
            # d loss / d logits = softmax - onehot, weighted by what comes from above; (chunk, V)
            d = wide(F.linear(hidden[some], weight)).softmax(-1)
            d[torch.arange(len(d), device=d.device), targets[some]] -= 1
            d = d.mul_(g[some, None]).to(weight.dtype)
            torch.mm(d, weight, out=dh[some])
            weight.grad.addmm_(d.T, hidden[some])
        return dh, None, None, None


def in_chunks(one, hidden, targets, chunk):
    if hidden.shape[0] <= chunk:
        return one(hidden, targets)
    return torch.cat([checkpoint(one, h, t, use_reentrant=False, preserve_rng_state=False)
                      for h, t in zip(hidden.split(chunk), targets.split(chunk))])


def divergences(hidden, teacher, head, reverse=False, top=None):
    """KL divergence in nats between the next-token distributions of a teacher and a student at each position:
    their last hidden states (N, D) each, behind one head -> (N,), at least fp32. No gradient to the teacher.

    reverse  False: KL(teacher || student), which wants the student to cover all that the teacher might say;
             True: KL(student || teacher), which wants it to say nothing that the teacher would not
    top      compare only the teacher's `top` most likely tokens, and what is left as one outcome more
    """
    chunk = max(1, CHUNK_NUMBERS // 2 // head.weight.shape[0])      # two sets of logits are alive at once

    def one(h, t):
        q, p = (wide(head(x)).log_softmax(-1) for x in (h, t))                           # (chunk, V)
        p = p.detach()
        if top:
            best = p.topk(min(top, p.shape[-1])).indices
            q, p = (with_rest(x.gather(-1, best)) for x in (q, p))                       # (chunk, top + 1)
        if reverse:
            p, q = q, p
        return (p.exp() * (p - q)).sum(-1)

    return in_chunks(one, hidden, teacher, chunk)


def with_rest(logprobs):
    """Log-probabilities of some outcomes, and of all others together: (N, n) -> (N, n + 1)."""
    rest = (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=1e-9)       # of fp32's rounding, 1e-7
    return torch.cat((logprobs, rest.log()), -1)


def wide(logits):
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
