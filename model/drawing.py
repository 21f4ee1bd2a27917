"""Drawing a token from logits: the settings, each row's own noise, the filters, the inverse CDF."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

BLOCK = 64          # tokens whose probabilities are added up together: of order sqrt(V)
COLDEST = 1e-4      # lower temperatures overflow fp32 logits, and would be greedy to all but an exact tie


@dataclass(frozen=True)
class Sampling:
    """How to pick a token. Applied in transformers' order: penalty, temperature, top-k, top-p."""
    max_new_tokens: int = 64
    temperature: float = 1.0            # 0: the most likely token; else at least COLDEST
    top_k: int = 0                      # 0: off
    top_p: float = 1.0                  # 1: off
    repetition_penalty: float = 1.0     # 1: off; divides (negative: multiplies) logits of tokens in the row
    seed: int = 0

    def __post_init__(self):
        warm = self.temperature == 0 or COLDEST <= self.temperature < float("inf")
        penalised = 0 < self.repetition_penalty < float("inf")
        for name, ok, want in (("max_new_tokens", 1 <= self.max_new_tokens < 2 ** 31,
                                "at least 1, below 2^31"),
                               ("temperature", warm, f"0 (greedy) or at least {COLDEST:g}"),
                               ("top_k", self.top_k >= 0, "0 (off) or more"),
                               ("top_p", 0 < self.top_p <= 1, "more than 0, at most 1 (off)"),
                               ("repetition_penalty", penalised, "more than 0"),
                               ("seed", 0 <= self.seed < 2 ** 63, "0 or more, below 2^63")):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} is out of range: expected {want}")


def uniforms(seed, streams, step):
    """One float64 in [0, 1) per stream: a hash of (seed, stream, step), so a row's noise depends on
    nothing else, neither on its batch nor on a resume. splitmix64's finaliser (Steele et al. 2014) folded
    over the three numbers."""
    with np.errstate(over="ignore"):
        z = np.zeros(len(streams), np.uint64)
        for part in (np.uint64(seed % 2 ** 64), np.asarray(streams, np.uint64), np.asarray(step, np.uint64)):
            z = z + part + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0 ** -53


def penalised(logits, sampling, seen):
    if sampling.repetition_penalty == 1.0:
        return logits
    penalty = sampling.repetition_penalty
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def token_probabilities(logits, sampling, seen=None):
    """logits (B, V) -> the distribution that is sampled, (B, V) fp32, at a temperature above 0.
    seen (B, V) bool: tokens in the row so far."""
    logits = penalised(logits.float(), sampling, seen)
    if sampling.temperature != 1:               # at V = 152k each pass over the logits counts
        logits = logits / sampling.temperature
    if sampling.top_k:
        kth = logits.topk(min(sampling.top_k, logits.shape[1]))[0][:, -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if sampling.top_p < 1:
        ascending, order = logits.sort(stable=True)         # drop the smallest while their mass is <= 1 - p
        drop = ascending.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        drop[:, -1] = False
        logits = logits.masked_fill(drop.scatter(1, order, drop), float("-inf"))
    return logits.softmax(-1)


def pick(logits, sampling, streams, step, seen=None):
    """The next token of each row, (B,) int64: the inverse CDF at the row's uniform (greedy needs none)."""
    u = None if sampling.temperature == 0 else torch.from_numpy(uniforms(sampling.seed, streams, step))
    return pick_at(logits, sampling, u, seen)


def pick_at(logits, sampling, u, seen=None):
    """`pick` at given numbers u (B,) of [0, 1), float64."""
    if sampling.temperature == 0:
        return penalised(logits.float(), sampling, seen).argmax(-1)
    probabilities = token_probabilities(logits, sampling, seen)
    # fp64, because fp32 sums over 152k tokens lose the rare ones; on the CPU where the device has no fp64
    device = torch.device("cpu") if probabilities.device.type == "mps" else probabilities.device
    return inverse_cdf(probabilities.to(device), u.to(device)).to(probabilities.device)


def inverse_cdf(probabilities, u):
    """The token of each row at which the running sum of its probabilities (B, V) passes u (B,) of the whole:
    first the block of BLOCK tokens in which it does, by fp32 sums of blocks added up in fp64, then the token
    in it. A running sum over all of 152k tokens in fp64 would take longer."""
    B, V = probabilities.shape
    blocks = F.pad(probabilities, (0, -V % BLOCK)).view(B, -1, BLOCK)
    sums = blocks.sum(-1).double()                                          # (B, V / BLOCK)
    cdf = sums.cumsum(-1)
    u = u[:, None] * cdf[:, -1:]                                            # (B, 1)
    which = torch.searchsorted(cdf, u, right=True)          # right: what has probability 0 is never hit
    mass = sums.gather(1, which)
    share = (u - cdf.gather(1, which) + mass) / mass                        # of the block, (B, 1)
    inside = blocks[torch.arange(B, device=u.device), which[:, 0]].double().cumsum(-1)      # (B, BLOCK)
    last = inside[:, -1:]
    at = (share * last).clamp(min=0).minimum(last * (1 - 2 ** -52))     # rounding must not leave the block
    return which[:, 0] * BLOCK + torch.searchsorted(inside, at, right=True)[:, 0]
