"""Reading and editing activations by name, against transformers' own hooks on the same weights.

What is captured is what the forward pass used, bit for bit, and the pass is not changed by it; hooks are gone
after the block, also after an error; gradients flow through; an edit reaches the output; names that mean
nothing, or too much, are refused.
"""

import pytest
import torch

from model.capture import capture, eager_attention, edit, find
from model.lora import add_lora
from model.qwen2 import rotate, rotary_tables
from model.drawing import Sampling
from model.sampling import generate

pytestmark = pytest.mark.usefixtures("one_thread")
RESIDUAL = ["resid_pre", "resid_mid", "resid_post"]
INSIDE = ["rot_q", "rot_k", "z", "pattern"]
ALL = [f"layers.{i}.{name}" for i in range(2) for name in RESIDUAL + INSIDE]


@pytest.fixture
def model(tiny):
    return tiny(seed=50, dtype=torch.float64)


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def transformers_sees(hf, ids):
    """The same activations by hooks on transformers' modules, which has some of them only as arguments."""
    seen, handles = {}, []

    def keep(name, pick):
        def hook(module, args, kwargs, output):
            seen[name] = pick(args, output)
        return hook

    for i, block in enumerate(hf.model.layers):
        places = {"resid_pre": (block.input_layernorm, lambda args, out: args[0]),
                  "resid_mid": (block.post_attention_layernorm, lambda args, out: args[0]),
                  "resid_post": (block, lambda args, out: out[0] if isinstance(out, tuple) else out),
                  "q": (block.self_attn.q_proj, lambda args, out: out),
                  "k": (block.self_attn.k_proj, lambda args, out: out),
                  "z": (block.self_attn.o_proj, lambda args, out: args[0]),
                  "pattern": (block.self_attn, lambda args, out: out[1])}
        for name, (module, pick) in places.items():
            handles.append(module.register_forward_hook(keep(f"layers.{i}.{name}", pick), with_kwargs=True))
    with torch.no_grad():
        hf(ids)
    for handle in handles:
        handle.remove()
    return seen


def test_every_name_against_transformers(model, twin, ids):
    x, c = ids(2, 11), model.config
    theirs = transformers_sees(twin(model, "eager"), x)
    with torch.no_grad(), eager_attention(model), capture(model, ALL) as seen:
        model(x)
    assert list(seen) and set(seen) == set(ALL)
    cos, sin = rotary_tables(torch.arange(11)[None], c, torch.float64)
    for i in range(2):
        q, k = (theirs[f"layers.{i}.{n}"].view(2, 11, -1, c.head_dim).transpose(1, 2) for n in "qk")
        wanted = {**{n: theirs[f"layers.{i}.{n}"] for n in [*RESIDUAL, "pattern"]},
                  "z": theirs[f"layers.{i}.z"].view(2, 11, c.num_attention_heads, c.head_dim),
                  "rot_q": rotate(q, cos, sin), "rot_k": rotate(k, cos, sin)}
        for name, tensor in wanted.items():
            ours = seen[f"layers.{i}.{name}"]
            assert ours.shape == tensor.shape and tensor.std() > 0.01
            assert (ours - tensor).abs().max() < 1e-5, name         # transformers norms in fp32
    assert not torch.equal(seen["layers.0.z"], seen["layers.1.z"])


def test_any_module_of_any_model(model, twin, ids):
    """Full names, on ours and on transformers' alike; of a tuple the first element."""
    x, hf = ids(2, 7), twin(model, "eager")
    names = ["model.embed_tokens", "layers.1", "layers.0.self_attn", "layers.1.mlp.gate_proj", "norm"]
    with torch.no_grad(), capture(model, names) as ours, capture(hf, names) as theirs:
        model(x), hf(x)
    for name in names:
        assert (ours[name] - theirs[name]).abs().max() < 1e-5 and ours[name].std() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_captured_runs_give_the_same_bits_and_leave_no_hooks(tiny, ids, dtype):
    model, x = tiny(seed=51, dtype=dtype), ids(3, 9)
    before, state = hooks_of(model), list(model.state_dict())
    with torch.no_grad():
        plain = model(x)
        with capture(model, [name for name in ALL if "pattern" not in name]) as seen:
            assert torch.equal(model(x), plain)
            assert hooks_of(model) == before + len(ALL) - 2
        assert hooks_of(model) == before and torch.equal(model(x), plain)
        first = {name: t.clone() for name, t in seen.items()}
        model(ids(3, 9, seed=1))                                    # outside the block nothing is kept
        assert all(torch.equal(t, first[name]) for name, t in seen.items())
    assert not any(word in name for name in state for word in RESIDUAL + INSIDE)


def test_hooks_are_gone_after_an_error(model, ids):
    before = hooks_of(model)
    for block in (lambda: capture(model, ALL), lambda: edit(model, {"layers.0": lambda x: 1 / 0})):
        with pytest.raises(ZeroDivisionError):
            with block():
                model(ids(1, 3))
                raise ZeroDivisionError
        assert hooks_of(model) == before
    with pytest.raises(ValueError):
        with capture(model, ["layers.0", "layers.9"]):
            pass
    assert hooks_of(model) == before
    with pytest.raises(RuntimeError), eager_attention(model):
        raise RuntimeError
    assert not any(block.self_attn.eager for block in model.model.layers)


def test_a_later_call_replaces_and_an_early_look_is_told_why(model, ids):
    with torch.no_grad(), capture(model, ["layers.1.z", "layers.1.pattern"]) as seen:
        with pytest.raises(KeyError, match="layers.1.z.*was the model called"):
            seen["layers.1.z"]
        model(ids(2, 5))
        model(ids(2, 8))
        assert seen["layers.1.z"].shape[1] == 8
        with pytest.raises(KeyError, match="eager_attention"):
            seen["layers.1.pattern"]


def test_gradients_flow_through_what_is_captured(model, ids):
    """d loss / d activation, against a finite difference made by an edit."""
    x, name = ids(1, 6), "layers.0.resid_mid"
    model.requires_grad_(True)
    with capture(model, [name]) as seen:
        loss = model(x).square().mean()
    (slope,) = torch.autograd.grad(loss, seen[name])
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss_at(step):
        with torch.no_grad(), edit(model, {name: lambda h: h + step * direction}):
            return model(x).square().mean()

    wanted = float(loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    assert float((slope * direction).sum()) == pytest.approx(wanted, rel=1e-6) and abs(wanted) > 1e-3


def test_edits_reach_the_output(model, ids):
    """The residual stream of another text put in place gives the other text's logits; heads can be cut."""
    x, other = ids(1, 6), ids(1, 6, seed=1)
    with torch.no_grad():
        with capture(model, ["layers.0.resid_post"]) as seen:
            theirs = model(other)
        stored = seen["layers.0.resid_post"]
        with edit(model, {"layers.0.resid_post": lambda h: stored}):
            assert torch.equal(model(x), theirs)
            with capture(model, ["layers.0.resid_post", "layers.1.resid_pre"]) as inside:
                model(x)
        assert torch.equal(inside["layers.0.resid_post"], stored)   # a capture inside sees the edit
        assert torch.equal(inside["layers.1.resid_pre"], stored)

        def cut(z):
            z = z.clone()
            z[:, :, 2] = 0
            return z

        with edit(model, {"layers.1.z": cut}):
            found = model(x)
        weight, Dh = model.model.layers[1].self_attn.o_proj.weight, model.config.head_dim
        kept = weight.data.clone()
        weight.data[:, 2 * Dh:3 * Dh] = 0                           # head 2 writes nothing
        assert (found - model(x)).abs().max() < 1e-12
        weight.data.copy_(kept)
        assert (found - model(x)).abs().max() > 1e-2


def test_an_edit_of_a_tuple_keeps_the_rest(model, twin, ids):
    hf, x = twin(model, "eager"), ids(1, 5)
    with torch.no_grad():
        plain = hf(x, output_attentions=True)
        with edit(hf, {"layers.1.self_attn": lambda out: out * 0}):
            cut = hf(x, output_attentions=True)
        with edit(model, {"layers.1.self_attn": lambda out: out * 0}):
            ours = model(x)
    assert torch.equal(cut.attentions[1], plain.attentions[1])
    assert (cut.logits - ours).abs().max() < 1e-5 and (cut.logits - plain.logits).abs().max() > 1e-2


def test_an_edit_that_returns_nothing_is_an_error(model, ids):
    with pytest.raises(ValueError, match="edit of layers.0.z: the function returned nothing"):
        with edit(model, {"layers.0.z": lambda z: None}):
            model(ids(1, 3))


def test_an_edit_that_never_took_place_is_an_error(model, ids):
    """Without eager_attention there is no pattern: an edit of it would read as: nothing depends on it."""
    with pytest.raises(ValueError, match=r"edit of layers.0.pattern: nothing was edited.*eager_attention"):
        with edit(model, {"layers.0.pattern": torch.zeros_like, "layers.1.z": lambda z: z}):
            model(ids(1, 3))
    with pytest.raises(KeyError, match="mine"):            # an error in the block is its own
        with edit(model, {"layers.0.pattern": torch.zeros_like}):
            raise KeyError("mine")


def test_in_generation_and_with_adapters(model):
    """Every decoded token passes the hooks; q_proj is found by its short name with an adapter on it, too."""
    add_lora(model, rank=2, alpha=4)
    shapes = []
    note = lambda x: shapes.append(tuple(x.shape)) or x
    with edit(model, {"layers.1.resid_post": note, "layers.0.q_proj": note}):
        generate(model, [[1, 2, 3]], (), Sampling(3, temperature=0))
    assert [shape[:2] for shape in shapes] == [(1, 2)] * 2 + [(1, 1)] * 6


@pytest.mark.parametrize("name, full", [
    ("layers.0.resid_pre", "model.layers.0.resid_pre"), ("layers.1.z", "model.layers.1.self_attn.z"),
    ("model.layers.1.self_attn.rot_q", "model.layers.1.self_attn.rot_q"), ("norm", "model.norm"),
    ("layers.0.down_proj", "model.layers.0.mlp.down_proj"), ("lm_head", "lm_head"),
    ("layers.1", "model.layers.1"), ("model", "model")])
def test_short_names(model, name, full):
    assert find(model, name) is model.get_submodule(full)


@pytest.mark.parametrize("name, said", [
    ("layers.2.resid_pre", "nearest are .*model.layers.[01].resid_pre"),
    ("layers.0.residpre", "nearest are model.layers.0.resid_pre"),
    ("layers.0.self_attn.hook_z", "model.layers.0.self_attn.z"),
    ("resid_pre", "'resid_pre' may be model.layers.0.resid_pre, model.layers.1.resid_pre"),
    ("xyzzy.qqq", "no module is named 'xyzzy.qqq'")])
def test_names_that_mean_nothing_or_too_much(model, name, said):
    with pytest.raises(ValueError, match=said):
        with capture(model, [name]):
            pass


def test_layer_1_is_not_layer_11(tiny):
    model = tiny(num_hidden_layers=12)
    assert find(model, "layers.1.z") is model.model.layers[1].self_attn.z
    assert find(model, "layers.11.z") is model.model.layers[11].self_attn.z
