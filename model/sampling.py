"""Sampling: prefill once, decode many; and scoring given answers the same way.

All prompts of a call share what they have in common: equal prompts are prefilled once, and so is the
longest prefix that the different ones share (one news item before many questions). Then rows decode
together, and finished rows leave.
"""

from dataclasses import dataclass

import numpy as np
import torch

from model.cache import KVCache


@dataclass(frozen=True)
class Sampling:
    """How to pick a token. Applied in transformers' order: penalty, temperature, top-k, top-p."""
    max_new_tokens: int = 64
    temperature: float = 1.0            # 0: the most likely token
    top_k: int = 0                      # 0: off
    top_p: float = 1.0                  # 1: off
    repetition_penalty: float = 1.0     # 1: off; divides (negative: multiplies) logits of tokens already in
                                        # the row
    seed: int = 0

    def __post_init__(self):
        for name, ok in (("max_new_tokens", self.max_new_tokens >= 1), ("temperature", self.temperature >= 0),
                         ("top_k", self.top_k >= 0), ("top_p", 0 < self.top_p <= 1),
                         ("repetition_penalty", self.repetition_penalty > 0)):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} is out of range")


@dataclass(frozen=True)
class Completion:
    ids: list[int]          # without the stop id
    stopped: bool           # False: cut at max_new_tokens


def uniforms(seed, streams, step):
    """One float64 in [0, 1) per stream: a hash of (seed, stream, step), so a row's noise depends on
    nothing else, neither on its batch nor on a resume. splitmix64's finaliser (Steele et al. 2014) folded
    over the three numbers."""
    with np.errstate(over="ignore"):
        z = np.zeros(len(streams), np.uint64)
        for part in (np.uint64(seed % 2 ** 64), np.asarray(streams, np.uint64), np.uint64(step)):
            z = z + part + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0 ** -53


def token_probabilities(logits, sampling, seen=None):
    """logits (B, V) -> the distribution that is sampled, (B, V) fp32.
    seen (B, V) bool: tokens in the row so far."""
    logits = logits.float()
    if sampling.repetition_penalty != 1.0:
        penalised = torch.where(logits < 0, logits * sampling.repetition_penalty,
                                logits / sampling.repetition_penalty)
        logits = torch.where(seen, penalised, logits)
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(-1, keepdim=True), 1.0)
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
    """The next token of each row, (B,) int64: the inverse CDF at the row's uniform
    (greedy needs no noise)."""
    probabilities = token_probabilities(logits, sampling, seen)
    if sampling.temperature == 0:
        return probabilities.argmax(-1)
    cdf = probabilities.double().cumsum(-1)
    u = torch.from_numpy(uniforms(sampling.seed, streams, step)).to(cdf.device)[:, None] * cdf[:, -1:]
    return torch.searchsorted(cdf, u, right=True)[:, 0]     # right: a token of probability 0 is never hit


def pad(rows, device):
    """Ragged lists of ids -> (B, T) int64, zeros on the right."""
    out = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for i, row in enumerate(rows):
        out[i, :len(row)] = torch.tensor(row)
    return out.to(device)


def check_context(config, prompts, new_tokens):
    longest = max(map(len, prompts), default=0)
    if longest + new_tokens > config.max_position_embeddings:
        raise ValueError(f"a prompt of {longest} tokens and {new_tokens} new ones do not fit "
                         f"the model's context of {config.max_position_embeddings}")


def prefill(model, prompts, new_tokens):
    """Fill a cache with `prompts` (lists of ids), room left for new_tokens.
    Returns it and the last logits, (B, V)."""
    check_context(model.config, prompts, new_tokens)
    if not prompts or min(map(len, prompts)) == 0:
        raise ValueError("cannot sample from an empty prompt")
    device, dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
    unique = list(dict.fromkeys(map(tuple, prompts)))
    shared = common_prefix(unique)
    cache = KVCache(model.config, 1, max(map(len, unique)) + new_tokens, device, dtype)
    if shared:
        model.model(torch.tensor([unique[0][:shared]], device=device), cache)
    if len(unique) > 1:
        cache = cache.select(torch.zeros(len(unique), dtype=torch.int64, device=device))
    rest = [p[shared:] for p in unique]
    hidden = model.model(pad(rest, device), cache)                          # (U, T, D)
    cache.truncate([len(p) for p in unique])
    last = torch.tensor([len(p) - 1 for p in rest], device=device)
    logits = model.lm_head(hidden[torch.arange(len(unique), device=device), last])      # (U, V)
    if not bool(logits.isfinite().all()):
        raise ValueError("the model's logits are not finite: NaN or inf in its weights?")
    if len(unique) < len(prompts):
        index = {p: i for i, p in enumerate(unique)}
        rows = torch.tensor([index[tuple(p)] for p in prompts], device=device)
        cache, logits = cache.select(rows), logits[rows]
    return cache, logits


def common_prefix(prompts):
    """How many first tokens all prompts share, the last token of the shortest left out:
    it must give logits."""
    low, high = min(prompts), max(prompts)          # the two that differ first, in lexical order
    limit = min(map(len, prompts)) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


@torch.inference_mode()
def generate(model, prompts, stop_ids, sampling, streams=None):
    """Continue each prompt (a list of ids) until a stop id or max_new_tokens; one Completion a prompt.

    For n samples of one prompt give it n times: it is prefilled once. streams (ints below 2^64, one a row)
    name each row's noise; the default is its index.
    """
    cache, logits = prefill(model, prompts, sampling.max_new_tokens)
    streams = np.arange(len(prompts)) if streams is None else np.asarray(streams, np.uint64)
    seen = None
    if sampling.repetition_penalty != 1.0:
        seen = torch.zeros_like(logits, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            seen[row, torch.tensor(prompt, device=seen.device)] = True
    out = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    rows = list(range(len(prompts)))                # which prompt each row of the cache continues
    for step in range(sampling.max_new_tokens):
        tokens = pick(logits, sampling, streams[rows], step, seen)          # (rows,)
        for row, token in zip(rows, tokens.tolist()):
            if token in stop_ids:
                stopped[row] = True
            elif not stopped[row]:
                out[row].append(token)
        keep = [i for i, row in enumerate(rows) if not stopped[row]]
        if not keep or step + 1 == sampling.max_new_tokens:
            break
        # finished rows leave, a quarter at a time: leaving copies the cache
        if len(keep) <= 0.75 * len(rows):
            index = torch.tensor(keep, device=tokens.device)
            cache, tokens, rows = cache.select(index), tokens[index], [rows[i] for i in keep]
            seen = None if seen is None else seen[index]
        if seen is not None:
            seen.scatter_(1, tokens[:, None], True)
        logits = model.lm_head(model.model(tokens[:, None], cache)[:, -1])
    return [Completion(ids, end) for ids, end in zip(out, stopped)]


@torch.inference_mode()
def generate_naive(model, prompt, stop_ids, sampling, stream=0):
    """The oracle of `generate`: one row, no cache, every token from a full forward pass. Slow on purpose."""
    ids = list(prompt)
    for step in range(sampling.max_new_tokens):
        logits = model(torch.tensor([ids], device=model.lm_head.weight.device))[:, -1]
        seen = torch.zeros_like(logits, dtype=torch.bool)
        seen[0, torch.tensor(ids, device=seen.device)] = True
        token = int(pick(logits, sampling, [stream], step, seen))
        if token in stop_ids:
            return Completion(ids[len(prompt):], True)
        ids.append(token)
    return Completion(ids[len(prompt):], False)


@torch.inference_mode()
def score(model, prompts, continuations):
    """Log-probability in nats of each token of continuations[i] after prompts[i]: a list of floats a row."""
    cache, logits = prefill(model, prompts, max(map(len, continuations)))
    device = logits.device
    targets = pad(continuations, device)                                    # (B, T)
    logprobs = [logits.float().log_softmax(-1).gather(1, targets[:, :1])]
    if targets.shape[1] > 1:
        hidden = model.model(targets[:, :-1], cache)                        # (B, T-1, D)
        for t in range(hidden.shape[1]):            # one position at a time: (B, V), not (B, T, V)
            logprobs.append(model.lm_head(hidden[:, t]).float().log_softmax(-1)
                            .gather(1, targets[:, t + 1:t + 2]))
    table = torch.cat(logprobs, 1).tolist()
    return [row[:len(c)] for row, c in zip(table, continuations)]
