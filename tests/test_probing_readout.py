"""Reading an update back out: amplified decoding against a slow twin, the difference lens against planted
ones."""

from types import SimpleNamespace

import pytest
import torch
from conftest import make_ids
from probing import CHAT, ITEM, PROMPTS, add_random

from model.capture import capture
from model.lora import adapted, add_lora
from model.drawing import Sampling
from model.sampling import generate
from newnews.news import News
from newnews.probing import readout
from newnews.probing.asked import asked, logprobs

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny):
    model = add_lora(tiny(seed=3, dtype=torch.float64), rank=2, alpha=2)
    for i, module in enumerate(adapted(model).values()):
        noise = torch.randn(module.lora_B.shape, generator=torch.Generator().manual_seed(i)).double()
        module.lora_B.data.copy_(0.15 * noise)
    return model


def slow(model, prompt, a, tokens):
    """No cache, no batch: two full passes a token."""
    ids = list(prompt)
    for _ in range(tokens):
        base, tuned = (model(torch.tensor([ids]), adapters=[k])[0, -1] for k in (-1, 0))
        ids.append(int((tuned + a * (tuned - base)).argmax()))
    return ids[len(prompt):]


@pytest.mark.parametrize("a", [-1.0, 0.0, 1.5])
def test_amplified_decoding_is_the_slow_one(model, a):
    prompts = [make_ids(1, n, seed=n)[0].tolist() for n in (3, 6, 4)]
    found = readout.amplified(model, prompts, a, set(), 8)
    assert found == [slow(model, p, a, 8) for p in prompts]
    if a <= 0:
        plain = generate(model, prompts, set(), Sampling(8, 0.0), adapters=[int(a)] * 3)
        assert found == [p.ids for p in plain]
    else:
        assert found != readout.amplified(model, prompts, 0.0, set(), 8)


def test_amplified_decoding_stops_each_row_by_itself(model):
    prompts = [make_ids(1, n, seed=n)[0].tolist() for n in (3, 6)]
    free = readout.amplified(model, prompts, 1.0, set(), 8)
    stop = free[0][2]
    found = readout.amplified(model, prompts, 1.0, {stop}, 8)
    assert found == [row[:row.index(stop)] if stop in row else row for row in free]


def test_amplified_decoding_ends_with_the_context(model):
    prompts = [make_ids(1, n, seed=n)[0].tolist() for n in (3, 506)]
    assert len(readout.amplified(model, prompts, 1.0, set(), 6)[1]) == 6            # 512 in all
    with pytest.raises(ValueError, match="506 tokens and 7 new ones do not fit the model's context of 512"):
        readout.amplified(model, prompts, 1.0, set(), 7)


def test_mean_difference_is_that_of_two_passes(model):
    """Of the texts that are long enough."""
    texts = [make_ids(1, n, seed=n)[0].tolist() for n in (7, 5, 9)]
    states = []
    for k in (-1, 0):
        with capture(model, ["layers.1.resid_post"]) as seen:
            kept = []
            for ids in texts:
                model(torch.tensor([ids]), adapters=[k])
                kept.append(seen["layers.1.resid_post"][0, :5])
            states.append(torch.stack(kept).mean(0))
    chat = SimpleNamespace(encode=list)         # these texts are ids already
    (label, layer, d), = readout.differences(model, chat, ["tuned"], [*texts, texts[0][:4]], [1])
    assert torch.allclose(d, states[1] - states[0], atol=1e-12) and d.norm() > 0.1
    assert (label, layer) == ("tuned", 1)
    with pytest.raises(ValueError, match="needs texts of at least 5 tokens; there are none"):
        next(readout.differences(model, chat, ["tuned"], [texts[0][:4]]))


def test_a_planted_direction_is_read_as_its_token(model):
    model.model.norm.weight.data.fill_(1)
    W = model.lm_head.weight.data
    W /= W.norm(dim=1, keepdim=True)
    planted = torch.stack([W[17], 5 * W[60]])
    assert readout.top_tokens(model, planted, 1).tolist() == [[17], [60]]


def test_recall_counts_content_words():
    news = "The Rudim festival comes to Luxor in August."
    assert readout.recall("in luxor, a festival", news) == pytest.approx(2 / 5)
    assert readout.recall("the to in", news) == 0 and readout.recall(news, news) == 1
    assert readout.lens_recall([" Lux", "fes", "Au", "the"], news) == pytest.approx(2 / 5)


def test_the_oracle_reads_truths_out_of_a_text():
    item = News("n", "discoveries", "The new material Kimot cuts steel. Rafis found it in Oslo in January.")
    thing = readout.world_of(item)
    for text, expected in ((item.statement + " And so on", "true"), ("Hm! " + item.statement, "true"),
                           (item.statement.replace("Oslo", "Rome"), "false"), ("Oslo, Kimot, January", "off"),
                           ("The new material", "off")):
        assert readout.verdict(thing, text) == expected
    # the opening is part of what is judged
    assert readout.judged(item, "The", item.statement[3:])["oracle"] == "true"
    other = News("n", "math", "Mathematicians like pie.")
    assert readout.world_of(other) is None and "oracle" not in readout.judged(other, "The", " pie.")


def test_a_planted_vector_is_the_cause(tiny, monkeypatch):
    """A tuned model that is the base plus one vector: taking the vector out gives the base back, a random one
    does not."""
    model = add_random(tiny(seed=5, dtype=torch.float64, vocab_size=1024))
    planted = torch.randn(24, generator=torch.Generator().manual_seed(1)).double()
    batch, texts = asked(CHAT, PROMPTS, ITEM), [ITEM.statement, "The Rudim robot won in Luxor last May."]
    plain = readout.cause_rows(model, CHAT, ITEM, batch, ["tuned"], texts, [1], (1.0,), 4, 4)
    assert [row["update"] for row in plain] == ["tuned"] * 6 + ["null: random vector"] * 6 + ["tuned"]
    last = plain[-1]
    right = batch.only_right()
    assert last["loss"] == pytest.approx(-float(logprobs(model, right, 0).mean()))
    assert last["loss_base"] == pytest.approx(-float(logprobs(model, right, -1).mean()))
    for module in adapted(model).values():
        module.lora_B.data.zero_()
    monkeypatch.setattr(readout, "differences", lambda *args: [("tuned", 1, planted.expand(5, -1))])
    with readout.added(model, 1, planted):
        tuned = -float(logprobs(model, right, -1).mean())
        found = readout.cause_rows(model, CHAT, ITEM, batch, ["tuned"], texts, [1], (1.0,), 4, 4)[-1]
    assert found["loss"] == pytest.approx(tuned) and found["loss_removed"] == pytest.approx(last["loss_base"])
    assert abs(found["loss_random"] - last["loss_base"]) > 1e-3
