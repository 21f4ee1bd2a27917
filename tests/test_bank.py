"""Adapter banks, data order and stops: what a run must not notice of neighbours or of a NaN.

K adapters side by side equal the K single runs (fp64 to 1e-12, fp32 to float noise) on ragged data, however a
step is split; an adapter that is not finite is frozen to the bit and the others do not notice; batches are
permutations of (seed, epoch) and micro-batches lose nothing; adapters from disk are a bank. Kills and resume:
test_resume.py.
"""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_tiny
from test_training import examples, gap, metrics_of, same_bits

from model.checkpoint import load_adapter, load_bank, save_adapter
from model.lora import adapted, add_lora, lora_tensors
from newnews.batches import Shuffled, micro_batches
from newnews.examples import Example
from newnews.training import Recipe, train

pytestmark = pytest.mark.usefixtures("one_thread")

# The adapters differ in number and length of examples, rows a step (4, 3, 1) and both seeds.
LISTS = [examples(30, [3, 8, 5, 7, 4, 6, 8, 3, 5]), examples(31, [14, 6, 11]), examples(32, [20])]
INIT, ORDER = (1, 2, 3), (5, 6, 7)
RECIPE = Recipe(steps=12, rate=2e-2, batch=4, warmup=3, weight_decay=0.1, clip=3.0)


def bank(dtype, adapters=(0, 1, 2)):
    return add_lora(make_tiny(0, dtype), rank=3, alpha=6, seeds=[INIT[k] for k in adapters])


def whole(lists):
    return [[Example(*row) for row in rows] for rows in lists]


def data(adapters=(0, 1, 2)):
    return Shuffled([LISTS[k] for k in adapters], RECIPE.batch, [ORDER[k] for k in adapters])


# Bank = single runs -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("micro_tokens", [30, 10 ** 6])
def test_a_bank_is_its_single_runs(dtype, tolerance, micro_tokens, tmp_path):
    recipe, together = replace(RECIPE, micro_tokens=micro_tokens), bank(dtype)
    result = train(together, data(), recipe, tmp_path / "bank")
    lines = metrics_of(tmp_path / "bank")
    splits = [len(list(micro_batches(whole(data()(0)), micro_tokens)))]
    for k in range(3):
        alone = bank(dtype, [k])
        start = {n: t.clone() for n, t in lora_tensors(alone).items()}
        assert all(same_bits(t, start[n]) for n, t in lora_tensors(bank(dtype), k).items())
        single = train(alone, data([k]), recipe, tmp_path / str(k))
        assert gap(lora_tensors(together, k), lora_tensors(alone), start) < tolerance
        assert result["loss"][k] == pytest.approx(single["loss"][0], rel=tolerance)
        ours = metrics_of(tmp_path / str(k))
        for name in ("loss", "grad_norm"):
            assert [x[name][k] for x in lines] == pytest.approx([x[name][0] for x in ours], rel=tolerance)
        assert [x["rate"] for x in lines] == [x["rate"] for x in ours]
        splits.append(len(list(micro_batches(whole(data([k])(0)), micro_tokens))))
    assert splits[0] > max(splits[1:]) > 1 if micro_tokens == 30 else set(splits) == {1}
    clipped = [[n > recipe.clip for n in x["grad_norm"]] for x in lines]
    assert any(any(c) and not all(c) for c in clipped)      # adapters of one step, clipped and not


# Stops ------------------------------------------------------------------------------------------------------

def corrupt(how, model, rows):
    """Make adapter 1 or its step bad in one of four ways; returns the step's rows."""
    modules = adapted(model).values()
    if how.endswith("weight"):
        rows[1] = [(x, w[:-1] + [float(how.split()[0])]) for x, w in rows[1]]
    elif how == "nan adapter":
        next(iter(modules)).lora_B.data[1, 0, 0] = math.nan
    else:                   # B = 0, so the loss is finite; the gradient is about 1e200, and its square is not
        for module in modules:
            module.lora_A.data[1] *= 1e200
            module.lora_B.data[1] = 0
    return rows


@pytest.mark.parametrize("how", ["nan weight", "inf weight", "nan adapter", "huge gradient"])
@pytest.mark.parametrize("bad_step", [0, 4])
def test_a_bad_adapter_stops_and_the_others_go_on(how, bad_step, tmp_path):
    """The bad thing happens once, at one step; the healthy bank in which it never happens is the oracle."""
    recipe = replace(RECIPE, micro_tokens=150)
    healthy, model, shuffled, seen = bank(torch.float64), bank(torch.float64), data(), {}
    train(healthy, data(), recipe, tmp_path / "healthy")

    def batches(step):
        rows = shuffled(step)
        if step == bad_step:
            rows = corrupt(how, model, rows)
            seen.update({n: t.clone() for n, t in lora_tensors(model, 1).items()})
        return rows

    result = train(model, batches, recipe, tmp_path / "bad")
    assert result["stopped"] == {1: bad_step} and result["steps"] == recipe.steps
    assert all(same_bits(t, seen[n]) for n, t in lora_tensors(model, 1).items())
    if bad_step and how.endswith("weight"):
        assert not any(same_bits(t, seen[n]) for n, t in lora_tensors(bank(torch.float64), 1).items())
    bad, good = metrics_of(tmp_path / "bad"), metrics_of(tmp_path / "healthy")
    for k in (0, 2):
        assert gap(lora_tensors(model, k), lora_tensors(healthy, k)) < 1e-12
        for name in ("loss", "grad_norm"):
            assert [x[name][k] for x in bad] == pytest.approx([x[name][k] for x in good], rel=1e-12)
    last = good[bad_step - 1]["loss"][1] if bad_step else None      # the last loss that was one
    assert [x["loss"][1] for x in bad[bad_step:]] == [last] * (recipe.steps - bad_step)


def test_a_bank_whose_adapters_have_all_stopped_is_over():
    model, shuffled, asked = bank(torch.float32), data(), []

    def batches(step):
        asked.append(step)
        dead = {1: (0,), 3: (1,), 4: (2,)}.get(step, ())
        return [[(x, [math.nan] * len(w)) for x, w in rows] if k in dead else rows
                for k, rows in enumerate(shuffled(step))]

    result = train(model, batches, RECIPE)
    assert result["stopped"] == {0: 1, 1: 3, 2: 4} and result["steps"] == 5 and max(asked) <= 5
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_bank_whose_adapter_has_no_loss_is_an_error():
    rows = examples(33, [4, 5])
    empty = [(rows[0][0], [0.0] * 4)]
    with pytest.raises(ValueError, match="step 1.*no loss"):
        train(bank(torch.float32), lambda step: [rows, rows, empty if step else rows], RECIPE)


# Data -------------------------------------------------------------------------------------------------------

def picks(shuffled, k, steps):
    return [[place for _, place in shuffled.pick(k, s)] for s in steps]


def test_every_epoch_is_a_permutation_of_its_own():
    lists = [[f"{k}{i}" for i in range(n)] for k, n in enumerate((7, 12))]
    shuffled = Shuffled(lists, 3, [5, 6])
    for k, n in enumerate((7, 12)):
        stream = sum(picks(shuffled, k, range(28)), [])
        epochs = [tuple(stream[i:i + n]) for i in range(0, len(stream), n)]
        assert all(sorted(e) == list(range(n)) for e in epochs) and len(set(epochs)) == len(epochs)
    assert shuffled(4) == [[lists[k][i] for i in picks(shuffled, k, [4])[0]] for k in (0, 1)]


def test_order_depends_on_seed_and_epoch_only():
    seven, other = list("abcdefg"), list(range(30))
    stream = sum(picks(Shuffled([seven], 3, [5]), 0, range(14)), [])
    assert sum(picks(Shuffled([seven], 2, [5]), 0, range(21)), []) == stream    # not on the batch size
    assert sum(picks(Shuffled([other, seven], 3, [1, 5]), 1, range(14)), []) == stream      # nor on the place
    backwards = picks(Shuffled([seven], 3, [5]), 0, range(13, -1, -1))          # nor on what was asked before
    assert sum(backwards[::-1], []) == stream
    neighbour = sum(picks(Shuffled([seven], 3, [6]), 0, range(14)), [])
    assert neighbour != stream and neighbour[:7] != stream[7:14]    # epoch 0 of seed 6, epoch 1 of seed 5


def test_short_lists_give_themselves_whole_and_empty_ones_raise():
    shuffled = Shuffled([["a", "b"], list("pqrstu")], 4, [0, 1])
    for step in range(5):
        short, long = shuffled(step)
        assert sorted(short) == ["a", "b"] and len(long) == 4
    for lists in ([], [[]], [["a"], []]):
        with pytest.raises(ValueError, match="no training examples"):
            Shuffled(lists, 4, [0, 1])


@pytest.mark.parametrize("budget", [1, 30, 64, 200, 10 ** 6])
@pytest.mark.parametrize("sizes", [(6,), (5, 1), (2, 9, 4), (3, 0)])
def test_micro_batches_keep_the_budget_and_every_example(sizes, budget):
    K, rng, left = len(sizes), np.random.default_rng(budget), max(sizes)
    lists = [examples(k, rng.integers(1, 15, n)) for k, n in enumerate(sizes)]
    found = [Counter() for _ in lists]
    for ids, weights, groups, adapters, other, *_ in micro_batches(whole(lists), budget):
        rows, T = ids.shape
        assert groups == K and adapters.tolist() == [k for k in range(K) for _ in range(rows // K)]
        assert other is None
        assert ids.dtype == torch.int64 and weights.dtype == torch.float32 and weights.shape == ids.shape
        assert rows % K == 0 and T >= 2 and (rows * T <= budget or rows == K)
        left -= rows // K
        assert left == 0 or (rows + K) * T > budget             # nor smaller than need be
        for i in range(rows):
            n = int((ids[i] > 0).sum())                         # the examples hold no 0, so 0 is padding
            assert (ids[i, n:] == 0).all() and (weights[i, n:] == 0).all()
            if n:
                found[i // (rows // K)][tuple(ids[i, :n].tolist()), tuple(weights[i, :n].tolist())] += 1
    assert left == 0 and found == [Counter((tuple(x), tuple(w)) for x, w in rows) for rows in lists]


# Adapters on disk as a bank ----

def saved(folder, seed, rank=3, alpha=6, targets=("q_proj", "down_proj")):
    """A PEFT folder of an adapter with random factors."""
    model = add_lora(make_tiny(0), targets, rank, alpha, [seed])
    generator = torch.Generator().manual_seed(seed)
    for module in adapted(model).values():
        module.lora_B.data.copy_(torch.randn(module.lora_B.shape, generator=generator))
    save_adapter(folder, model)
    return folder


def test_adapters_from_disk_are_side_by_side_what_they_are_alone(tmp_path):
    folders, model, ids = (
        [saved(tmp_path / str(seed), seed) for seed in (1, 2, 3)], make_tiny(0), [[5, 6, 7, 8]])
    with torch.no_grad():
        base = model(torch.tensor(ids))[0]
        alone = [load_adapter(folder, make_tiny(0))(torch.tensor(ids))[0] for folder in folders]
        load_bank(folders, model)
        together = model(torch.tensor(ids * 4), adapters=[2, 0, -1, 1])
    for row, wanted in zip(together, (alone[2], alone[0], base, alone[1]), strict=True):
        assert (row - wanted).abs().max() < 1e-5
    assert min((a - base).abs().max() for a in alone) > 1e-2 and (alone[0] - alone[1]).abs().max() > 1e-2


@pytest.mark.parametrize("other", [{"rank": 2}, {"alpha": 12}, {"targets": ("q_proj",)}], ids=str)
def test_adapters_of_different_kinds_are_no_bank(other, tmp_path):
    with pytest.raises(ValueError, match="differ in rank, alpha or targets"):
        load_bank([saved(tmp_path / "a", 1), saved(tmp_path / "b", 2, **other)], make_tiny(0))
