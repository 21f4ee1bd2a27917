"""Cached = uncached, on models in fp64, where "equal" means 1e-12 and no rounding can hide an error.

One sequence whole, in chunks, token by token; rows of unequal length (padded, then cut back); a shared prefix
continued twice; rows repeated, dropped, reordered; garbage beyond a row's length; overflow. Then mutations: a
wrong position, a mask that forgets the padding, a top-left causal mask must all be noticed.
"""

import pytest
import torch

from model.cache import KVCache

pytestmark = pytest.mark.usefixtures("one_thread")
BOUND = 1e-12


@pytest.fixture
def model(tiny):
    return tiny(seed=20, dtype=torch.float64, num_key_value_heads=2)


def new_cache(model, rows, capacity):
    return KVCache(model.config, rows, capacity, dtype=model.lm_head.weight.dtype)


@torch.no_grad()
def in_chunks(model, x, sizes, cache=None):
    cache = cache or new_cache(model, x.shape[0], x.shape[1])
    out = torch.cat([model(part, cache) for part in x.split(list(sizes), 1)], 1)
    assert cache.width == x.shape[1] and cache.lengths.tolist() == [x.shape[1]] * x.shape[0]
    return out


@torch.no_grad()
def ragged_error(model, seed=0):
    """Feed rows of unequal length in three ragged rounds; return the worst distance of any real token's
    logits from a plain forward pass over that row alone."""
    rounds = [(9, 4, 7, 1), (2, 5, 0, 3), (1, 1, 1, 1)]            # new tokens of each row
    total = [sum(row) for row in zip(*rounds)]
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(97, (n,), generator=generator) for n in total]
    cache = new_cache(model, 4, 9 + 5 + 1)
    held, worst = [0] * 4, 0.0
    for new in rounds:
        batch = torch.randint(97, (4, max(new)), generator=generator)     # padding: random ids, not zeros
        for b, n in enumerate(new):
            batch[b, :n] = rows[b][held[b]:held[b] + n]
        logits = model(batch, cache)
        for b, n in enumerate(new):
            alone = model(rows[b][None, :held[b] + n])[0, held[b]:]
            if n:
                worst = max(worst, float((logits[b, :n] - alone).abs().max()))
        held = [h + n for h, n in zip(held, new)]
        cache.truncate(held)
        assert cache.lengths.tolist() == held and cache.width == max(held)
    return worst


@pytest.mark.parametrize("sizes", [(12,), (1,) * 12, (5, 4, 3), (1, 11), (11, 1), (2, 1, 1, 6, 2)], ids=str)
@pytest.mark.parametrize("eager", [False, True], ids=["sdpa", "eager"])
def test_chunks(model, ids, sizes, eager):
    for block in model.model.layers:
        block.self_attn.eager = eager
    x = ids(3, 12)
    with torch.no_grad():
        whole = model(x)
    assert whole.std() > 1
    assert (in_chunks(model, x, sizes) - whole).abs().max() < BOUND


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_chunks_with_other_numbers_of_heads_in_fp32(tiny, ids, kv_heads):
    model, x = tiny(num_key_value_heads=kv_heads, num_hidden_layers=3, head_dim=10), ids(2, 40)
    with torch.no_grad():
        whole = model(x)
    assert (in_chunks(model, x, (17, 1, 1, 21)) - whole).abs().max() < 2e-5


def test_the_cache_may_be_wider_than_needed(model, ids):
    x = ids(2, 12)
    with torch.no_grad():
        whole = model(x)
    assert (in_chunks(model, x, (5, 7), new_cache(model, 2, 50)) - whole).abs().max() < BOUND


def test_ragged_rows(model):
    assert ragged_error(model) < BOUND


def test_positions_and_mask(model):
    cache = new_cache(model, 3, 8)
    positions, mask = cache.place(2)
    assert positions.tolist() == [[0, 1]] * 3 and mask is None      # a square: the flash kernels may run
    cache.lengths, cache.width = torch.tensor([3, 1, 0]), 3
    positions, mask = cache.place(2)
    assert positions.tolist() == [[3, 4], [1, 2], [0, 1]]
    assert mask.shape == (3, 1, 2, 5)
    assert mask[:, 0].int().tolist() == [[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
                                         [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]],
                                         [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]]


def test_a_shared_prefix_is_continued_twice(model, ids):
    prefix, first, second = ids(1, 6, seed=1), ids(1, 5, seed=2), ids(1, 3, seed=3)
    cache = new_cache(model, 1, 11)
    with torch.no_grad():
        model(prefix, cache)
        for tail in (first, second):
            cache.truncate([6])
            out = model(tail, cache)
            whole = model(torch.cat((prefix, tail), 1))[:, 6:]
            assert (out - whole).abs().max() < BOUND


def test_an_emptied_cache_is_as_good_as_new(model, ids):
    x, cache = ids(2, 8), new_cache(model, 2, 8)
    with torch.no_grad():
        model(ids(2, 8, seed=5), cache)
        cache.truncate([0, 0])
        assert (model(x, cache) - model(x)).abs().max() < BOUND


def test_garbage_beyond_a_row_is_never_seen(model, ids):
    x, cache = ids(2, 9), new_cache(model, 2, 12)
    with torch.no_grad():
        model(x[:, :6], cache)
        cache.truncate([6, 4])
        for b, n in enumerate((6, 4)):
            cache.keys[:, b, :, n:] = 1e4
            cache.values[:, b, :, n:] = 1e4
        out = model(x[:, 6:], cache)
        for b, n in enumerate((6, 4)):
            row = torch.cat((x[b, :n], x[b, 6:]))[None]
            assert (out[b] - model(row)[0, n:]).abs().max() < BOUND


@pytest.mark.parametrize("rows", [[0, 0, 0], [1], [2, 0], [0, 1, 2], [2, 2, 1, 0, 1]], ids=str)
def test_select(model, ids, rows):
    """Repeat, drop, reorder, on rows of unequal length; the copy and the original then go their own ways."""
    lengths = [5, 2, 4]
    x, more, other = ids(3, 5, seed=6), ids(len(rows), 3, seed=7), ids(3, 3, seed=8)
    cache = new_cache(model, 3, 8)
    with torch.no_grad():
        model(x, cache)
        cache.truncate(lengths)
        chosen = cache.select(torch.tensor(rows))
        assert chosen.lengths.tolist() == [lengths[r] for r in rows]
        out, kept = model(more, chosen), model(other, cache)
        assert chosen.lengths.tolist() == [lengths[r] + 3 for r in rows]
        assert cache.lengths.tolist() == [8, 5, 7]
        for i, r in enumerate(rows):
            whole = model(torch.cat((x[r, :lengths[r]], more[i]))[None])[0, lengths[r]:]
            assert (out[i] - whole).abs().max() < BOUND
        for r in range(3):
            whole = model(torch.cat((x[r, :lengths[r]], other[r]))[None])[0, lengths[r]:]
            assert (kept[r] - whole).abs().max() < BOUND


def test_select_on_an_empty_cache(model, ids):
    x = ids(3, 4)
    cache = new_cache(model, 1, 4).select(torch.zeros(3, dtype=torch.int64))
    with torch.no_grad():
        assert (model(x, cache) - model(x)).abs().max() < BOUND


def test_overflow(model, ids):
    x, cache = ids(2, 9), new_cache(model, 2, 8)
    with torch.no_grad():
        with pytest.raises(ValueError, match="8 tokens a row; 0 \\+ 9 do not fit"):
            model(x, cache)
        model(x[:, :5], cache)
        before = cache.keys.clone()
        with pytest.raises(ValueError, match="5 \\+ 4 do not fit"):
            model(x[:, 5:], cache)
        assert torch.equal(cache.keys, before) and cache.lengths.tolist() == [5, 5] and cache.width == 5
        out = model(x[:, 5:8], cache)                               # what fits, to the last column
        assert (out - model(x[:, :8])[:, 5:]).abs().max() < BOUND
        with pytest.raises(ValueError):
            model(x[:, 8:], cache)


def test_shape_and_dtype(tiny):
    model = tiny(num_key_value_heads=2, head_dim=10, num_hidden_layers=3)
    cache = KVCache(model.config, 4, 7, dtype=torch.bfloat16)
    assert cache.keys.shape == cache.values.shape == (3, 4, 2, 7, 10)
    assert cache.keys.dtype == cache.values.dtype == torch.bfloat16
    assert cache.lengths.tolist() == [0] * 4 and cache.lengths.dtype == torch.int64 and cache.width == 0


# ---- mutations ----

def positions_from_the_width(self, T):
    positions, mask = right_place(self, T)
    return self.width + torch.arange(T).expand_as(positions), mask


def mask_that_forgets_padding(self, T):
    positions, mask = right_place(self, T)
    if mask is not None:
        columns = torch.arange(self.width + T)
        mask = (columns <= self.width + torch.arange(T)[:, None]).expand_as(mask)
    return positions, mask


def top_left_causal(self, T):
    return right_place(self, T)[0], (torch.ones(T, self.width + T).tril() > 0)[None, None]


def mask_without_the_last_held_token(self, T):
    positions, mask = right_place(self, T)
    if mask is not None:
        mask = mask & (torch.arange(self.width + T) != self.lengths[:, None, None] - 1)[:, None]
    return positions, mask


right_place = KVCache.place


@pytest.mark.parametrize("wrong", [positions_from_the_width, mask_that_forgets_padding, top_left_causal,
                                   mask_without_the_last_held_token], ids=lambda f: f.__name__)
def test_a_broken_line_fails_the_ragged_check(model, monkeypatch, wrong):
    assert ragged_error(model) < BOUND
    monkeypatch.setattr(KVCache, "place", wrong)
    assert ragged_error(model) > 1e-3


def test_a_select_that_forgets_the_lengths_is_noticed(model, ids):
    x = ids(2, 6)
    cache = new_cache(model, 2, 8)
    with torch.no_grad():
        model(x[:, :5], cache)
        cache.truncate([5, 2])
        wrong = cache.select(torch.tensor([1, 0]))
        wrong.lengths = cache.lengths.clone()
        whole = model(torch.cat((x[1, :2], x[0, 5:]))[None])[0, 2:]
        right = cache.select(torch.tensor([1, 0]))
        assert (model(x[:, 5:], right)[0] - whole).abs().max() < BOUND
        assert (model(x[:, 5:], wrong)[0] - whole).abs().max() > 1e-3


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("T", [1, 3])
def test_grouped_queries_are_the_slow_twin(tiny, kv_heads, T):
    """Heads side by side as queries of their key head = every head with its own copy of the keys, spelt out;
    rows of unequal length, so each has its own mask."""
    attention = tiny(dtype=torch.float64, num_key_value_heads=kv_heads).model.layers[0].self_attn
    generator = torch.Generator().manual_seed(9)
    q, k, v = (torch.randn(3, heads, tokens, 6, generator=generator, dtype=torch.float64)
               for heads, tokens in ((4, T), (kv_heads, 9), (kv_heads, 9)))
    last = torch.tensor([2, 6, 5])[:, None] + torch.arange(T)
    mask = (torch.arange(9) <= last[:, :, None])[:, None]           # (3, 1, T, 9)
    wanted = attention.eager_attention(q, k, v, mask)
    found = attention.fused_attention(q, k, v, mask)
    assert found.shape == wanted.shape == (3, 4, T, 6)
    assert (found - wanted).abs().max() < BOUND < 1e-2 < (wanted[:, 0] - wanted[:, 1]).abs().max()
