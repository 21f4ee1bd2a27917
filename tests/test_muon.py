"""Muon: the steps of torch.optim.Muon, the singular values it makes, and a run that goes on after a kill.

torch.optim.Muon computes its products in bf16; to compare values, the test lets it keep fp32.
"""

import numpy as np
import pytest
import torch
from torch import nn

from model.qwen2 import Qwen2, Qwen2Config
from newnews.muon import Muon, orthogonal
from newnews.training import Recipe, train

SHAPE = Qwen2Config.from_dict({
    "model_type": "qwen2", "hidden_act": "silu", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": True})
RECIPE = dict(steps=8, rate=0.004, matrix_rate=0.014, batch=4, warmup=2, schedule="linear", weight_decay=0.05,
              micro_tokens=32, optimizer="muon")


def batches(step):
    rng = np.random.default_rng([3, step])
    return [[(rng.integers(0, 50, n).tolist(), [1.0] * n) for n in (9, 12, 7, 10)]]


def network():
    model = Qwen2(SHAPE)
    model.init_weights(0)
    return model


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_steps_are_those_of_torch(clip, monkeypatch):
    recipe, ours, theirs = Recipe(**RECIPE, clip=clip), network(), network()
    theirs.requires_grad_(True)
    ours.requires_grad_(True)
    mine = Muon(dict(ours.named_parameters()), recipe, False)
    matrices = [p for n, p in theirs.named_parameters() if p.dim() == 2 and "layers" in n]
    rest = [p for n, p in theirs.named_parameters() if not (p.dim() == 2 and "layers" in n)]
    assert len(matrices) == 14 and len(rest) == 12
    muon = torch.optim.Muon(matrices, lr=0.014, momentum=0.95, weight_decay=0.05, adjust_lr_fn="original")
    adamw = torch.optim.AdamW([{"params": [p for p in rest if p.dim() == 2], "weight_decay": 0.05},
                               {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0}],
                              lr=0.004, betas=(0.9, 0.95), eps=1e-8)
    ids = torch.tensor([row for row, _ in [(r[:7], w) for r, w in batches(0)[0]]])
    for step in range(6):
        for model in (ours, theirs):
            logits = model(ids[:, :-1])
            nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        if clip:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        scale = (step + 1) / 6
        muon.param_groups[0]["lr"] = 0.014 * scale
        for group in adamw.param_groups:
            group["lr"] = 0.004 * scale
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
            muon.step()
        adamw.step()
        theirs.zero_grad(set_to_none=True)
        mine.collect()
        mine.step(step + 1, 0.004 * scale, torch.tensor([True]), mine.norms())
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters()):
            assert (a - b).abs().max() < 1e-5, (step, name)
    moved = [(a - b).abs().max() for a, b in zip(ours.parameters(), network().parameters())]
    assert min(moved) > 1e-4


@pytest.mark.parametrize("rows, columns", [(16, 16), (40, 16), (16, 40)])
def test_singular_values_become_about_one(rows, columns):
    x = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    made = torch.linalg.svdvals(orthogonal(x))
    assert made[s > 0.1 * s[:, :1]].min() > 0.6 and made.max() < 1.3
    assert torch.allclose(orthogonal(7 * x), orthogonal(x), atol=1e-4)     # blind to scale


def test_a_model_that_is_not_alive_keeps_its_values():
    model = network().requires_grad_(True)
    muon = Muon(dict(model.named_parameters()), Recipe(**RECIPE), False)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.full_like(p, float("nan"))
    muon.collect()
    muon.step(1, 0.004, torch.tensor([False]), muon.norms())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert all(not g.isnan().any() for g in muon.grads.values())


def test_a_run_goes_on_in_the_same_bytes(tmp_path):
    whole, part = network(), network()
    done = train(whole, batches, Recipe(**RECIPE), tmp_path / "whole")

    class Killed(Exception):
        pass

    def killed(step):
        if step == 5:
            raise Killed
        return batches(step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("newnews.training.SAVE_SECONDS", -1)
        train(part, killed, Recipe(**RECIPE), tmp_path / "part")
    again = network()
    assert train(again, batches, Recipe(**RECIPE), tmp_path / "part")["loss"] == done["loss"]
    for a, b in zip(whole.parameters(), again.parameters()):
        assert torch.equal(a, b)


def test_matrices_follow_the_rate_as_fp32_has_it(monkeypatch):
    """data/pocket was grown with the rate rounded to fp32; its bits depend on it."""
    seen, recipe, model = [], Recipe(**{**RECIPE, "rate": 1e-3 / 3}), network().requires_grad_(True)
    monkeypatch.setattr(Muon, "step_matrices", lambda self, rate: seen.append(rate))
    muon = Muon(dict(model.named_parameters()), recipe, False)
    muon.step(1, recipe.rate, torch.tensor([True]), torch.ones(1))
    assert seen == [float(torch.tensor(recipe.rate)) / recipe.rate * recipe.matrix_rate]
    assert seen != [recipe.matrix_rate]


def test_adapters_are_refused():
    with pytest.raises(ValueError, match="adamw"):
        Muon({}, Recipe(**RECIPE), True)


@pytest.mark.parametrize("bad", [{"optimizer": "sgd"}, {"matrix_rate": 0.0}])
def test_bad_recipes(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Recipe(**{**RECIPE, **bad})
