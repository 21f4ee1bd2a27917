"""Sampling: prefill once, decode many; and scoring given answers the same way.

All prompts of a call share what they have in common: equal prompts are prefilled once, and so is the
longest prefix that the different ones share (one news item before many questions). Then rows decode
together, and finished rows leave. Each row may use an adapter of its own, or none: base and tuned side by
side are one call. More rows than fit the memory set aside for keys and values go one portion after another.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from model.cache import KVCache, rows_at_once
from model.loss import token_losses


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
    """logits (B, V) -> the distribution that is sampled, (B, V) fp32.
    seen (B, V) bool: tokens in the row so far."""
    logits = penalised(logits.float(), sampling, seen)
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(-1, keepdim=True), 1.0)
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
    if sampling.temperature == 0:
        return penalised(logits.float(), sampling, seen).argmax(-1)
    probabilities = token_probabilities(logits, sampling, seen)
    # fp64, because fp32 sums over 152k tokens lose the rare ones; on the CPU where the device has no fp64
    device = probabilities.device if has_float64(probabilities.device) else torch.device("cpu")
    u = torch.from_numpy(uniforms(sampling.seed, streams, step)).to(device)
    return inverse_cdf(probabilities.to(device), u).to(probabilities.device)


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


def has_float64(device):
    return device.type != "mps"


def pad(rows, device):
    """Ragged lists of ids -> (B, T) int64, zeros on the right."""
    out = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for i, row in enumerate(rows):
        out[i, :len(row)] = torch.tensor(row)
    return out.to(device)


def at_once(model, prompts, new_tokens, adapters, rows):
    """How many rows go together (`rows`, or as many as fit model.cache.CACHE_BYTES), and the adapters as a
    list. Refuses empty prompts, and a row whose prompt and new tokens do not fit the model's context."""
    if not prompts or min(map(len, prompts)) == 0:
        raise ValueError("cannot sample from an empty prompt")
    for prompt, new in zip(prompts, new_tokens):
        if len(prompt) + new > model.config.max_position_embeddings:
            raise ValueError(f"a prompt of {len(prompt)} tokens and {new} new ones do not fit "
                             f"the model's context of {model.config.max_position_embeddings}")
    if adapters is not None and len(adapters) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts, but adapters for {len(adapters)}")
    longest = max(map(len, prompts)) + max(new_tokens)
    rows = rows or rows_at_once(model.config, longest, model.lm_head.weight.element_size())
    return rows, None if adapters is None else [int(k) for k in adapters]


def prefill(model, prompts, room, adapters=None, groups=None):
    """Fill a cache with `prompts` (lists of ids), room left for that many new tokens: `read_once`, and then a
    row for each prompt again. Returns the cache and the last logits, (B, V)."""
    cache, logits, rows = read_once(model, prompts, room, adapters, groups)
    return (cache, logits) if len(rows) == len(logits) else (cache.select(rows), logits[rows])


def read_once(model, prompts, room, adapters=None, groups=None):
    """(a cache of the U different prompts, room left for that many new tokens; their last logits, (U, V);
    the row of each prompt, (B,) int64). adapters: None, or one for each prompt.

    Equal prompts with the same adapter are one, and so is the prefix that all prompts of a group share (one
    news item before many questions). groups: a hashable for each prompt; None: all are one group.
    """
    device, dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
    # what differs: U pairs of (adapter, prompt); and the K kinds of (adapter, group) among them
    used = [None] * len(prompts) if adapters is None else adapters
    keys = list(zip(used, map(tuple, prompts)))
    kind_of = dict(zip(keys, zip(used, [0] * len(prompts) if groups is None else groups)))
    unique, kinds = list(kind_of), list(dict.fromkeys(kind_of.values()))
    shared = {kind: common_prefix([p for k, p in unique if kind_of[k, p] == kind]) for kind in kinds}
    rest = [p[shared[kind_of[k, p]]:] for k, p in unique]
    # the prefix of each kind, a row each; the longest prefix and the longest rest stand side by side a while
    capacity = max(max(len(p) for _, p in unique) + room, max(shared.values()) + max(map(len, rest)))
    cache = KVCache(model.config, len(kinds), capacity, device, dtype)
    if max(shared.values()):
        first = {kind_of[key]: key[1] for key in reversed(unique)}          # a prompt of each kind
        ids = pad([first[kind][:shared[kind]] for kind in kinds], device)   # (K, T)
        nowhere = torch.zeros(ids.shape, dtype=torch.bool, device=device)   # no logits are wanted
        model(ids, cache, keep=nowhere, adapters=[k for k, _ in kinds] if adapters is not None else None)
        cache.truncate([shared[kind] for kind in kinds])
    if len(unique) > len(kinds):
        cache = cache.select(torch.tensor([kinds.index(kind_of[key]) for key in unique], device=device))
    # the rest of each, and the logits behind its last token
    last = torch.tensor([len(p) - 1 for p in rest], device=device)
    ids = pad(rest, device)                                                 # (U, T)
    keep = torch.arange(ids.shape[1], device=device) == last[:, None]       # (U, T), one True a row
    logits = model(ids, cache, keep=keep,
                   adapters=[k for k, _ in unique] if adapters is not None else None)       # (U, V)
    cache.truncate([len(p) for _, p in unique])
    if not bool(logits.isfinite().all()):
        raise ValueError(f"{getattr(model, 'name', 'the model')}: its logits are not finite: NaN or inf in "
                         f"the weights?")
    place = {key: i for i, key in enumerate(unique)}
    return cache, logits, torch.tensor([place[key] for key in keys], device=device)


def common_prefix(prompts):
    """How many first tokens all prompts share; not the last of the shortest: it must give logits."""
    low, high = min(prompts), max(prompts)          # the two that differ first, in lexical order
    limit = min(map(len, prompts)) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


@torch.inference_mode()
def generate(model, prompts, stop_ids, sampling, streams=None, adapters=None, rows=None, groups=None):
    """Continue each prompt (a list of ids) until a stop id or max_new_tokens; one Completion a prompt.

    For n samples of one prompt give it n times: it is prefilled once. streams (ints below 2^64, one a row)
    name each row's noise; the default is its index. adapters (ints, one a row): which adapter continues the
    row, -1 for the base. rows: how many decode together, by default what fits model.cache.CACHE_BYTES; the
    place of a row that has ended goes to the next prompt. groups: as in `prefill`.
    """
    rows, adapters = at_once(model, prompts, [sampling.max_new_tokens] * len(prompts), adapters, rows)
    streams = np.arange(len(prompts)) if streams is None else np.asarray(streams, np.uint64)
    queue = Queue(model, prompts, sampling, adapters, groups)
    while queue.fill(rows):
        # draw a token for each row, and note it
        tokens = pick(queue.logits, sampling, streams[queue.rows], queue.ages, queue.seen)      # (rows,)
        for row, token in zip(queue.rows, tokens.tolist()):
            queue.note(row, token, stop_ids)
        # ended rows leave; the others read their token
        tokens = queue.leave(tokens)
        if queue.rows:
            queue.read(tokens)
    return [Completion(ids, end) for ids, end in zip(queue.out, queue.stopped)]


class Queue:
    """The rows of a call to `generate`: which wait, which decode, which have ended.

    rows    the prompts (their numbers) whose rows are in the cache, in its order
    ages    tokens that each of these rows has drawn since its prompt
    logits  (rows, V) of the next token of each
    seen    (rows, V) bool, tokens in each row so far, where a repetition penalty asks for them; else None
    """

    def __init__(self, model, prompts, sampling, adapters, groups):
        self.model, self.prompts, self.limit = model, prompts, sampling.max_new_tokens
        self.adapters, self.groups = adapters, groups
        self.penalty = sampling.repetition_penalty != 1.0
        self.out, self.stopped = [[] for _ in prompts], [False] * len(prompts)
        self.ended, self.begun = [False] * len(prompts), 0
        self.rows, self.ages = [], np.zeros(0, np.uint64)
        self.cache = self.logits = self.seen = None

    def fill(self, most):
        """Prefill waiting prompts into free places, a quarter of all at a time: joining copies the cache.
        False if nothing is left to do."""
        free = most - len(self.rows)
        new = list(range(self.begun, min(self.begun + free, len(self.prompts))))
        if new and (not self.rows or free >= most / 4):
            prompts = [self.prompts[i] for i in new]
            cache, logits = prefill(self.model, prompts, self.limit,
                                    self.adapters and [self.adapters[i] for i in new],
                                    self.groups and [self.groups[i] for i in new])
            seen = tokens_of(prompts, logits) if self.penalty else None
            if self.rows:
                cache, logits = self.cache.join(cache), torch.cat((self.logits, logits))
                seen = torch.cat((self.seen, seen)) if self.penalty else None
            self.cache, self.logits, self.seen = cache, logits, seen
            self.rows, self.begun = self.rows + new, new[-1] + 1
            self.ages = np.concatenate((self.ages, np.zeros(len(new), np.uint64)))
        return bool(self.rows)

    def note(self, row, token, stop_ids):
        """A row that has ended stays a while and draws on, for nothing."""
        if self.ended[row]:
            return
        if token in stop_ids:
            self.stopped[row] = self.ended[row] = True
        else:
            self.out[row].append(token)
            self.ended[row] = len(self.out[row]) == self.limit

    def leave(self, tokens):
        """Drop ended rows, once they are a quarter of the rows (leaving copies the cache), or one of them has
        no room left. Returns the tokens of those that stay."""
        self.ages = self.ages + np.uint64(1)
        keep = [i for i, row in enumerate(self.rows) if not self.ended[row]]
        full = any(self.ended[row] and age >= self.limit for row, age in zip(self.rows, self.ages))
        if len(keep) > 0.75 * len(self.rows) and not full:
            return tokens
        self.rows, self.ages = [self.rows[i] for i in keep], self.ages[keep]
        if keep:
            index = torch.tensor(keep, device=tokens.device)
            self.cache, self.logits, tokens = self.cache.select(index), self.logits[index], tokens[index]
            self.seen = self.seen[index] if self.penalty else None
        return tokens

    def read(self, tokens):
        """Each row reads its token: the logits of the next."""
        if self.penalty:
            self.seen.scatter_(1, tokens[:, None], True)
        used = None if self.adapters is None else [self.adapters[row] for row in self.rows]
        self.logits = self.model(tokens[:, None], self.cache, adapters=used)[:, -1]


def tokens_of(prompts, logits):
    """(B, V) bool: which tokens are in each prompt."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        seen[row, torch.tensor(prompt, device=seen.device)] = True
    return seen


@torch.inference_mode()
def generate_naive(model, prompt, stop_ids, sampling, stream=0, adapter=None):
    """The oracle of `generate`: one row, no cache, every token from a full forward pass. Slow on purpose."""
    ids, adapters = list(prompt), None if adapter is None else [adapter]
    for step in range(sampling.max_new_tokens):
        logits = model(torch.tensor([ids], device=model.lm_head.weight.device), adapters=adapters)[:, -1]
        token = int(pick(logits, sampling, [stream], step, tokens_of([ids], logits)))
        if token in stop_ids:
            return Completion(ids[len(prompt):], True)
        ids.append(token)
    return Completion(ids[len(prompt):], False)


@torch.inference_mode()
def score(model, prompts, continuations, adapters=None, rows=None, groups=None):
    """Log-probability in nats of each token of continuations[i] after prompts[i]: a list of floats a row.
    adapters, rows and groups as in `generate`."""
    rows, adapters = at_once(model, prompts, list(map(len, continuations)), adapters, rows)
    out = []
    for i in range(0, len(prompts), rows):
        part = slice(i, i + rows)
        out += score_rows(model, prompts[part], continuations[part], adapters and adapters[part],
                          groups and groups[part])
    return out


def score_rows(model, prompts, continuations, adapters, groups):
    """`score` for rows that are read together: the tokens after the first (a letter has none) go second."""
    room = max(map(len, continuations), default=0)
    cache, logits, places = read_once(model, prompts, room, adapters, groups)
    targets = pad(continuations, logits.device)                             # (B, T)
    first = logits.float().log_softmax(-1)[places[:, None], targets[:, :1]].tolist()
    out = [some[:len(c)] for some, c in zip(first, continuations)]
    longer = [row for row, c in enumerate(continuations) if len(c) > 1]
    if longer:
        rest = [len(continuations[row]) - 1 for row in longer]
        rows = torch.tensor(longer, device=places.device)
        ids, targets = targets[rows, :-1], targets[rows, 1:]                # (N, T-1)
        keep = torch.arange(room - 1, device=ids.device) < torch.tensor(rest, device=ids.device)[:, None]
        losses = model(ids, cache.select(places[rows]), keep=keep,
                       head=lambda hidden, lm_head: token_losses(hidden, targets[keep], lm_head),
                       adapters=adapters and [adapters[row] for row in longer])
        for row, some in zip(longer, (-losses).split(rest)):
            out[row] += some.tolist()
    return out
