"""The network against transformers' Qwen2ForCausalLM, with the same random weights in both.

Parity      fp32 logits within 2e-5, every gradient within 1e-4 of its norm, bf16 bit for bit (eager); tied
            and not, 1 to H key/value heads, odd widths, a head width of its own, several eps and theta
Mutations   break one line of the model: the very checks above must fail
Attention   the eager path equals SDPA; `pattern` shows transformers' attention weights
"""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import qwen2

pytestmark = pytest.mark.usefixtures("one_thread")
FP32_BOUND = 2e-5           # on logits of size 1 to 10; float noise here is 1e-6 to 1e-5
GRADIENT_BOUND = 1e-4       # of the gradient's norm, per tensor

SHAPES = {
    "base": {},
    "tied, one kv head": dict(tie_word_embeddings=True, num_key_value_heads=1),
    "tied, kv head each": dict(tie_word_embeddings=True, num_key_value_heads=4),
    "three heads of 8, eps 1e-5": dict(num_attention_heads=3, num_key_value_heads=3, rms_norm_eps=1e-5),
    "three heads, one kv head": dict(num_attention_heads=3, num_key_value_heads=1, rope_theta=1e6),
    "six heads, two kv heads, three layers": dict(
        hidden_size=48, num_attention_heads=6, num_key_value_heads=2, num_hidden_layers=3, vocab_size=101),
    "heads wider than D / H, eps 1e-2": dict(
        hidden_size=20, head_dim=10, num_key_value_heads=1, rms_norm_eps=1e-2, rope_theta=100.0),
    "heads narrower than D / H, tied": dict(
        hidden_size=33, head_dim=2, num_attention_heads=5, num_key_value_heads=5, tie_word_embeddings=True),
    "one layer, one head": dict(
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, intermediate_size=1,
        rope_theta=500.0),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request):
    return request.param


def set_eager(model, on=True):
    for block in model.model.layers:
        block.self_attn.eager = on
    return model


def shapes(model):
    return {name: p.shape for name, p in model.named_parameters()}


def logit_error(ours, theirs):
    return float((ours.double() - theirs.double()).abs().max())


def gradients(model, ids):
    """{name: gradient} of the next-token cross-entropy; of ours and of theirs alike."""
    model.zero_grad()
    out = model(ids)
    logits = getattr(out, "logits", out)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def gradient_error(ours, theirs):
    """The worst tensor's distance, relative to the norm of its gradient."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[n] - theirs[n]).norm() / theirs[n].norm()) for n in theirs)


# ---- parity ----

@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_fp32_logits(tiny, twin, ids, shape, attention):
    model = tiny(seed=1, **shape)
    x = ids(3, 24, model.config.vocab_size)
    with torch.no_grad():
        ours, theirs = model(x), twin(model, attention)(x).logits
    assert ours.shape == (3, 24, model.config.vocab_size) and ours.dtype == torch.float32
    assert 1 < theirs.std() < 10 and theirs.abs().max() < 20       # or the bound below means something else
    assert logit_error(ours, theirs) < FP32_BOUND


def test_fp32_gradients(tiny, twin, ids, shape):
    model = tiny(seed=2, **shape)
    x = ids(3, 24, model.config.vocab_size, seed=1)
    theirs = gradients(twin(model, "eager"), x)
    assert all(g.norm() > 1e-4 for g in theirs.values())            # a zero gradient would be easy to match
    assert gradient_error(gradients(model, x), theirs) < GRADIENT_BOUND


def test_bf16_logits_are_equal_bit_for_bit(tiny, twin, ids, shape):
    """The same operations, order and roundings. 300 tokens, as bf16 counts exactly only to 256."""
    model = set_eager(tiny(seed=3, dtype=torch.bfloat16, **shape))
    x = ids(2, 300, model.config.vocab_size, seed=2)
    with torch.no_grad():
        ours, theirs = model(x), twin(model, "eager")(x).logits
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)


def test_bf16_logits_with_sdpa_stay_far_below_bf16_noise(tiny, twin, ids, shape):
    """Noise = what bf16 does to transformers itself. Our kernels may differ, so equality is not asked for."""
    model = tiny(seed=4, dtype=torch.bfloat16, **shape)
    x = ids(2, 24, model.config.vocab_size, seed=3)
    exact = twin(model.float(), "sdpa")                             # the bf16 weights, computed with in fp32
    with torch.no_grad():
        reference = exact(x).logits
        model.bfloat16()
        ours, theirs = model(x), twin(model, "sdpa")(x).logits
    noise = (theirs - reference).abs().mean()
    assert noise > 1e-3
    assert (ours.float() - theirs.float()).abs().mean() < 0.25 * noise


def test_parameters_are_named_and_shaped_as_in_transformers(tiny, twin, shape):
    model = tiny(**shape)
    theirs = twin(model)
    assert shapes(model) == shapes(theirs)
    assert list(model.state_dict()) == list(theirs.state_dict())


def test_rotary_tables_far_into_the_context(tiny, twin):
    """To the end of Qwen2.5's 131072 positions: the angles are computed in fp32 even for a bf16 model."""
    model = tiny(rope_theta=1e6)
    positions = torch.tensor([[0, 1, 257, 32767, 131071]])
    for dtype in (torch.float32, torch.bfloat16):
        cos, sin = qwen2.rotary_tables(positions, model.config, dtype)
        theirs = twin(model).model.rotary_emb(torch.zeros(1, dtype=dtype), positions)
        assert cos.dtype == dtype and torch.equal(cos[:, 0], theirs[0]) and torch.equal(sin[:, 0], theirs[1])


def test_logits_do_not_look_ahead_or_at_padding(tiny, ids):
    model, x = tiny(), ids(2, 12)
    changed = x.clone()
    changed[:, 7:] = (x[:, 7:] + 1) % 97
    with torch.no_grad():
        a, b = model(x), model(changed)
    assert torch.equal(a[:, :7], b[:, :7])
    assert (a[:, 7:] - b[:, 7:]).abs().amax(-1).min() > 1e-2


# ---- mutations ----

def drop_bias(name):
    def edit(model, patch):
        for block in model.model.layers:
            getattr(block.self_attn, name).bias = None
    return edit


def patch_sdpa(change):
    """Call the real SDPA with changed arguments. The reference was computed before, so it is not affected."""
    def edit(model, patch):
        real = F.scaled_dot_product_attention
        patch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **kw: change(real, q, k, v, kw))
    return edit


def interleaved_rotation(x, cos, sin):
    """Meta's layout: channel 2i turns with 2i + 1."""
    half = cos.shape[-1] // 2
    cos, sin = cos[..., :half].repeat_interleave(2, -1), sin[..., :half].repeat_interleave(2, -1)
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * cos + turned * sin


def backward_rotation(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos - torch.cat((-b, a), dim=-1) * sin


def wrong_head_mapping(real, q, k, v, kw):
    n = q.shape[1] // k.shape[1]
    return real(q, k.repeat(1, n, 1, 1), v.repeat(1, n, 1, 1), is_causal=True)      # key head h % G


def set_eps(eps):
    def edit(model, patch):
        for module in model.modules():
            if isinstance(module, qwen2.RMSNorm):
                module.eps = eps
    return edit


def default_theta(model, patch):
    model.model.config = dataclasses.replace(model.config, rope_theta=10000.0)


def swap_norms(model, patch):
    for b in model.model.layers:
        b.input_layernorm, b.post_attention_layernorm = b.post_attention_layernorm, b.input_layernorm


def swap_gate_and_up(model, patch):
    for b in model.model.layers:
        b.mlp.gate_proj, b.mlp.up_proj = b.mlp.up_proj, b.mlp.gate_proj


MUTATIONS = {
    "no q bias": drop_bias("q_proj"),
    "no k bias": drop_bias("k_proj"),
    "no v bias": drop_bias("v_proj"),
    "interleaved rotation": lambda model, patch: patch.setattr(qwen2, "rotate", interleaved_rotation),
    "backward rotation": lambda model, patch: patch.setattr(qwen2, "rotate", backward_rotation),
    "no rotation": lambda model, patch: patch.setattr(qwen2, "rotate", lambda x, cos, sin: x),
    "head h reads key head h % G": patch_sdpa(wrong_head_mapping),
    "not causal": patch_sdpa(lambda real, q, k, v, kw: real(q, k, v, **{**kw, "is_causal": False})),
    "scaled by D / H": patch_sdpa(lambda real, q, k, v, kw: real(q, k, v, **{**kw, "scale": 6 ** -0.5})),
    "no eps": set_eps(0.0),
    "eps 1e-6 for 1e-3": set_eps(1e-6),
    "theta 10000 by default": default_theta,
    "norms swapped": swap_norms,
    "no final norm": lambda model, patch: setattr(model.model, "norm", nn.Identity()),
    "gate and up swapped": swap_gate_and_up,
    "gelu for silu": lambda model, patch: patch.setattr(F, "silu", F.gelu),
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS)
def test_a_broken_line_fails_fp32_parity(tiny, twin, ids, monkeypatch, mutate):
    model = tiny(seed=5, head_dim=10, rms_norm_eps=1e-3, rope_theta=1e6)        # D / H would be 6
    x = ids(2, 24)
    with torch.no_grad():
        theirs = twin(model, "eager")(x).logits
        assert logit_error(model(x), theirs) < FP32_BOUND
        mutate(model, monkeypatch)
        assert logit_error(model(x), theirs) > 50 * FP32_BOUND


def test_eps_of_14b_base_taken_for_the_usual_one_fails_fp32_parity(tiny, twin, ids):
    """1e-5 against 1e-6 is the smallest difference between two published configs."""
    model = tiny(seed=6, rms_norm_eps=1e-5)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(0.05)      # size 0.02, as published embeddings have
        x = ids(2, 24)
        theirs = twin(model, "eager")(x).logits
        assert logit_error(model(x), theirs) < FP32_BOUND
        set_eps(1e-6)(model, None)
        assert logit_error(model(x), theirs) > 50 * FP32_BOUND


def scale_before_the_cast(self, x):
    h = x.float()
    h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps)
    return (self.weight.float() * h).to(x.dtype)


def norm_without_upcast(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotary_tables_in_the_model_dtype(positions, config, dtype):
    steps = torch.arange(0, config.head_dim, 2) / config.head_dim
    angle = positions[:, None, :, None].to(dtype) * (1.0 / config.rope_theta ** steps).to(dtype)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def softmax_without_upcast(self, q, k, v, mask):
    n, T = self.H // self.G, q.shape[2]
    k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
    att = (q @ k.transpose(-1, -2)) * self.Dh ** -0.5
    # plain bf16 softmax rounds like ours where torch computes it in fp32 inside, so spell it out
    att = att.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(), float("-inf"))
    att = (att - att.amax(-1, keepdim=True)).exp()
    return (att / att.sum(-1, keepdim=True)) @ v


@pytest.mark.parametrize("place, name, wrong", [
    (qwen2.RMSNorm, "forward", scale_before_the_cast),
    (qwen2.RMSNorm, "forward", norm_without_upcast),
    (qwen2, "rotary_tables", rotary_tables_in_the_model_dtype),
    (qwen2.Attention, "eager_attention", softmax_without_upcast),
], ids=lambda value: value.__name__ if callable(value) else str(value))
def test_a_wrong_rounding_fails_bf16_equality(tiny, twin, ids, monkeypatch, place, name, wrong):
    x = ids(2, 300)
    model = set_eager(tiny(seed=7, dtype=torch.bfloat16))
    with torch.no_grad():
        theirs = twin(model, "eager")(x).logits
        assert torch.equal(model(x), theirs)
        monkeypatch.setattr(place, name, wrong)
        assert not torch.equal(model(x), theirs)


def test_an_untied_head_fails_gradient_parity(tiny, twin, ids, monkeypatch):
    """Two equal tensors give the same logits; only the gradient (and the first update) tells two from one."""
    model, x = tiny(seed=8, tie_word_embeddings=True), ids(2, 24)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    theirs = gradients(twin(model), x)
    assert gradient_error(gradients(model, x), theirs) < GRADIENT_BOUND
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    ours = gradients(model, x)
    del ours["lm_head.weight"]
    assert gradient_error(ours, theirs) > 0.1


def test_a_wrong_embedding_row_fails_gradient_parity(tiny, twin, ids):
    model, x = tiny(seed=9), ids(2, 24)
    theirs = gradients(twin(model), x)
    shifted = {**theirs, "model.embed_tokens.weight": theirs["model.embed_tokens.weight"].roll(1, 0)}
    assert gradient_error(gradients(model, x), shifted) > 0.1


# ---- attention ----

@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_eager_attention_is_sdpa(tiny, ids, kv_heads):
    model, x = tiny(dtype=torch.float64, num_key_value_heads=kv_heads), ids(2, 20)
    with torch.no_grad():
        fast, slow = model(x), set_eager(model)(x)
    assert logit_error(fast, slow) < 1e-12
    assert not torch.equal(fast, slow)                  # or `eager` did not switch anything


def test_pattern_sees_the_attention_weights(tiny, twin, ids):
    model, x = set_eager(tiny(seed=10)), ids(2, 16)
    seen = []
    for block in model.model.layers:
        block.self_attn.pattern.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        model(x)
        theirs = twin(model, "eager")(x, output_attentions=True).attentions
    assert len(seen) == len(theirs) == 2
    for ours, hf in zip(seen, theirs):
        assert ours.shape == (2, 4, 16, 16)             # (B, H, T, S)
        assert (ours.sum(-1) - 1).abs().max() < 1e-5
        assert ours.triu(1).abs().max() == 0
        assert 0.1 < ours[:, :, 8:].amax(-1).mean() < 0.95      # neither flat nor one-hot
        assert (ours - hf).abs().max() < 1e-5


def test_an_edited_pattern_reaches_the_output(tiny, ids):
    """Probes knock attention out through this module, so what it returns must be what is used."""
    model, x = set_eager(tiny()), ids(1, 6)
    with torch.no_grad():
        before = model(x)
        alone = torch.cat([model(x[:, t:t + 1]) for t in range(6)], 1)
        for block in model.model.layers:        # now every token looks at itself only, as if it were alone
            block.self_attn.pattern.register_forward_hook(lambda _, args, out: torch.eye(6).expand_as(out))
        after = model(x)
    assert logit_error(after, alone) < FP32_BOUND < 1e-2 < logit_error(before, after)
