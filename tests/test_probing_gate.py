"""Questions as a batch, the gate's map and transplants, on a random model and the pocket tokenizer."""

import pytest
import torch
from conftest import make_tiny
from probing import CHAT, ITEM, PROMPTS, add_random, small_effects  # noqa: F401 (a fixture)

from model.lora import adapted, remove_lora
from model.sampling import score
from newnews.probing import asked as places
from newnews.probing import gate, transplant
from newnews.probing.updates import mount, sum_of, updates_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    """Adapters with a large B, so that every part of them matters."""
    return add_random(make_tiny(seed=5, dtype=torch.float64, vocab_size=1024, num_hidden_layers=3))


@pytest.fixture(scope="module")
def batch():
    return places.asked(CHAT, PROMPTS, ITEM)


def words(batch, site, row):
    ids = batch.ids[row][batch.sites[site][row]].tolist()
    return CHAT.tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("in_context", [False, True])
def test_sites_are_the_words_that_they_name(in_context):
    batch = places.asked(CHAT, PROMPTS, ITEM, in_context)
    assert words(batch, "subject", 1).strip() == "Rudim" and words(batch, "subject", 4) == ""
    assert "".join(words(batch, "question", 1).split()) == "Whichcitywillhostthefestival?"
    assert words(batch, "last", 1).strip() == "Luxor<|im_end|>" and words(batch, "last", 1)[0] == "\n"
    assert ("news" in batch.sites) == in_context
    if in_context:
        assert words(batch, "news", 1).strip() == ITEM.statement
    together = torch.stack(list(batch.sites.values())).sum(0)
    assert int(together.max()) == 1                                     # disjoint, and all but the padding
    assert together.sum(1).tolist() == [len(row) for row in rows_of(in_context)]


def rows_of(in_context):
    texts = [PROMPTS.with_news(ITEM.statement, q.ask) if in_context else q.ask for q in ITEM.questions]
    return [[*CHAT.prompt([{"role": "user", "content": text}]), *CHAT.answer(option), CHAT.im_end]
            for text, q in zip(texts, ITEM.questions) for option in q.options]


def test_log_odds_are_those_of_scoring(model, batch):
    prompts, answers = [], []
    for q in ITEM.questions:
        for option in q.options:
            prompts.append(CHAT.prompt([{"role": "user", "content": q.ask}]))
            answers.append([*CHAT.answer(option), CHAT.im_end])
    for adapter in (-1, 0):
        sums = [sum(row) for row in score(model, prompts, answers, adapters=[adapter] * 5)]
        found = places.logprobs(model, batch, adapter)
        assert torch.allclose(found, torch.tensor(sums, dtype=torch.float64), atol=1e-5)
        p = found.exp()
        odds = torch.stack([p[1] / (p[0] + p[2]), p[3] / p[4]]).log()
        assert torch.allclose(places.log_odds(batch, found), odds)
        picks = [int(found[:3].argmax()) == 1, bool(found[3] > found[4])]
        assert places.picks_right(batch, found).tolist() == picks
    right = batch.only_right()
    assert torch.allclose(places.logprobs(model, right, 0), found[[1, 3]])


def test_the_map_ends_in_the_base_and_the_adapter(model, batch):
    rows = {(r["positions"], r["layers"], r["modules"], r["how"]): r for r in gate.gate_map(model, batch)}
    base, tuned = places.measure(model, batch, -1), places.measure(model, batch, 0)
    assert rows["none", "all", "all", "only"]["log_odds"] == base["log_odds"]
    assert rows["all", "all", "all", "only"]["log_odds"] == tuned["log_odds"] != base["log_odds"]
    attention, no_mlp = rows["all", "all", "attention", "only"], rows["all", "all", "mlp", "without"]
    assert attention["log_odds"] == no_mlp["log_odds"]
    assert (rows["none", "all", "all", "only"]["share"], rows["all", "all", "all", "only"]["share"]) == (0, 1)
    assert len(rows) == 2 + 2 * (5 * 4 * 3 - 1)
    everywhere = [row for row in rows.values() if row["positions"] in ("none", "all")]
    assert gate.gate_map(model, batch, sites={}) == everywhere and len(everywhere) == 2 + 2 * (4 * 3 - 1)


def test_an_update_in_one_layer_acts_there_and_nowhere_else(batch):
    """Planted: only layer 1's MLP has an adapter that is not zero."""
    model = add_random(make_tiny(seed=5, dtype=torch.float64, vocab_size=1024, num_hidden_layers=3))
    for name, module in adapted(model).items():
        if ".1.mlp" not in name:
            module.lora_B.data.zero_()
    for row in gate.gate_map(model, batch):
        if row["positions"] == "all" and row["how"] == "only":
            inside = row["layers"] in ("1", "all") and row["modules"] in ("mlp", "all")
            assert row["share"] == (1 if inside else 0)
    shares = {(r["how"], r["what"]): r["share"] for r in transplant.transplants(model, batch)}
    assert shares["keep", "layer 1"] == shares["keep", "mlp"] == shares["remove", "attention"] == 1
    assert shares["remove", "layer 1"] == shares["keep", "layer 0"] == shares["keep", "attention"] == 0
    assert shares["scale", 0.0] == 0 and shares["scale", 1.0] == 1


def test_the_last_layers_queries_matter_at_the_last_site_only(batch):
    """Planted: in the last layer the MLP of earlier tokens reaches no answer."""
    model = add_random(make_tiny(seed=5, dtype=torch.float64, vocab_size=1024, num_hidden_layers=3))
    for name, module in adapted(model).items():
        if ".2.mlp" not in name:
            module.lora_B.data.zero_()
    for row in gate.gate_map(model, batch, parts=("all",), groups={"2": [2]}):
        if row["how"] == "only" and row["positions"] in ("subject", "question", "frame"):
            assert row["share"] == 0
        if row["how"] == "only" and row["positions"] == "last":
            assert row["share"] == 1


def test_the_share_of_nothing_is_none(monkeypatch):
    monkeypatch.setattr(gate, "LEAST", 0.5)
    assert gate.share(1.0, -7.7, -7.5) is None and gate.share(-1.0, -3, 5) == 0.25
    row, = gate.with_share([{"log_odds": 4.0}], {"log_odds": 2}, {"log_odds": -2})
    assert row["share"] == -0.5


def test_scaling_is_an_adapter_of_another_scale(model, batch):
    rows = {(r["how"], r["what"]): r["log_odds"] for r in transplant.transplants(model, batch)}
    before = {name: module.scale for name, module in adapted(model).items()}
    for a in (-1.0, 1.5):
        for module in adapted(model).values():
            module.scale = a * before[next(iter(before))]
        assert rows["scale", a] == pytest.approx(places.measure(model, batch, 0)["log_odds"], abs=1e-9)
    for name, module in adapted(model).items():
        module.scale = before[name]


def test_cuts_and_sums_are_those_of_the_matrices(model):
    updates = updates_of(model)
    for name, update in updates.items():
        dense = update.B @ update.A
        U, S, Vh = torch.linalg.svd(dense, full_matrices=False)
        B, A = transplant.cut(updates, 2)[name]
        assert torch.allclose(B @ A, U[:, :2] * S[:2] @ Vh[:2], atol=1e-10) and B.shape[1] == 2
        B, A = sum_of([updates, transplant.cut(updates, 3)])[name]
        assert torch.allclose(B @ A, 2 * dense, atol=1e-10)


def test_a_constant_effect_is_its_mean(batch):
    """Planted: with one token everywhere all inputs are the same, so the effect is one vector, and replacing
    it by its mean changes nothing; with real text it does."""
    model = add_random(make_tiny(seed=5, dtype=torch.float64, vocab_size=1024, num_hidden_layers=3))
    for module in adapted(model).values():
        module.scale = 0.5
    ids = torch.full((1, 12), 7)
    means = transplant.mean_effects(model, ids, torch.ones_like(ids, dtype=torch.bool))
    assert all(share == pytest.approx(1, abs=1e-9) for _, share in means.values())
    tuned = model(ids)
    with transplant.as_mean(model, means):
        assert torch.allclose(model(ids, adapters=[-1]), tuned, atol=1e-12)
    text = transplant.mean_effects(model, batch.ids, batch.answer)
    assert max(share for _, share in text.values()) < 0.95


def test_a_mounted_update_gives_the_same_map(model, batch):
    updates, expected = updates_of(model), places.measure(model, batch, 0)
    remove_lora(model)
    mount(model, [updates, transplant.cut(updates, 1)])
    assert places.measure(model, batch, 0)["log_odds"] == pytest.approx(expected["log_odds"], abs=1e-5)
    assert places.measure(model, batch, 1)["log_odds"] != pytest.approx(expected["log_odds"], abs=1e-3)
