"""Reading an update back out: amplified decoding against a slow twin, the difference lens against planted
ones."""

import pytest
import torch
from conftest import make_ids

from model.capture import capture
from model.lora import adapted, add_lora
from model.sampling import Sampling, generate
from newnews.probing import readout

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
    found = readout.amplified(model, prompts, a, set(), Sampling(8, 0.0))
    assert found == [slow(model, p, a, 8) for p in prompts]
    if a <= 0:
        plain = generate(model, prompts, set(), Sampling(8, 0.0), adapters=[int(a)] * 3)
        assert found == [p.ids for p in plain]
    else:
        assert found != readout.amplified(model, prompts, 0.0, set(), Sampling(8, 0.0))


def test_amplified_decoding_stops_each_row_by_itself(model):
    prompts = [make_ids(1, n, seed=n)[0].tolist() for n in (3, 6)]
    free = readout.amplified(model, prompts, 1.0, set(), Sampling(8, 0.0))
    stop = free[0][2]
    found = readout.amplified(model, prompts, 1.0, {stop}, Sampling(8, 0.0))
    assert found == [row[:row.index(stop)] if stop in row else row for row in free]


def test_mean_difference_is_that_of_two_passes(model):
    texts = [make_ids(1, n, seed=n)[0].tolist() for n in (7, 5, 9)]
    states = []
    for k in (-1, 0):
        with capture(model, ["layers.1.resid_post"]) as seen:
            kept = []
            for ids in texts:
                model(torch.tensor([ids]), adapters=[k])
                kept.append(seen["layers.1.resid_post"][0, :5])
            states.append(torch.stack(kept).mean(0))
    found = readout.mean_difference(model, texts, 1, 5)
    assert torch.allclose(found, states[1] - states[0], atol=1e-12) and found.norm() > 0.1
    with pytest.raises(ValueError, match="at least 6 tokens; text 1 is shorter"):
        readout.mean_difference(model, texts, 1, 6)


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
