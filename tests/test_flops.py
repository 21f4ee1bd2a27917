"""The ledger against torch's own counter, and against numbers worked out by hand.

The counter sees matrix products as they run. Eager attention runs the whole square, so the causal triangle is
counted on a pass that goes token by token through a cache, where no query meets a key that it may not see;
training is counted with the ledger's `pairs` replaced by the square, and everything else as it is.
"""

import pytest
import torch
from conftest import make_config
from torch.utils.flop_counter import FlopCounterMode

from model import flops
from model.cache import KVCache
from model.capture import eager_attention
from model.flops import forward_flops, pairs, training_flops
from model.lora import PROJECTIONS, add_lora
from model.qwen2 import Qwen2Config
from newnews.batches import micro_batches
from newnews.examples import Example
from newnews.training import next_token

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = [{}, dict(tie_word_embeddings=True, num_key_value_heads=1), dict(head_dim=10),
          dict(num_hidden_layers=3, num_key_value_heads=4, vocab_size=31)]
QWEN_05B = Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                       num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768,
                       rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True)


def square(new, past):
    return new * (past + new)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("past", [0, 5])
def test_forward_token_by_token(tiny, ids, changes, past):
    """Exactly the triangle: each token meets the keys before it and its own."""
    model = tiny(**changes)
    x, cache = ids(1, past + 9, model.config.vocab_size), KVCache(model.config, 1, past + 9)
    with torch.no_grad(), eager_attention(model):
        if past:
            model(x[:, :past], cache)
        with FlopCounterMode(display=False) as counter:
            for token in x[:, past:].split(1, dim=1):
                model(token, cache)
    assert counter.get_total_flops() == forward_flops(model.config, new=9, past=past, heads=9)


@pytest.mark.parametrize("heads", [0, 1, 4])
def test_forward_with_the_head_on_some_positions(tiny, ids, heads, monkeypatch):
    model, keep = tiny(), torch.zeros(1, 16, dtype=torch.bool)
    keep[0, :heads] = True
    with torch.no_grad(), eager_attention(model), FlopCounterMode(display=False) as counter:
        model(ids(1, 16), keep=keep)
    assert forward_flops(model.config, 16, 0, heads) < counter.get_total_flops()
    monkeypatch.setattr(flops, "pairs", square)
    assert counter.get_total_flops() == forward_flops(model.config, 16, 0, heads)


def test_pairs_are_a_sum():
    for new, past in ((1, 0), (1, 7), (5, 0), (5, 3), (0, 9)):
        assert pairs(new, past) == sum(past + i + 1 for i in range(new))


def test_a_prefill_of_200_tokens_of_05b():
    """Per token 2 * 357,826,560 weights; the triangle of 200; one position of 896 * 151,936 at the head."""
    L, H, Dh = 24, 14, 64
    weights = L * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
    by_hand = 2 * 200 * weights + L * 4 * H * Dh * (200 * 201 // 2) + 2 * 896 * 151936
    assert forward_flops(QWEN_05B, 200, 0, 1) == by_hand
    assert round(by_hand / 1e9) == 145
    assert forward_flops(QWEN_05B, 199, 0, 0) + forward_flops(QWEN_05B, 1, 199, 1) == by_hand


# ---- training ----

LORAS = [None, (3, PROJECTIONS), (2, ("q_proj",)), (2, ("k_proj", "v_proj")), (4, ("v_proj",)),
         (3, PROJECTIONS, [1]), (2, ("k_proj", "up_proj"), [0]), (2, ("down_proj",), [1]),
         (1, ("o_proj",)), (2, ("gate_proj", "down_proj")), (5, ("down_proj",)), (2, ("q_proj", "up_proj"))]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("lora", LORAS, ids=str)
def test_training(tiny, changes, lora, monkeypatch):
    """Rows of one length (padding is not counted), some of their tokens supervised."""
    model = tiny(**changes)
    if lora is None:
        model.requires_grad_(True)
    else:
        add_lora(model, lora[1], lora[0], 4, layers=lora[2] if len(lora) > 2 else None)
    rows = [Example(list(range(12)), [0.0] * (12 - n) + [1.0] * n) for n in (3, 7, 1)]
    (batch,) = micro_batches([rows], 10 ** 6, bank=lora is not None)
    with eager_attention(model), FlopCounterMode(display=False) as counter:
        next_token(model, batch).sum().backward()
    found = counter.get_total_flops()
    assert training_flops(model.config, [12] * 3, 11, lora) < found
    monkeypatch.setattr(flops, "pairs", square)
    assert training_flops(model.config, [12] * 3, 11, lora) == found


def test_training_counts_real_lengths():
    config = make_config()
    apart = sum(training_flops(config, [n], s) for n, s in ((5, 1), (9, 4), (2, 1)))
    assert training_flops(config, [5, 9, 2], 6) == apart
