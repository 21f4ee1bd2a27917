"""Context as a weight patch, exact in fp64; gradients of single tokens against autograd on the weights."""

import pytest
import torch
import torch.nn.functional as F
from conftest import make_ids, make_tiny
from probing import CHAT, ITEM, PROMPTS, add_random

from model.capture import capture
from model.lora import adapted
from newnews.examples import Example
from newnews.probing import context, shadow
from newnews.probing.asked import asked
from newnews.probing.updates import Update, random_twin, updates_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base():
    return make_tiny(seed=8, dtype=torch.float64, vocab_size=1024, num_hidden_layers=3)


def test_the_patch_is_what_the_context_does_to_the_block(base):
    """Put into the weights of a block that has not read, the patches give its token the block's output
    behind the context, to 1e-12; without them the two are far apart."""
    closed, read = asked(CHAT, PROMPTS, ITEM), asked(CHAT, PROMPTS, ITEM, in_context=True)
    patches = context.context_patches(base, closed, read)
    assert len(patches) == 2
    for q, (mine, its) in enumerate(zip(closed.only_right().ids, read.only_right().ids)):
        for layer in range(3):
            parts = ("post_attention_layernorm", "resid_mid", "resid_post")
            names = [f"layers.{layer}.{part}" for part in parts]
            ends = []
            for batch, ids in ((closed, mine), (read, its)):
                place = int(batch.only_right().answer[q].int().argmax())
                with torch.no_grad(), capture(base, names) as seen:
                    base(ids[None])
                ends.append([seen[name][0, place] for name in names])
            (n0, r0, y0), (_, _, yC) = ends
            W = {name: base.get_parameter(f"model.layers.{layer}.mlp.{name}.weight")
                 + (p := patches[q][f"model.layers.{layer}.mlp.{name}"]).B @ p.A for name in context.MODULES}
            y = r0 + W["down_proj"] @ (F.silu(W["gate_proj"] @ n0) * (W["up_proj"] @ n0))
            assert (y - yC).abs().max() < 1e-12 and (y0 - yC).abs().max() > 0.1


def test_an_update_that_is_the_mean_patch_agrees_and_a_random_one_does_not(base):
    closed, read = asked(CHAT, PROMPTS, ITEM), asked(CHAT, PROMPTS, ITEM, in_context=True)
    patches = context.context_patches(base, closed, read)
    mean = context.mean_of(patches)
    turned = {name: Update(-u.B, u.A) for name, u in mean.items()}
    rows = context.rows({"news": patches}, {"same": mean, "turned": turned, "null": random_twin(mean)})
    assert len(rows) == 3 * 9
    for row in rows:
        if row["update"] == "null":
            assert abs(row["cosine"]) < 0.5 and row["columns"] < 0.9
            continue
        sign = 1 if row["update"] == "same" else -1
        assert row["cosine"] == pytest.approx(sign) and row["effect"] * sign > 0.3
        assert row["columns"] == pytest.approx(1) and row["rows"] == pytest.approx(1)


def test_agreement_is_that_of_the_dense_matrices():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)     # noqa: E731
    patches = [Update(draw(20, 1), draw(1, 30)) for _ in range(3)]
    update = Update(draw(20, 4), draw(4, 30))
    found, dense = context.agreement(patches, update), update.B @ update.A
    mean = sum(p.B @ p.A for p in patches) / 3
    assert found["cosine"] == pytest.approx(float((mean * dense).sum() / mean.norm() / dense.norm()))
    P = dense @ torch.linalg.pinv(dense)
    shares = [float((P @ p.B).norm() / p.B.norm()) ** 2 for p in patches]
    assert found["columns"] == pytest.approx(sum(shares) / 3)
    effects = [F.cosine_similarity(dense @ p.A[0], p.B[:, 0], dim=0) for p in patches]
    assert found["effect"] == pytest.approx(float(sum(effects) / 3))


def test_attention_outputs_are_compared_token_by_token(tuned):
    """Against plain hooks row by row; the base against itself has 1, and has not moved."""
    closed, read = asked(CHAT, PROMPTS, ITEM), asked(CHAT, PROMPTS, ITEM, in_context=True)
    rows = context.frozen(tuned, closed, {"news": read, "itself": closed}, ["tuned"])
    found = {(r["context"], r["update"], r["layer"]): r for r in rows}
    assert len(found) == 8 and found["itself", "base", 1]["asim"] == pytest.approx(1)
    assert found["itself", "tuned", 1]["asim"] < 0.999
    states = {}
    for name, batch, k in (("h_b", closed, -1), ("h_r", read, -1), ("h_t", closed, 0)):
        batch, kept = batch.only_right(), []
        for row, where in zip(batch.ids, batch.answer):
            with torch.no_grad(), capture(tuned, ["layers.1.self_attn"]) as seen:
                tuned(row[None], adapters=[k])
            kept.append(seen["layers.1.self_attn"][0, where])
        states[name] = torch.cat(kept)
    h_b, h_r, h_t = states.values()
    row = found["news", "tuned", 1]
    assert row["asim"] == pytest.approx(float(F.cosine_similarity(h_t, h_r, dim=1).mean()), abs=1e-9)
    moved = F.cosine_similarity(h_t - h_b, h_r - h_b, dim=1).mean()
    assert row["moved"] == pytest.approx(float(moved), abs=1e-9)
    assert 0 < row["mean_share"] < 1 and row["mean_share"] == found["itself", "tuned", 1]["mean_share"]


@pytest.fixture(scope="module")
def tuned():
    return add_random(make_tiny(seed=8, dtype=torch.float64, vocab_size=1024))


def test_gradients_of_tokens_are_those_of_the_weights(tuned):
    ids = make_ids(1, 9, vocab=1024)[0].tolist()
    example = Example(ids, [0, 0, 0, 0, 1.0, 0, 1.0, 1.0, 0])
    names, update = list(adapted(tuned)), updates_of(tuned)
    found = list(shadow.token_gradients(tuned, example, names))
    assert [t for t, *_ in found] == [4, 6, 7, None]
    weights = [adapted(tuned)[name].weight.requires_grad_() for name in names]
    each = -tuned(torch.tensor([ids]), adapters=[-1])[0].log_softmax(-1)
    each = torch.stack([each[t - 1, ids[t]] for t in (4, 6, 7)])
    for (_, loss, gradient), expected in zip(found, [*each, each.sum()]):
        assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
        dense = torch.autograd.grad(expected, weights, retain_graph=True)
        for name, G in zip(names, dense):
            B, A = gradient[name]
            assert torch.allclose(B @ A, G, atol=1e-6)
        flat = torch.cat([G.flatten() for G in dense])
        step = torch.cat([(update[n].B @ update[n].A).flatten() for n in names])
        norm, cosines = shadow.against(gradient, {"it": update}, {"it": float(step @ step)})
        assert norm == pytest.approx(float(flat.norm()), rel=1e-4)
        assert cosines["it"] == pytest.approx(float(-(flat @ step) / flat.norm() / step.norm()), abs=1e-6)
    for weight in weights:
        weight.requires_grad_(False)


def test_an_update_that_is_a_step_downhill_has_cosine_one(tuned):
    ids = make_ids(1, 9, vocab=1024)[0].tolist()
    example = Example(ids, [0.0] * 5 + [1.0] * 4)
    names = list(adapted(tuned))
    gradient = list(shadow.token_gradients(tuned, example, names))[-1][2]
    step = {name: Update(-0.1 * g.B, g.A) for name, g in gradient.items()}
    rows = shadow.rows(tuned, CHAT, [(example, example)], {"step": step, "null": random_twin(step)})
    whole = [row for row in rows if row["place"] == "all"]
    assert len(rows) == 10 and [row["news"] for row in whole] == ["without", "with"]
    assert whole[0]["cosine step"] == pytest.approx(1, abs=1e-9) and abs(whole[0]["cosine null"]) < 0.2
    assert all(row["cosine step"] < 1 for row in rows if row["place"] != "all")
    norm = {"layers.0.input_layernorm": Update(torch.ones(8, 1, dtype=torch.float64),
                                               torch.ones(1, 1, dtype=torch.float64))}
    full = shadow.rows(tuned, CHAT, [(example, example)], {"step": step, "full": step | norm})
    assert all(row["cosine full"] == row["cosine step"] for row in full)     # only projections count
