"""Sampling: prefill once, decode many; and scoring given answers the same way.

All prompts of a call share what they have in common: equal prompts are prefilled once, and so is the
longest prefix that the different ones share (one news item before many questions). Then rows decode
together, and finished rows leave. Each row may use an adapter of its own, or none: base and tuned side by
side are one call. More rows than fit the memory set aside for keys and values go one portion after another.
"""

from dataclasses import dataclass

import numpy as np
import torch

from model.cache import KVCache, rows_at_once
from model.drawing import pick
from model.loss import token_losses
from model.strides import Strides, in_strides


@dataclass(frozen=True)
class Completion:
    ids: list[int]          # without the stop id
    stopped: bool           # False: cut at max_new_tokens


def pad(rows, device):
    """Ragged lists of ids -> (B, T) int64, zeros on the right."""
    out = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for i, row in enumerate(rows):
        out[i, :len(row)] = torch.tensor(row)
    return out.to(device)


def check_fits(config, read, new):
    """Refuses a prompt of `read` tokens that does not fit the model's context with `new` tokens behind it."""
    if read + new > config.max_position_embeddings:
        raise ValueError(f"a prompt of {read} tokens and {new} new ones do not fit the model's context of "
                         f"{config.max_position_embeddings}")


def at_once(model, prompts, new_tokens, adapters, rows=None):
    """How many rows go together (`rows`, or as many as fit model.cache.CACHE_BYTES), and the adapters as a
    list. Refuses empty prompts, and a row whose prompt and new tokens do not fit the model's context."""
    if not prompts or min(map(len, prompts)) == 0:
        raise ValueError("cannot sample from an empty prompt")
    for prompt, new in zip(prompts, new_tokens):
        check_fits(model.config, len(prompt), new)
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
    place of a row that has ended goes to the next prompt. groups: as in `read_once`.
    """
    rows, adapters = at_once(model, prompts, [sampling.max_new_tokens] * len(prompts), adapters, rows)
    streams = np.arange(len(prompts)) if streams is None else np.asarray(streams, np.uint64)
    queue = Queue(model, prompts, sampling, adapters, groups)
    strides = in_strides(model)
    while queue.fill(rows):
        # draw a token for each row, or some and read them, and note them
        if strides:
            drawn = queue.stride(sampling, streams)                                             # (m, rows)
        else:
            drawn = pick(queue.logits, sampling, streams[queue.rows], queue.ages, queue.seen)[None]
        for tokens in drawn.tolist():
            for row, token in zip(queue.rows, tokens):
                queue.note(row, token, stop_ids)
        # ended rows leave; the others read their token
        tokens = queue.leave(drawn)
        if queue.rows and not strides:
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
        self.cache = self.logits = self.seen = self.strides = None

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

    def leave(self, drawn):
        """Drop ended rows, once they are a quarter of the rows (leaving copies the cache), or one of them has
        no room left. drawn (m, rows): m tokens of each. Returns the last of those that stay."""
        self.ages, tokens = self.ages + np.uint64(len(drawn)), drawn[-1]
        keep = [i for i, row in enumerate(self.rows) if not self.ended[row]]
        full = any(self.ended[row] and age >= self.limit for row, age in zip(self.rows, self.ages))
        if len(keep) > 0.75 * len(self.rows) and not full:
            return tokens
        self.drop_strides()
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
        self.logits = self.model(tokens[:, None], self.cache, adapters=self.used())[:, -1]

    def used(self):
        return None if self.adapters is None else [self.adapters[row] for row in self.rows]

    def stride(self, sampling, streams):
        """On a GPU: draw and read some tokens of each row, (m, rows), at most as many as the oldest has room
        for."""
        if self.strides is None:
            self.strides = Strides(self.model, self.cache, self.logits, self.seen, self.used(), sampling)
        return self.strides.take(streams[self.rows], self.ages, self.limit - int(self.ages.max()))

    def drop_strides(self):
        """Before rows leave, and so before others come. A graph has a pool of memory (2 GB at 200 rows and
        V = 152k), which serves nobody else after its end until the allocator's cache is emptied."""
        if self.strides is not None:
            self.strides = None
            torch.cuda.empty_cache()


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
def score(model, prompts, continuations, adapters=None, groups=None):
    """Log-probability in nats of each token of continuations[i] after prompts[i]: a list of floats a row.
    adapters and groups as in `generate`."""
    rows, adapters = at_once(model, prompts, list(map(len, continuations)), adapters)
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
