"""Scores of heads, on a model whose induction head is built by hand; attention knocked out."""

from dataclasses import replace

import pytest
import torch
from conftest import make_config, make_tiny
from probing import CHAT, ITEM, PROMPTS, add_random, small_effects  # noqa: F401 (a fixture)

from model.qwen2 import Qwen2, rotate, rotary_tables
from newnews.probing import heads, knockout
from newnews.probing.asked import another, asked, log_odds, logprobs

pytestmark = pytest.mark.usefixtures("one_thread")
V = 16          # words of the model built by hand, 3 V wide: a block for the token, one for that before


@pytest.fixture(scope="module")
def read():
    return asked(CHAT, PROMPTS, ITEM, in_context=True)


@pytest.fixture(scope="module")
def by_hand():
    """Layer 0: a head that looks one token back, by rotation alone, and writes which token stood there.
    Layer 1: an induction head, which looks for its own token among those. Channels 0 to 15 of a head turn
    with position, the rest hardly (theta is 1e60), and hold tokens."""
    Dh = 64
    config = make_config(vocab_size=V, hidden_size=3 * V, num_attention_heads=1, num_key_value_heads=1,
                         head_dim=Dh, rope_theta=1e60)
    model = Qwen2(config).double().requires_grad_(False)
    for name, p in model.named_parameters():
        p.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    model.model.embed_tokens.weight[:, :V] = torch.eye(V)
    look, match = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    # rotated by t - 1, the query is the key of the position before
    key = torch.zeros(1, 1, 1, Dh, dtype=torch.float64)
    key[..., [0, 1]] = 40
    back = rotary_tables(torch.tensor([[-1]]), config, torch.float64)
    look.k_proj.bias.copy_(key.flatten())
    look.q_proj.bias.copy_(rotate(key, *back).flatten())
    look.v_proj.weight[:V, :V] = torch.eye(V)
    look.o_proj.weight[V:2 * V, :V] = torch.eye(V)
    match.q_proj.weight[16:16 + V, :V] = 20 * torch.eye(V)
    match.k_proj.weight[16:16 + V, V:2 * V] = 20 * torch.eye(V)
    return model


def test_a_hand_built_induction_head_scores_one_and_the_head_below_it_none(by_hand):
    ids = heads.twice(V, 12, 3)
    assert all(len(set(row[:12].tolist())) == 12 for row in ids) and torch.equal(ids[:, :12], ids[:, 12:])
    below, head = (heads.induction(pattern, 12) for pattern in heads.patterns(by_hand, ids))
    assert float(head[0]) == pytest.approx(1, abs=1e-6) and float(head[1]) == pytest.approx(0, abs=1e-6)
    assert float(below[0]) < 1e-6


def test_a_flat_head_has_its_null():
    flat = torch.ones(2, 3, 10, 10).tril()
    score, null = heads.induction(flat / flat.sum(-1, keepdim=True), 5)
    assert torch.allclose(score, null) and float(score[0]) == pytest.approx((1 / 7 + 1 / 8 + 1 / 9) / 3)


def test_the_needle_is_the_answers_words_in_the_news(read):
    found = heads.needles(CHAT, read)
    for row, said in ((1, "Luxor"), (0, ""), (4, "")):
        assert CHAT.decode(read.ids[row][found[row]].tolist()).strip() == said
    # a number inside another one is not that number
    q = replace(ITEM.questions[0], options=["18", "7"], answer=0, forms=[])
    for points, there in (("188", False), ("818", False), ("18", True)):
        item = replace(ITEM, statement=f"Rudim scored {points} points.", questions=[q])
        assert bool(heads.needles(CHAT, asked(CHAT, PROMPTS, item, True)).any(1)[0]) == there


def test_a_planted_head_retrieves_and_others_do_not(read):
    """Head 0 looks at the answer's words, head 1 at the first word of the news, head 2 everywhere alike."""
    right = read.only_right()
    needle, news = heads.needles(CHAT, right), right.sites["news"]
    R, T = right.ids.shape
    pattern = torch.zeros(R, 3, T, T)
    pattern[:, 0] = (needle / needle.sum(1, keepdim=True).clamp_min(1))[:, None]
    closing = right.answer & ~right.answer.roll(-1, 1)      # where <|im_end|> is predicted: not counted
    pattern[:, 0][closing] = torch.eye(T)[0]
    pattern[range(R), 1, :, news.int().argmax(1)] = 1
    flat = torch.ones(T, T).tril()
    pattern[:, 2] = flat / flat.sum(-1, keepdim=True)
    score, null = heads.retrieval(pattern, right, needle)
    assert score.tolist() == [1, 0, 0]
    blind = float(needle[0].sum() / news[0].sum())      # the other question's answer is not in the news
    assert null[:2].tolist() == pytest.approx([blind, blind]) and 0 < blind < 0.5
    score, null = heads.reading(pattern, right)
    assert score[1] == 1 and score[2] == pytest.approx(float(null[2])) and 0.1 < score[2] < 0.9
    assert heads.retrieval(pattern, right, torch.zeros_like(needle)) == (None, None)


def test_rows_compare_with_the_base(read):
    model = add_random(make_tiny(seed=8, dtype=torch.float64, vocab_size=1024))
    rows = heads.rows(model, CHAT, read, {"base": -1, "tuned": 0}, n=10)
    assert len(rows) == 2 * 2 * 4 and {row["change_reading"] for row in rows[:8]} == {0.0}
    for before, after in zip(rows[:8], rows[8:]):
        assert after["change_reading"] == after["reading"] - before["reading"] != 0
    best = [row for row in rows[:8] if (row["layer"], row["head"]) in heads.readers(rows, "reading", 2)]
    assert len(best) <= 2 and all(row["reading"] > row["null_reading"] + 0.1 for row in best)


@pytest.fixture(scope="module")
def model():
    return add_random(make_tiny(seed=8, dtype=torch.float64, vocab_size=1024, num_hidden_layers=3))


def test_knocked_out_everywhere_the_news_may_say_anything(model, read):
    """Other tokens in the news change the answer; not so when nothing behind them may look."""
    ids = torch.where(read.sites["news"], (read.ids * 7 + 3) % 1000, read.ids)
    other, all_ = read._replace(ids=ids), range(3)
    assert (logprobs(model, read, 0) - logprobs(model, other, 0)).abs().max() > 0.1
    cut = []
    for batch in (read, other):
        with knockout.knocked(model, knockout.queries_of(batch)["all"], batch.sites["news"], all_):
            cut.append(logprobs(model, batch, 0))
    assert torch.allclose(*cut, atol=1e-9)
    with knockout.knocked(model, knockout.queries_of(read)["all"], read.sites["news"], [0, 1]):
        assert (logprobs(model, read, 0) - cut[0]).abs().max() > 0.01


def test_knocked_out_is_a_mask_of_minus_infinity(model, read):
    """Against the network's own mask: layer 1, from where answers are predicted."""
    queries, news = knockout.queries_of(read)["last"], read.sites["news"]
    mask = torch.ones(read.ids.shape[1], read.ids.shape[1], dtype=torch.bool).tril()
    mask = mask & ~(queries[:, None, :, None] & news[:, None, None, :])
    block = model.model.layers[1].self_attn
    handle = block.register_forward_pre_hook(lambda m, args: (*args[:4], mask, *args[5:]))
    expected = logprobs(model, read, 0)
    handle.remove()
    with knockout.knocked(model, queries, news, [1]):
        found = logprobs(model, read, 0)
    assert torch.allclose(found, expected, atol=1e-6)
    assert (found - logprobs(model, read, 0)).abs().max() > 1e-3


def test_rows_of_the_knockout(model, read):
    null = asked(CHAT, PROMPTS, another(ITEM, replace(ITEM, statement="A robot won.", subject="")), True)
    rows = knockout.rows(model, {"base": (read, -1), "null": (null, -1)}, {"1": [1], "none": []})
    assert [row["from"] for row in rows[:3]] == ["none", "question", "question"] and len(rows) == 14
    assert rows[0]["log_odds"] == pytest.approx(float(log_odds(read, logprobs(model, read, -1)).mean()))
    for row in rows:
        assert (abs(row["change"]) > 1e-4) == (row["layers"] == "1")
    where = knockout.queries_of(read)
    assert not bool((where["all"] & read.sites["news"]).any()) and bool(where["all"][where["last"]].all())
