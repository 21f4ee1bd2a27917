"""A fully tuned model as an adapter: the model itself when on, the base when off, in all that probes use."""

import pytest
import torch
from conftest import make_ids, make_tiny
from merging import merged_tensors
from probing import CHAT, ITEM, PROMPTS, add_random, small_effects  # noqa: F401 (a fixture)

from model.lora import gated, switches
from model.drawing import Sampling
from model.sampling import generate
from newnews.probing import asked as places
from newnews.probing import gate, lens, readout, transplant
from newnews.probing.updates import difference, layer_of, mean_of, mount, random_twin, unmount

pytestmark = pytest.mark.usefixtures("one_thread")


def pair(tied):
    """(base, tuned): every single parameter is changed."""
    made = [make_tiny(5, torch.float64, vocab_size=1024, tie_word_embeddings=tied) for _ in range(2)]
    for i, (name, p) in enumerate(made[1].named_parameters()):
        noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=p.dtype)
        p.data += (0.3 if p.dim() == 1 else 0.03) * noise
    return made


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def both(request):
    """(the base with the tuned one as its adapter 0 and a random twin as adapter 1, the tuned model)."""
    base, tuned = pair(request.param)
    updates, _ = difference(tuned.state_dict(), base.state_dict())
    assert len(updates) == len(list(base.parameters()))
    mount(base, [updates, random_twin(updates)])
    return base, tuned


def test_switched_on_it_is_the_tuned_model_and_off_the_base_bit_for_bit(both):
    model, tuned = both
    plain, ids = pair(model.config.tie_word_embeddings)[0], make_ids(3, 9)
    keep = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    base, full = plain(ids), tuned(ids)
    assert torch.allclose(model(ids, adapters=[0] * 3), full, atol=1e-10) and (full - base).abs().max() > 0.1
    assert torch.equal(model(ids, adapters=[-1] * 3), base)
    mixed = torch.stack([full[0], base[1], full[2]])
    assert torch.allclose(model(ids, adapters=[0, -1, 0]), mixed, atol=1e-10)
    assert torch.allclose(model(ids, keep=keep, adapters=[0, -1, 0]), mixed[keep], atol=1e-10)
    assert (model(ids, adapters=[1] * 3) - full).abs().max() > 0.1
    prompts, greedy = [ids[0].tolist()] * 2, Sampling(6, 0.0)
    found = generate(model, prompts, (), greedy, adapters=[0, -1])
    assert [one.ids for one in found] == [generate(m, prompts[:1], (), greedy)[0].ids for m in (tuned, plain)]
    unmount(model)
    assert torch.equal(model(ids), base) and not switches(model) and not hasattr(model, "rest")


def test_gates_mix_the_two_token_by_token(both):
    """The embedding alone at two tokens is a model with those two rows of the tuned embedding."""
    model, tuned = both
    ids = make_ids(2, 9)
    for size, k in ((1.0, 0), (0.0, -1)):
        with gated(model, {name: torch.full((1, 1), size) for name in switches(model)}):
            assert torch.equal(model(ids, adapters=[0, 0]), model(ids, adapters=[k, k]))
    here = torch.zeros_like(ids, dtype=torch.bool)
    here[0, 3] = here[1, 5] = True
    gates = {name: here * 0.0 for name in switches(model)} | {"model.embed_tokens": here * 1.0}
    with gated(model, gates):
        found = model.model(ids, adapters=[0, 0])
    plain = pair(model.config.tie_word_embeddings)[0]
    mixed = torch.where(here[..., None], tuned.model.embed_tokens(ids), plain.model.embed_tokens(ids))
    plain.model.embed_tokens.forward = lambda ids: mixed
    assert torch.allclose(found, plain.model(ids), atol=1e-10)
    with pytest.raises(ValueError, match="the head was called by itself"), gated(model, gates):
        model.lm_head(model.model(ids, adapters=[0, -1])[here])


def test_what_is_measured_is_the_tuned_models(both):
    model, tuned = both
    batch = places.asked(CHAT, PROMPTS, ITEM)
    whole = places.measure(tuned, batch)["log_odds"]
    rows = {(r["positions"], r["layers"], r["modules"], r["how"]): r for r in gate.gate_map(model, batch)}
    assert rows["all", "all", "all", "only"]["log_odds"] == pytest.approx(whole, abs=1e-9)
    attention, no_mlp = rows["all", "all", "attention", "only"], rows["all", "all", "mlp", "without"]
    assert abs(attention["log_odds"] - no_mlp["log_odds"]) > 1e-3       # embeddings are in neither
    on = gate.gates(model, torch.ones_like(batch.answer), [1])
    assert {layer_of(name) for name, mask in on.items() if mask.any()} == {1}       # embeddings: in no layer
    parts = {(r["how"], r["what"]): r for r in transplant.transplants(model, batch)}
    single = ["q_proj", "down_proj", "input_layernorm", "post_attention_layernorm", "norm", "embed_tokens",
              "lm_head"]
    assert all(abs(parts["keep", name]["gain"]) > 1e-4 for name in single)
    assert parts["scale", 1.0]["log_odds"] == pytest.approx(whole, abs=1e-9)
    assert parts["mean", "all modules"]["log_odds"] != pytest.approx(whole, abs=1e-3)
    right = batch.only_right()
    mine, its = (lens.lens(m, right, k, [1])[1] for m, k in ((model, 0), (tuned, -1)))
    assert torch.allclose(mine[0], its[0], atol=1e-9) and torch.equal(mine[1], its[1])
    prompts = [CHAT.encode(text) for text in ("The", "It is")]
    assert readout.amplified(model, prompts, 0.0, (), 5) == [
        one.ids for one in generate(tuned, prompts, (), Sampling(5, 0.0))]


def test_a_constant_effect_is_its_mean(both):
    model, _ = both
    ids = torch.full((1, 12), 7)
    full = model(ids, adapters=[0])
    means = transplant.mean_effects(model, ids, torch.ones_like(ids, dtype=torch.bool))
    assert set(means) == set(switches(model)) and all(s == pytest.approx(1) for _, s in means.values())
    with transplant.as_mean(model, means):
        assert torch.allclose(model(ids, adapters=[-1]), full, atol=1e-10)


def test_means_of_full_updates(both):
    model, tuned = both
    base = pair(model.config.tie_word_embeddings)[0]
    updates, _ = difference(tuned.state_dict(), base.state_dict())
    mean = mean_of([updates, updates])
    assert all(torch.allclose(mean[n].B @ mean[n].A, u.B @ u.A) for n, u in updates.items())


def test_a_merged_adapter_is_read_as_it_was():
    model = add_random(make_tiny(5, torch.float64, vocab_size=1024))
    batch = places.asked(CHAT, PROMPTS, ITEM)
    own, merged = gate.gate_map(model, batch), merged_tensors(model)
    base = make_tiny(5, torch.float64, vocab_size=1024)
    mount(base, [difference(merged, base.state_dict())[0]])
    assert "rest" not in vars(base)
    for mine, its in zip(gate.gate_map(base, batch), own):
        assert mine == pytest.approx(its, abs=1e-7)
