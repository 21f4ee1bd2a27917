"""The training loop with one set of weights: schedules, AdamW, accumulation, precision, data order, resume.

Oracles: torch.optim.AdamW with clip_grad_norm_, tables written by hand, and `slow_twin`, the same training as one
would write it at first: one padded batch, whole logits, torch's optimizer. Banks of adapters are in test_bank.py.
Models have 2 layers of width 16, and every tensor in them is random: a zero bias would hide a dropped one.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import safe_open

from model.lora import PROJECTIONS, adapted, add_lora
from model.qwen2 import Qwen2, Qwen2Config
from newnews import training
from newnews.training import AdamW, Recipe, Shuffled, micro_batches, summed_losses, train

V = 53


def tiny(dtype=torch.float64, tie=False, seed=0):
    model = Qwen2(Qwen2Config(vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                              num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                              rms_norm_eps=1e-6, rope_theta=1e4, tie_word_embeddings=tie))
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        p.data = 1 + 0.1 * noise if "norm" in name else 0.2 * noise
    return model.to(dtype)


def examples(seed, lengths):
    """Random examples (ids, weights); the weights are quarters, so that fp32 and fp64 hold and add them exactly."""
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(1, V, n).tolist(), (rng.integers(0, 5, n) / 4).tolist()) for n in lengths]
    for _, weights in rows:
        weights[-1] = 1.0
    return rows


def padded(rows):
    ids, weights = torch.zeros(2, len(rows), max(len(x) for x, _ in rows))
    for i, (x, w) in enumerate(rows):
        ids[i, :len(x)], weights[i, :len(w)] = torch.tensor(x), torch.tensor(w)
    return ids.long(), weights


def weighted_mean(model, rows):
    ids, weights = padded(rows)
    losses = F.cross_entropy(model(ids).transpose(1, 2)[:, :, :-1], ids[:, 1:], reduction="none")
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


def slow_twin(model, batches, recipe, rates):
    """Train what has requires_grad. Returns the loss and the gradient norm of every step."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": [p for p in params if p.dim() > 1], "weight_decay": recipe.weight_decay},
                                   {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0}],
                                  betas=(recipe.beta1, recipe.beta2), eps=1e-8)
    losses, norms = [], []
    for step, rate in enumerate(rates):
        loss = weighted_mean(model, batches(step)[0])
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(params, recipe.clip or float("inf")).item())
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return losses, norms


def weights_of(model):
    return {n: t.detach().clone() for n, t in model.state_dict().items()}


def gap(found, wanted, start=None):
    """The largest relative difference, tensor by tensor, of two models' weights, or of how far they moved."""
    assert found.keys() == wanted.keys()
    zero = start or {n: torch.zeros_like(t) for n, t in wanted.items()}
    return max(((found[n] - t).norm() / (t - zero[n]).norm()).item() for n, t in wanted.items())


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy(force=True).tobytes() == b.numpy(force=True).tobytes()


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# Recipe ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule, warmup, steps, table", [
    ("constant", 0, 3, [1, 1, 1]),
    ("constant", 4, 6, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]),
    ("linear", 0, 4, [1, 3 / 4, 2 / 4, 1 / 4]),
    ("linear", 2, 7, [1 / 2, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),
    ("cosine", 0, 4, [1, 0.853553390593, 0.5, 0.146446609407]),
    ("cosine", 2, 8, [1 / 2, 1, 1, 0.933012701892, 0.75, 0.5, 0.25, 0.066987298108]),
    ("cosine", 4, 2, [1 / 4, 2 / 4]),
])
def test_rates(schedule, warmup, steps, table):
    recipe = Recipe(steps=steps, rate=0.3, warmup=warmup, schedule=schedule)
    assert [recipe.rate_at(s) for s in range(steps)] == pytest.approx([0.3 * x for x in table], rel=1e-11)


@pytest.mark.parametrize("name, value", [
    ("steps", 0), ("rate", 0.0), ("rate", -1e-3), ("rate", float("inf")), ("rate", float("nan")), ("batch", 0),
    ("warmup", -1), ("schedule", "step"), ("clip", -0.1), ("clip", float("nan")), ("micro_tokens", 0)])
def test_recipe_names_what_is_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name} = "):
        Recipe(**{"steps": 1, "rate": 1e-3, name: value})


# AdamW ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("bank", [False, True])
def test_adamw_is_torchs(dtype, tolerance, bank):
    """100 updates with moving rates. Gradients from 1e-9, where eps decides, to 10, where clipping does. In a bank each
    slice is a torch optimizer of its own."""
    K, generator = 3 if bank else 1, torch.Generator().manual_seed(1)
    recipe = Recipe(steps=100, rate=1e-2, weight_decay=0.1, beta1=0.8, beta2=0.9, clip=1.0)
    shapes = {"matrix": (4, 5), "wide": (2, 7)} if bank else {"matrix": (4, 5), "vector": (6,)}
    start = {n: torch.randn(K, *s, generator=generator, dtype=dtype) for n, s in shapes.items()}
    ours = {n: torch.nn.Parameter(t.clone() if bank else t[0].clone()) for n, t in start.items()}
    theirs = [{n: torch.nn.Parameter(t[k].clone()) for n, t in start.items()} for k in range(K)]
    optimizer = AdamW(ours, recipe, bank)
    torchs = [torch.optim.AdamW([{"params": [p for p in ps.values() if p.dim() > 1], "weight_decay": 0.1},
                                 {"params": [p for p in ps.values() if p.dim() == 1], "weight_decay": 0.0}],
                                lr=1.0, betas=(0.8, 0.9), eps=1e-8) for ps in theirs]
    norms = []
    for t in range(1, recipe.steps + 1):
        rates = torch.rand(K, generator=generator, dtype=dtype) * 0.1
        grads = {n: torch.randn(K, *s, generator=generator, dtype=dtype) for n, s in shapes.items()}
        for k in range(K):
            size = 10.0 ** float(torch.randint(-9, 2, (), generator=generator))
            for n, g in grads.items():
                g[k] *= size
                theirs[k][n].grad = g[k].clone()
            wanted = torch.nn.utils.clip_grad_norm_(theirs[k].values(), 1.0)
            norms.append(wanted.item())
            for group in torchs[k].param_groups:
                group["lr"] = rates[k].item()
            torchs[k].step()
        for n, p in ours.items():
            p.grad = grads[n] if bank else grads[n][0]
        optimizer.collect()
        torch.testing.assert_close(optimizer.norms(), torch.tensor(norms[-K:], dtype=dtype), rtol=1e-5, atol=0)
        with torch.no_grad():
            optimizer.step(t, rates, torch.ones(K, dtype=torch.bool))
    for n, p in ours.items():
        stacked = torch.stack([ps[n].detach() for ps in theirs])
        assert gap({n: p.detach() if bank else p.detach()[None]}, {n: stacked}, start) < tolerance
    assert min(norms) < 1e-7 and max(norms) > 1


def test_adamw_on_bf16_keeps_an_fp32_master():
    """The same gradients on a bf16 parameter and on its fp32 copy: the same values, rounded only at the end."""
    generator = torch.Generator().manual_seed(2)
    low = torch.nn.Parameter(torch.randn(8, 8, generator=generator).bfloat16())
    full = torch.nn.Parameter(low.detach().float())
    recipe, start = Recipe(steps=50, rate=1e-5), low.detach().clone()
    optimizers = [AdamW({"w": p}, recipe, False) for p in (low, full)]
    for t in range(1, 51):
        for micro in range(3):                      # sums of micro-batches must not round to bf16 either
            g = torch.randn(8, 8, generator=generator).abs().bfloat16()
            low.grad, full.grad = g, g.float()
            for optimizer in optimizers:
                optimizer.collect()
        with torch.no_grad():
            for optimizer in optimizers:
                optimizer.step(t, torch.tensor([1e-3]), torch.tensor([True]))
    assert low.dtype == torch.bfloat16 and same_bits(low.detach().float(), full.detach().bfloat16().float())
    assert same_bits(optimizers[0].values["w"], full.detach()) and (low != start).float().mean() > 0.9


# A step ---------------------------------------------------------------------------------------------------------------

RATES = [2 ** -8, 2 ** -7, 2 ** -7] + [2 ** -7 * i / 8 for i in range(7, 0, -1)]     # linear, exact in fp32
TWIN = Recipe(steps=10, rate=2 ** -7, batch=4, warmup=2, schedule="linear", weight_decay=0.1, clip=0.8)


@pytest.mark.parametrize("kind", ["full", "tied", "lora"])
def test_any_split_of_the_step_equals_the_slow_twin(kind, tmp_path):
    """Ragged rows, one of them without loss, weights between 0 and 1; splits down to one row at a time."""
    def fresh():
        model = tiny(tie=kind == "tied")
        return add_lora(model, rank=3, alpha=6, seeds=(4,)) if kind == "lora" else model

    rows = examples(3, [9, 3, 14, 2, 7, 5, 11])
    rows[1] = rows[1][0], [1.0, 0.0, 0.0]           # the first token is never predicted, so its weight counts nowhere
    start, slow = weights_of(fresh()), fresh()
    losses, norms = slow_twin(slow, Shuffled([rows], 4, [1]), TWIN, RATES)
    print(norms); assert 1
    for micro_tokens in (1, 20, 33, 10 ** 6):
        model, folder = fresh(), tmp_path / str(micro_tokens)
        result = train(model, Shuffled([rows], 4, [1]), replace(TWIN, micro_tokens=micro_tokens), folder)
        moved = {n: t for n, t in weights_of(slow).items() if not same_bits(t, start[n])}
        assert gap({n: model.state_dict()[n] for n in moved}, moved, start) < 1e-12
        lines = metrics_of(folder)
        assert [x["loss"][0] for x in lines] == pytest.approx(losses, rel=1e-12)
        assert [x["grad_norm"][0] for x in lines] == pytest.approx(norms, rel=1e-12)
        assert [x["rate"] for x in lines] == RATES and [x["step"] for x in lines] == list(range(10))
        tokens = np.cumsum([sum(len(x) for x, _ in Shuffled([rows], 4, [1])(s)[0]) for s in range(10)]).tolist()
        assert [x["tokens"] for x in lines] == tokens
        assert result == {"steps": 10, "tokens": tokens[-1], "stopped": {}, "loss": lines[-1]["loss"]}


def first_gradient(model, rows, folder):
    """What reaches AdamW in the first step: its first moment when beta1 = 0 and nothing is clipped."""
    train(model, lambda step: [rows], Recipe(steps=1, rate=1e-3, beta1=0.0, clip=0.0, micro_tokens=20), folder)
    with safe_open(folder / "state.safetensors", "pt") as f:
        return {n[2:]: f.get_tensor(n) for n in f.keys() if n.startswith("m/")}


def test_tied_embeddings_sum_the_gradient_of_both_uses(tmp_path):
    rows, untied, tied = examples(5, [6, 9, 4]), tiny(), tiny(tie=True)
    untied.lm_head.weight.data.copy_(tied.lm_head.weight)
    untied.model.load_state_dict(tied.model.state_dict())
    weighted_mean(untied, rows).backward()
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    wanted = {n: p.grad for n, p in untied.named_parameters()}
    wanted[embedding] = wanted[embedding] + wanted.pop(head)
    assert gap(first_gradient(tied, rows, tmp_path), wanted) < 1e-12
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert tied.lm_head.weight.data_ptr() == tied.model.embed_tokens.weight.data_ptr()


def test_padding_and_neighbours_do_not_change_the_losses():
    model, rows = tiny(), examples(6, [3, 12, 7, 2, 9, 5])
    alone = torch.stack([summed_losses(model, *padded([row]), 1)[0] for row in rows])
    wanted = torch.stack([weighted_mean(model, [row]) * sum(row[1][1:]) for row in rows])
    torch.testing.assert_close(alone, wanted, rtol=1e-12, atol=0)
    ids, weights = padded(rows)
    for K in (1, 2, 3, 6):                                  # consecutive rows belong together
        found = summed_losses(model, ids, weights, K)
        torch.testing.assert_close(found, wanted.view(K, -1).sum(1), rtol=1e-12, atol=0)
    other = ids.clone()
    for i, (x, _) in enumerate(rows):
        other[i, len(x):] = V - 1
    assert torch.equal(summed_losses(model, other, weights, 6), found)


@pytest.mark.parametrize("rows", [[([1, 2, 3], [0.0, 0.0, 0.0])], [([1, 2, 3], [1.0, 0.0, 0.0]), ([4], [1.0])]])
def test_a_step_without_loss_is_an_error(rows):
    good = examples(7, [5, 4])
    with pytest.raises(ValueError, match="step 2.*no loss"):
        train(tiny(), lambda step: [rows if step == 2 else good], Recipe(steps=4, rate=1e-3))


def test_a_full_run_stops_at_the_first_bad_step():
    """One NaN weight: the loss is NaN at step 2, the weights stay as they were before it, and training is over."""
    model, rows, seen = tiny(torch.float32), examples(8, [5, 8]), []

    def batches(step):
        seen.append(weights_of(model))
        return [[rows[0], (rows[1][0], [float("nan")] * 8)] if step == 2 else rows]

    result = train(model, batches, Recipe(steps=6, rate=1e-2, weight_decay=0.1))
    assert result["stopped"] == {0: 2} and np.isfinite(result["loss"]).all()
    assert all(same_bits(t, seen[2][n]) and not same_bits(t, seen[0][n]) for n, t in weights_of(model).items())


# What moves -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("targets", [PROJECTIONS, ("q_proj", "down_proj"), ("v_proj",)])
def test_only_the_adapters_move(targets):
    model = add_lora(tiny(torch.float32), targets, rank=2, alpha=4)
    start = weights_of(model)
    train(model, Shuffled([examples(9, [6, 8, 5])], 2, [0]), Recipe(steps=3, rate=1e-2, weight_decay=0.1))
    moved = {n for n, t in weights_of(model).items() if not same_bits(t, start[n])}
    assert {n.rpartition(".")[2] for n in adapted(model)} == set(targets) and len(adapted(model)) == 2 * len(targets)
    assert moved == {f"{n}.lora_{side}" for n in adapted(model) for side in "AB"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full_training_moves_every_tensor(dtype):
    model = tiny(dtype)
    start = weights_of(model)
    train(model, Shuffled([examples(9, [6, 8, 5])], 2, [0]), Recipe(steps=3, rate=1e-2))
    assert all(t.dtype == dtype and not torch.equal(t, start[n]) for n, t in weights_of(model).items())


def test_bf16_weights_move_where_bf16_updates_would_not(tmp_path):
    """100 steps of 1e-5 on weights whose bf16 grid is 5e-4 or more: in pure bf16 not one of them leaves its place."""
    rows, recipe = examples(10, [12, 9, 14]), Recipe(steps=100, rate=1e-5, schedule="constant", clip=0.0, batch=3)
    model, single, pure = tiny(torch.bfloat16), tiny(torch.bfloat16).float(), tiny(torch.bfloat16)
    start = weights_of(single)
    train(model, Shuffled([rows], 3, [0]), recipe, tmp_path)
    train(single, Shuffled([rows], 3, [0]), recipe)
    slow_twin(pure, Shuffled([rows], 3, [0]), recipe, [1e-5] * 100)
    found, wanted, stuck = (weights_of(m) for m in (model, single, pure))
    big = {n: t.abs() > 2 ** -4 for n, t in start.items()}
    assert all(torch.equal(stuck[n].float()[b], start[n][b]) for n, b in big.items())
    with safe_open(tmp_path / "state.safetensors", "pt") as f:
        masters = {n: f.get_tensor(f"values/{n}") for n in found}
    assert all(m.dtype == torch.float32 and same_bits(m.bfloat16().float(), found[n].float()) for n, m in masters.items())
    moves = [torch.cat([(t[n].float() - start[n])[b] for n, b in big.items()])
             for t in (found, {n: t.bfloat16() for n, t in wanted.items()})]
    print((moves[0] != 0).float().mean(), (moves[1] != 0).float().mean(), torch.cosine_similarity(*moves, dim=0), len(moves[0]), gap(masters, wanted, start), gap(masters, wanted))
    assert (moves[0] != 0).float().mean() > 0.4 and torch.cosine_similarity(*moves, dim=0) > 0.8


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_one_batch_is_learnt_by_heart(kind):
    model = tiny(torch.float32)
    if kind == "lora":
        add_lora(model, rank=8, alpha=16)
    rows = [([i + 1] + x, [0.0] + [1.0] * len(x)) for i, (x, _) in enumerate(examples(11, [6, 9, 7]))]
    result = train(model, lambda step: [rows], Recipe(steps=120, rate=3e-2, schedule="linear"))
    assert result["loss"][0] < 0.02 and weighted_mean(model, rows) < 0.02


# Data -----------------------------------------------------------------------------------------------------------------

def picks(shuffled, k, steps):
    return [[int(i) for i in shuffled.pick(k, s)] for s in steps]


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
    assert sum(picks(Shuffled([seven], 2, [5]), 0, range(21)), []) == stream            # not on the batch size
    assert sum(picks(Shuffled([other, seven], 3, [1, 5]), 1, range(14)), []) == stream  # nor the place in the bank
    backwards = picks(Shuffled([seven], 3, [5]), 0, range(13, -1, -1))                  # nor on what was asked before
    assert sum(backwards[::-1], []) == stream
    assert sum(picks(Shuffled([seven], 3, [6]), 0, range(14)), []) != stream


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
    for ids, weights in micro_batches(lists, budget):
        rows, T = ids.shape
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


# Resume ---------------------------------------------------------------------------------------------------------------

def job(kind):
    """A run of 7 steps whose batches cross the epochs: (model, batches, recipe). In the bank adapter 1 stops at step 2."""
    lists = [examples(20 + k, lengths) for k, lengths in enumerate(([5, 9, 4, 7, 6], [8, 3, 10], [12]))]
    recipe = Recipe(steps=7, rate=1e-2, batch=2, warmup=2, weight_decay=0.1, micro_tokens=40)
    if kind == "bank":
        model, shuffled = add_lora(tiny(torch.float32), rank=2, seeds=(1, 2, 3)), Shuffled(lists, 2, [7, 8, 9])
    else:
        model, shuffled = tiny(torch.bfloat16 if kind == "bf16" else torch.float32), Shuffled(lists[:1], 2, [7])

    def batches(step):
        rows = shuffled(step)
        if kind == "bank" and step == 2:
            rows[1] = [(x, [float("nan")] * len(w)) for x, w in rows[1]]
        return rows

    return model, batches, recipe


class Killed(Exception):
    pass


def run_until(folder, kind, kill=None, kept=(), how=None):
    """Run or resume a job; die when step `kill` begins; keep the state after the steps in `kept` and at the end.
    Returns the trained weights, the result and the steps that ran."""
    (model, batches, recipe), steps = job(kind), []

    def watched(step):
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL) if how == "SIGKILL" else None
            raise Killed
        steps.append(step)
        training.SAVE_SECONDS = -1 if step in kept else 10 ** 9
        return batches(step)

    before = training.SAVE_SECONDS
    try:
        result = train(model, watched, recipe, folder, "run")
    finally:
        training.SAVE_SECONDS = before
    return weights_of(model), result, steps


def ending(folder):
    """What must not depend on kills: every byte of the state's tensors, the rest of the state, metrics but for time."""
    with safe_open(folder / "state.safetensors", "pt") as f:
        tensors = {n: (t.dtype, t.shape, t.numpy().tobytes()) for n in f.keys() for t in [f.get_tensor(n)]}
        metadata = f.metadata()
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in metrics_of(folder)]
    return tensors, metadata, json.dumps(lines)             # as text, in which NaN equals NaN


def check_same(folder, outcome, wanted_folder, wanted):
    assert ending(folder) == ending(wanted_folder)
    assert outcome[1] == wanted[1] and all(same_bits(t.float(), wanted[0][n].float()) for n, t in outcome[0].items())


@pytest.mark.parametrize("kind", ["bank", "full", "bf16"])
def test_killed_anywhere_and_started_again_ends_in_the_same_bytes(kind, tmp_path):
    whole = tmp_path / "whole"
    wanted = run_until(whole, kind)
    assert wanted[2] == list(range(7)) and wanted[1]["stopped"] == ({1: 2} if kind == "bank" else {})
    for kill, kept in ((1, [0]), (2, [0]), (3, [2]), (3, []), (4, [1]), (5, [1, 3]), (6, [5])):
        folder = tmp_path / f"{kill}{kept}"
        with pytest.raises(Killed):
            run_until(folder, kind, kill, kept)
        assert len(metrics_of(folder)) == kill
        with open(folder / "metrics.jsonl", "a") as f:
            f.write('{"step": 6, "rate": 0.00')             # the kill came in the middle of a line
        outcome = run_until(folder, kind)
        assert outcome[2] == list(range(kept[-1] + 1 if kept else 0, 7))
        check_same(folder, outcome, whole, wanted)
    with pytest.raises(Killed):                             # killed, and killed again
        run_until(tmp_path / "twice", kind, 3, [1])
    with pytest.raises(Killed):
        run_until(tmp_path / "twice", kind, 6, [3])
    check_same(tmp_path / "twice", run_until(tmp_path / "twice", kind), whole, wanted)
    again = run_until(whole, kind)                          # a finished run is left as it is
    assert again[2] == []
    check_same(whole, again, tmp_path / "twice", wanted)


def test_killed_while_the_state_is_written(tmp_path, monkeypatch):
    """The old state stands until the new one is whole."""
    wanted = run_until(tmp_path / "whole", "bank")
    folder, replace_file, calls = tmp_path / "cut", os.replace, []

    def replace_once(*paths):
        calls.append(paths)
        if len(calls) > 1:
            raise Killed
        replace_file(*paths)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", replace_once)
        run_until(folder, "bank", kept=[1, 4])
    (folder / "state.part").write_bytes(b"half a sta")
    outcome = run_until(folder, "bank")
    assert outcome[2] == [2, 3, 4, 5, 6]
    check_same(folder, outcome, tmp_path / "whole", wanted)


def test_sigkill(tmp_path):
    code = f"import test_training as t; t.run_until(t.Path({str(tmp_path / 'cut')!r}), 'bank', 5, [2], 'SIGKILL')"
    path = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))])
    child = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert len(metrics_of(tmp_path / "cut")) == 5
    outcome = run_until(tmp_path / "cut", "bank")
    assert outcome[2] == [3, 4, 5, 6]
    check_same(tmp_path / "cut", outcome, tmp_path / "whole", run_until(tmp_path / "whole", "bank"))


@pytest.mark.parametrize("change", [{"rate": 2e-2}, {"steps": 8}, {"seed": 1}, {"micro_tokens": 41}, {"run": "other"}])
def test_the_state_of_another_run_is_refused(change, tmp_path):
    with pytest.raises(Killed):
        run_until(tmp_path, "full", 4, [2])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    model, batches, recipe = job("full")
    start, run = weights_of(model), change.pop("run", "run")
    with pytest.raises(ValueError, match="another run"):
        train(model, batches, replace(recipe, **change), tmp_path, run)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert all(same_bits(t, start[n]) for n, t in weights_of(model).items())
