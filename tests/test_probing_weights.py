"""Spectrum and comparison of updates, against planted truths and dense matrices."""

import math

import numpy as np
import pytest
import torch
from conftest import make_ids
from merging import merged_tensors

from model.checkpoint import load_adapter, save_adapter
from model.lora import adapted, add_lora, remove_lora
from newnews.probing import compare, spectrum
from newnews.probing.updates import (Update, choose, difference, frames, mean_of, mount, random_twin,
                                     read_update, svd, updates_of)

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(out, width, values, seed=0):
    """An Update with these singular values."""
    U, V = (torch.linalg.qr(draw(n, len(values), seed=seed + i))[0] for i, n in enumerate((out, width)))
    return Update(U * torch.tensor(values, dtype=torch.float64), V.T)


def random_adapter(model, seed=0, targets=("q_proj", "down_proj"), rank=3, alpha=5):
    add_lora(model, targets, rank, alpha)
    for i, module in enumerate(adapted(model).values()):
        module.lora_B.data.copy_(0.3 * draw(*module.lora_B.shape, seed=100 * seed + i))
    return model


def test_singular_values_from_the_factors_are_those_of_the_matrix():
    for B, A in ((draw(20, 4, seed=1), draw(4, 31, seed=2)), (draw(5, 8, seed=3), draw(8, 7, seed=4))):
        U, S, Vh = svd(Update(B, A))
        expected = np.linalg.svd((B @ A).numpy(), compute_uv=False)[:len(S)]
        assert np.allclose(S, expected, atol=1e-12) and torch.allclose(U * S @ Vh, B @ A, atol=1e-12)


def test_planted_ranks_are_found():
    found = spectrum.spectrum(svd(planted(20, 30, [2.0, 2.0, 2.0, 0.0]))[1])
    assert found["norm"] == pytest.approx(math.sqrt(12)) and found["spectral"] == pytest.approx(2)
    assert found["stable_rank"] == pytest.approx(3) and found["effective_rank"] == pytest.approx(3)
    found = spectrum.spectrum(torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert found["stable_rank"] == pytest.approx(10 / 9)
    assert found["effective_rank"] == pytest.approx(math.exp(-.75 * math.log(.75) - .25 * math.log(.25)))
    assert spectrum.spectrum(torch.zeros(3))["effective_rank"] == 0


def test_an_update_in_one_layer_is_found_there(tiny):
    model = tiny()
    add_lora(model, ["v_proj"], 4, 4)
    module = adapted(model)["model.layers.1.self_attn.v_proj"]
    module.lora_B.data[0, :, :2] = draw(module.out_features, 2).float()
    rows = list(spectrum.rows(updates_of(model)))
    ranks = {row["layer"]: row["effective_rank"] for row in rows}
    assert ranks[0] == 0 and 1 < ranks[1] <= 2.0001 and rows[1]["s3"] < 1e-6 * rows[1]["s1"]


def test_a_planted_intruder_is_counted_and_a_direction_of_W0_is_not():
    """Left singular vectors of W0 span a part of the space only; the intruder lies outside it."""
    frame = torch.linalg.qr(draw(40, 40, seed=5))[0]
    V = torch.linalg.qr(draw(12, 12, seed=6))[0]
    S = torch.linspace(4, 1, 12, dtype=torch.float64)
    W0 = frame[:, :12] * S @ V.T
    U0 = torch.linalg.svd(W0, full_matrices=False)[0]
    new = spectrum.intruders(W0, U0, Update(20 * frame[:, 20:21], V[:, :1].T))
    assert new["intruders"] == 1
    assert new["intruder_energy"] == pytest.approx(416 / (416 + float(S[1:].square().sum())))
    old = spectrum.intruders(W0, U0, Update(20 * frame[:, :1], V[:, :1].T))
    assert old["intruders"] == 0 and old["intruder_energy"] == 0
    small = spectrum.intruders(W0, U0, Update(0.01 * frame[:, 20:21], V[:, :1].T))
    assert small["intruders"] == 0


def test_cosine_and_overlaps_are_those_of_the_dense_matrices():
    scipy = pytest.importorskip("scipy.linalg")
    one, two = (Update(draw(20, 3, seed=s), draw(3, 15, seed=s + 1)) for s in (10, 20))
    a, b = one.B @ one.A, two.B @ two.A
    assert compare.cosine(one, two) == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), abs=1e-12)
    for found, x, y in zip(compare.overlaps(one, two), (a, a.T), (b, b.T)):
        angles = scipy.subspace_angles(x.numpy(), y.numpy())
        assert len(angles) == 3 and found == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-9)
    assert compare.cosine(one, Update(-2 * one.B, one.A)) == pytest.approx(-1)
    low, high = (Update(draw(20, r, seed=r), draw(r, 15, seed=r + 1)) for r in (2, 6))   # first 2 of 6 only
    (U, S, Vh), r = svd(high), 2
    angles = scipy.subspace_angles(low.B.numpy(), U[:, :r].numpy())
    assert compare.overlaps(low, high)[0] == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-9)


def test_planted_overlap():
    """Two updates that share one of their two column directions, and no row direction."""
    frame, across = torch.linalg.qr(draw(30, 30))[0], torch.linalg.qr(draw(20, 20, seed=1))[0]
    one = {"layers.0.q_proj": Update(frame[:, :2], across[:2])}
    two = {"layers.0.q_proj": Update(frame[:, 1:3], across[2:4])}
    module, whole = compare.rows(one, {"other": two})
    assert module["columns"] == pytest.approx(0.5) and module["rows"] == pytest.approx(0, abs=1e-12)
    assert module["cosine"] == pytest.approx(0, abs=1e-12) and whole["module"] == "all"
    nulls = [compare.rows(one, {"x": two}, seed)[0]["null_columns"] for seed in range(200)]
    assert np.mean(nulls) == pytest.approx(2 / 30, abs=0.015)           # r / d


def test_full_weights_and_a_low_rank_update_are_compared_in_few_directions():
    """A planted rank of 2 under full-rank noise is found by its first two directions; two noises do not
    overlap beyond r / d, which whole spaces would."""
    low, noise = planted(40, 60, [5.0, 4.0]), [1e-3 * draw(40, 60, seed=s) for s in (7, 8)]
    full = Update(torch.cat([low.B, torch.eye(40, dtype=torch.float64)], 1), torch.cat([low.A, noise[0]]))
    assert min(compare.overlaps(full, low)) > 0.998
    alone = [Update(torch.eye(40, dtype=torch.float64), x) for x in noise]
    assert frames(alone[0])[0].shape == (40, 10)
    assert compare.overlaps(*alone)[0] == pytest.approx(10 / 40, abs=0.1)


def test_an_update_of_zeros_overlaps_with_nothing():
    nothing = {"layers.0.q_proj": Update(torch.zeros(30, 2).double(), draw(2, 20))}
    module, whole = compare.rows({"layers.0.q_proj": planted(30, 20, [1.0])}, {"nothing": nothing})
    assert module["columns"] == module["rows"] == module["cosine"] == whole["cosine"] == 0


def test_the_mean_of_a_group_is_taken_out():
    """Updates with nothing in common but a large mean: cosines near 1, centred ones -1 / (n - 1)."""
    n, d = 4, 2000
    common = Update(10 * draw(d, 1, seed=1), draw(1, 40, seed=2))
    own = [Update(draw(d, 1, seed=10 + k), draw(1, 40, seed=20 + k)) for k in range(n)]
    group = {str(k): {"m": Update(torch.cat([common.B, o.B], 1), torch.cat([common.A, o.A]))}
             for k, o in enumerate(own)}
    rows = compare.group_rows(group)
    assert min(row["cosine"] for row in rows) > 0.95 and min(row["with_mean"] for row in rows) > 0.95
    assert np.mean([row["centred"] for row in rows]) == pytest.approx(-1 / (n - 1), abs=0.03)
    dense = [u["m"].B @ u["m"].A for u in group.values()]
    mean = mean_of(list(group.values()))["m"]
    assert torch.allclose(mean.B @ mean.A, sum(dense) / n)
    a, b = dense[0] - sum(dense) / n, dense[1] - sum(dense) / n
    assert rows[0]["centred"] == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), abs=1e-9)
    pair = compare.group_rows({k: group[k] for k in "01"})      # opposite by construction: nothing to say
    assert [row["centred"] for row in pair] == [None, None] and pair[0]["cosine"] == rows[0]["cosine"]


def test_factors_and_merged_weights_agree(tiny):
    model = random_adapter(tiny(dtype=torch.float64))
    base = {n: t for n, t in tiny(dtype=torch.float64).state_dict().items()}
    full, floors = difference(merged_tensors(model), base)
    low = updates_of(model)
    assert len(full) == 14 and set(floors.values()) == {(0.0, 0.0)}
    for name, update in low.items():
        assert compare.cosine(update, full[name]) == pytest.approx(1, abs=1e-9)
        assert torch.allclose(svd(update)[1], svd(full[name])[1][:3], atol=1e-10)
    assert all(float(svd(u)[1].max()) < 1e-12 for n, u in full.items() if n not in low)


def test_the_noise_floor_of_bf16_is_what_rounding_gives():
    W = 0.05 * draw(200, 300)
    key = "model.layers.0.mlp.up_proj.weight"
    base = {key: W.bfloat16()}
    tuned = {key: (W.bfloat16().double() + 0.003 * draw(200, 300, seed=1)).bfloat16()}
    floor = difference(tuned, base)[1][key[:-7]]
    error = tuned[key].double() - (W.bfloat16().double() + 0.003 * draw(200, 300, seed=1))
    assert float(error.norm()) == pytest.approx(floor[0], rel=0.1)
    assert float(torch.linalg.svdvals(error)[0]) == pytest.approx(floor[1], rel=0.15)
    with pytest.raises(ValueError, match=r"the base has \[200, 300\], the tuned model nothing"):
        difference({}, base)


def test_a_random_twin_keeps_the_singular_values_and_nothing_else():
    update = {"m": planted(200, 300, [5.0, 2.0, 1.0])}
    twin = random_twin(update)
    assert torch.allclose(svd(twin["m"])[1], torch.tensor([5.0, 2, 1], dtype=torch.float64))
    assert abs(compare.cosine(update["m"], twin["m"])) < 0.05
    assert torch.equal(random_twin(update)["m"].A, twin["m"].A)


def test_mounted_updates_are_the_adapters_they_were_read_from(tiny, tmp_path):
    model, x = tiny(), make_ids(1, 9)
    plain, logits = model(x), []
    for k, targets in enumerate((["q_proj", "down_proj"], ["up_proj"])):
        random_adapter(model, k, targets, rank=2 + k)
        save_adapter(tmp_path / str(k), model, 0, "tiny")
        remove_lora(model)
        load_adapter(tmp_path / str(k), model)
        logits.append(model(x))
        remove_lora(model)
    mount(model, [read_update(model, tmp_path / name, "") for name in "01"])
    together = model(x.expand(3, -1), adapters=[0, 1, -1])
    assert torch.allclose(together, torch.cat([*logits, plain]), atol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 0.1


def test_bad_input_is_one_line_with_the_nearest_names(tiny):
    model = random_adapter(tiny())
    updates = updates_of(model)
    assert choose(updates, ["1"]) == [n for n in updates if ".1." in n]
    assert len(choose(updates, ["q_proj", "*.mlp.*"])) == 4
    with pytest.raises(ValueError, match="'q_prog' matches none of the 4 .* q_proj"):
        choose(updates, ["q_prog"])
    with pytest.raises(ValueError, match="'7' matches none.*nearest names are [01], [01]$"):
        choose(updates, ["7"])
