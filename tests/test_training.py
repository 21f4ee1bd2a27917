"""The training loop: accumulation, ties, what moves, precision, overfitting, the head, and a model that torch
has sharded. Losses and examples that it knows nothing of: test_training_losses.py; schedules: test_recipe.py.

Oracles: torch.optim.AdamW with clip_grad_norm_, tables written by hand, and `slow_twin`, the same training as
one would write it at first: one padded batch, whole logits, torch's optimizer. Banks, data order and stops
are in test_bank.py, resume in test_resume.py, AdamW by itself in test_optimizer.py.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_tiny
from safetensors.torch import safe_open

from model.flops import training_flops
from model.lora import PROJECTIONS, adapted, add_lora
from model.loss import token_losses
from newnews.batches import Batch, Shuffled, micro_batches
from newnews.examples import Example
from newnews.training import Recipe, next_token, train

V = 97
pytestmark = pytest.mark.usefixtures("one_thread")


def small(dtype=torch.float64, **changes):
    return make_tiny(0, dtype, **changes)


def examples(seed, lengths):
    """Random examples (ids, weights). Weights are quarters, which fp32 adds exactly."""
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


def summed(model, ids, weights, K):
    return next_token(model, Batch(ids, weights, K, None))


def weighted_mean(model, rows):
    ids, weights = padded(rows)
    losses = F.cross_entropy(model(ids).transpose(1, 2)[:, :, :-1], ids[:, 1:], reduction="none")
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


def torchs_adamw(params, recipe):
    groups = [{"params": [p for p in params if p.dim() > 1], "weight_decay": recipe.weight_decay},
              {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(recipe.beta1, recipe.beta2), eps=1e-8)


def slow_twin(model, batches, recipe, rates):
    """Train what has requires_grad. Returns the loss and the gradient norm of every step."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torchs_adamw(params, recipe)
    losses, norms = [], []
    for step, rate in enumerate(rates):
        loss = weighted_mean(model, batches(step)[0])
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(params, recipe.clip or math.inf).item())
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
    a, b = (t.detach().contiguous().view(torch.uint8) for t in (a, b))      # in bytes a NaN equals itself
    return torch.equal(a, b)


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# A step -----------------------------------------------------------------------------------------------------

RATES = [2 ** -8, 2 ** -7, 2 ** -7] + [2 ** -7 * i / 8 for i in range(7, 0, -1)]     # linear, exact in fp32
TWIN = Recipe(steps=10, rate=2 ** -7, batch=4, warmup=2, schedule="linear", weight_decay=0.1)


@pytest.mark.parametrize("kind, clip", [("full", 3.5), ("tied", 4.5), ("lora", 2.2), ("lora", 0.0)])
def test_any_split_of_the_step_equals_the_slow_twin(kind, clip, tmp_path):
    """Ragged rows, one of them without loss, weights between 0 and 1; splits down to one row at a time."""
    def fresh():
        model = small(tie_word_embeddings=kind == "tied")
        return add_lora(model, rank=3, alpha=6, seeds=(4,)) if kind == "lora" else model

    rows = examples(3, [9, 3, 14, 2, 7, 5, 11])
    rows[1] = rows[1][0], [1.0, 0.0, 0.0]           # the first token is never predicted: no loss
    start, slow = weights_of(fresh()), fresh()
    recipe = replace(TWIN, clip=clip)
    losses, norms = slow_twin(slow, Shuffled([rows], 4, [1]), recipe, RATES)
    assert clip == 0 or min(norms) < clip < max(norms)      # steps with and without clipping
    for micro_tokens in (1, 20, 33, 10 ** 6):
        model, folder = fresh(), tmp_path / str(micro_tokens)
        result = train(model, Shuffled([rows], 4, [1]), replace(recipe, micro_tokens=micro_tokens), folder)
        moved = {n: t for n, t in weights_of(slow).items() if not same_bits(t, start[n])}
        assert gap({n: model.state_dict()[n] for n in moved}, moved, start) < 1e-12
        lines = metrics_of(folder)
        assert [x["loss"][0] for x in lines] == pytest.approx(losses, rel=1e-12)
        assert [x["grad_norm"][0] for x in lines] == pytest.approx(norms, rel=1e-12)
        assert [x["rate"] for x in lines] == RATES and [x["step"] for x in lines] == list(range(10))
        data = Shuffled([rows], 4, [1])
        tokens = np.cumsum([sum(len(x) for x, _ in data(s)[0]) for s in range(10)]).tolist()
        assert [x["tokens"] for x in lines] == tokens
        assert result.pop("seconds") == lines[-1]["seconds"]
        assert result.pop("flops") == sum(step_flops(model, data(s)[0], kind) for s in range(10))
        assert result == {"steps": 10, "tokens": tokens[-1], "stopped": {}, "loss": lines[-1]["loss"]}


def step_flops(model, rows, kind):
    """By the ledger, which test_flops.py holds against torch's counter: padding and splits cost nothing."""
    supervised = sum(w > 0 for _, weights in rows for w in weights[1:])
    return training_flops(model.config, [len(x) for x, _ in rows], supervised,
                          (3, PROJECTIONS) if kind == "lora" else None)


def first_gradient(model, rows, folder):
    """What reaches AdamW in the first step: its first moment when beta1 = 0 and nothing is clipped."""
    recipe = Recipe(steps=1, rate=1e-3, beta1=0.0, clip=0.0, micro_tokens=20)
    train(model, lambda step: [rows], recipe, folder)
    with safe_open(folder / "state.safetensors", "pt") as f:
        return {n[2:]: f.get_tensor(n) for n in f.keys() if n.startswith("m/")}


def test_tied_embeddings_sum_the_gradient_of_both_uses(tmp_path):
    rows, untied, tied = examples(5, [6, 9, 4]), small(), small(tie_word_embeddings=True)
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
    model, rows = small(), examples(6, [3, 12, 7, 2, 9, 5])
    alone = torch.stack([summed(model, *padded([row]), 1)[0] for row in rows])
    wanted = torch.stack([weighted_mean(model, [row]) * sum(row[1][1:]) for row in rows])
    torch.testing.assert_close(alone, wanted, rtol=1e-12, atol=0)
    ids, weights = padded(rows)
    for K in (1, 2, 3, 6):                                  # consecutive rows belong together
        found = summed(model, ids, weights, K)
        torch.testing.assert_close(found, wanted.view(K, -1).sum(1), rtol=1e-12, atol=0)
    other = ids.clone()
    for i, (x, _) in enumerate(rows):
        other[i, len(x):] = V - 1
    assert torch.equal(summed(model, other, weights, 6), found)


@pytest.mark.parametrize("rows", [[([1, 2, 3], [0.0, 0.0, 0.0])],
                                  [([1, 2, 3], [1.0, 0.0, 0.0]), ([4], [1.0])]])     # on first tokens only
def test_a_step_without_loss_is_an_error(rows):
    good = examples(7, [5, 4])
    with pytest.raises(ValueError, match="step 2.*no loss"):
        train(small(), lambda step: [rows if step == 2 else good], Recipe(steps=4, rate=1e-3))


def test_a_full_run_stops_at_the_first_bad_step():
    """The loss is NaN at step 2: the weights stay as they were before it, and training is over."""
    model, rows, seen = small(torch.float32), examples(8, [5, 8]), []

    def batches(step):
        seen.append(weights_of(model))
        return [[rows[0], (rows[1][0], [math.nan] * 8)] if step == 2 else rows]

    result = train(model, batches, Recipe(steps=6, rate=1e-2, weight_decay=0.1))
    assert result["stopped"] == {0: 2} and np.isfinite(result["loss"]).all()
    assert result["steps"] == 3 and len(seen) <= 4
    for n, t in weights_of(model).items():
        assert same_bits(t, seen[2][n]) and not same_bits(t, seen[0][n])


# What moves -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("targets", [PROJECTIONS, ("q_proj", "down_proj"), ("v_proj",)])
def test_only_the_adapters_move(targets):
    model = add_lora(small(torch.float32), targets, rank=2, alpha=4)
    start = weights_of(model)
    train(model, Shuffled([examples(9, [6, 8, 5])], 2, [0]), Recipe(steps=3, rate=1e-2, weight_decay=0.1))
    moved = {n for n, t in weights_of(model).items() if not same_bits(t, start[n])}
    assert sorted(n.rpartition(".")[2] for n in adapted(model)) == sorted(targets * 2)      # two layers
    assert moved == {f"{n}.lora_{side}" for n in adapted(model) for side in "AB"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full_training_moves_every_tensor(dtype):
    model = small(dtype)
    start = weights_of(model)
    train(model, Shuffled([examples(9, [6, 8, 5])], 2, [0]), Recipe(steps=3, rate=1e-2))
    assert all(t.dtype == dtype and not torch.equal(t, start[n]) for n, t in weights_of(model).items())


def test_bf16_weights_move_where_bf16_updates_would_not(tmp_path):
    """100 steps of 2e-5 on weights whose bf16 grid is 5e-4 or 1e-3: in pure bf16 not one of them moves."""
    rows, recipe = examples(10, [12, 9, 14]), Recipe(steps=100, rate=2e-5, schedule="constant", clip=0.0)
    model, single, pure = small(torch.bfloat16), small(torch.bfloat16).float(), small(torch.bfloat16)
    start = weights_of(single)
    train(model, lambda step: [rows], recipe, tmp_path)
    train(single, lambda step: [rows], recipe)
    slow_twin(pure, lambda step: [rows], recipe, [2e-5] * 100)
    with safe_open(tmp_path / "state.safetensors", "pt") as f:
        masters = {n: f.get_tensor(f"values/{n}") for n in start}
    assert all(m.dtype == torch.float32 for m in masters.values())
    assert all(same_bits(m.bfloat16(), model.state_dict()[n]) for n, m in masters.items())
    band = {n: (t.abs() > 2 ** -4) & (t.abs() < 2 ** -2) for n, t in start.items()}
    move, wanted, none = (torch.cat([(m.state_dict()[n].bfloat16().float() - start[n])[b]
                                     for n, b in band.items()]) for m in (model, single, pure))
    assert (none == 0).all() and (move != 0).float().mean() > 0.8
    assert torch.cosine_similarity(move, wanted, dim=0) > 0.95


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_one_batch_is_learnt_by_heart(kind):
    model = small(torch.float32)
    model.lm_head.weight.data.mul_(4)       # frozen norm and head bound the logits that LoRA can reach
    if kind == "lora":
        add_lora(model, rank=8, alpha=16)
    rows = [([i + 1] + x, [0.0] + [1.0] * len(x)) for i, (x, _) in enumerate(examples(11, [6, 9, 7]))]
    assert weighted_mean(model, rows) > 4
    result = train(model, lambda step: [rows], Recipe(steps=120, rate=1e-2, schedule="linear"))
    assert result["loss"][0] < 0.01 and weighted_mean(model, rows) < 0.01


def old_path(model, ids, weights, K):
    """What the loop computed when it called the decoder and the head itself."""
    targets, weights = ids[:, 1:], weights[:, 1:]
    keep = weights > 0
    adapters = torch.arange(K).repeat_interleave(len(ids) // K) if adapted(model) else None
    hidden = model.model(ids[:, :-1], adapters=adapters)[keep]
    losses = token_losses(hidden, targets[keep], model.lm_head)
    group = torch.arange(len(ids)) // (len(ids) // K)
    group = group[:, None].expand_as(keep)[keep]
    return losses.new_zeros(K).index_add(0, group, losses * weights[keep])


@pytest.mark.parametrize("dtype, made", [(torch.float32, 0), (torch.bfloat16, 1)])
def test_no_gradient_of_the_head_stands_beside_the_sum(tiny, dtype, made):
    """In fp32 the head's backward adds to the step's sum; a bf16 model's own gradient is added in fp32."""
    model, seen = tiny(seed=9, dtype=dtype), []
    batches = Shuffled([[Example(list(range(9)), [0.0] * 3 + [1.0] * 6)]], 1, [0])
    model.lm_head.weight.requires_grad_(True).register_hook(lambda g: seen.append(g))
    before = model.lm_head.weight.detach().clone()
    train(model, batches, Recipe(steps=1, rate=0.1))
    assert sum(g is not None for g in seen) == made and not torch.equal(model.lm_head.weight.detach(), before)


@pytest.mark.parametrize("K", [0, 1, 3])
def test_the_default_loss_is_the_old_path_bit_for_bit(K):
    """Through the root module: the same sums and the same gradients."""
    rows = [Example(*row) for row in examples(25, [7, 3, 9, 5, 8, 2])]
    found = []
    for path in (next_token, lambda model, b: old_path(model, b.ids, b.weights, b.K)):
        model = small(torch.float32)
        if K:
            add_lora(model, rank=2, alpha=4, seeds=range(K))
            for module in adapted(model).values():
                module.lora_B.data.normal_(generator=torch.Generator().manual_seed(1))
        lists = [rows[k::K] for k in range(K)] if K else [rows]
        (batch,) = micro_batches(lists, 10 ** 6, bank=K > 0)
        sums = path(model, batch)
        sums.sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((sums.detach(), *grads))
    assert len(found[0]) > 10 and all(same_bits(a, b) for a, b in zip(*found, strict=True))


def test_a_step_of_a_sharded_model(tmp_path):
    """torch's fully_shard, one process: the loss goes through the root, so its weights are gathered. It must
    fail where the decoder is called behind the root's back."""
    dist = pytest.importorskip("torch.distributed")
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        (batch,) = micro_batches([[Example(*row) for row in examples(26, [7, 3, 9])]], 10 ** 6, bank=False)
        plain, sharded = small(torch.float32), small(torch.float32)
        mesh = init_device_mesh("cpu", (1,))
        for block in sharded.model.layers:
            fully_shard(block, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        with pytest.raises(RuntimeError, match="mixed torch.Tensor and DTensor"):
            sharded.model(batch.ids)
        losses = []
        for model in (plain, sharded):
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
            for _ in range(2):
                loss = next_token(model, batch).sum()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
        assert losses[2:] == pytest.approx(losses[:2], rel=1e-6) and losses[1] < losses[0]
        found = {n: p.detach().full_tensor() for n, p in sharded.named_parameters()}
        assert gap(found, dict(plain.named_parameters())) < 1e-5
    finally:
        dist.destroy_process_group()
