"""The network against transformers' Qwen2ForCausalLM, with the same random weights in both.

Parity      fp32 logits within 2e-5, every gradient within 1e-4 of its norm, bf16 bit for bit (eager); tied
            and not, 1 to H key/value heads, odd widths, a head width of its own, several eps and theta
Mutations   break one line of the model: the very checks above must fail
Attention   the eager path equals SDPA; `pattern` shows transformers' attention weights
Config      every published Qwen2.5 config and shard index; what is not implemented is refused by name; round
            trips
Loss        chunked = whole = F.cross_entropy, values and gradients, and never more logits than a chunk's
"""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import qwen2
from model.loss import token_losses
from model.qwen2 import Qwen2, Qwen2Config

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


# ---- config ----

QWEN = Path(__file__).resolve().parent.parent.parent / "shared" / "qwen2.5"
PUBLISHED = sorted(path.parent.name for path in (QWEN / "configs").glob("*/config.json"))
INDEXED = [name for name in PUBLISHED if (QWEN / "configs" / name / "model.safetensors.index.json").exists()]
needs_published = pytest.mark.skipif(not PUBLISHED, reason=f"no published configs at {QWEN}/configs")


def published(name, file="config.json"):
    return json.loads((QWEN / "configs" / name / file).read_text())


def plain(**changes):
    """A config.json as transformers 4 writes it."""
    d = {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "hidden_act": "silu",
         "hidden_size": 24, "initializer_range": 0.02, "intermediate_size": 37, "max_window_layers": 2,
         "max_position_embeddings": 512, "model_type": "qwen2", "num_attention_heads": 4,
         "num_hidden_layers": 2, "num_key_value_heads": 2,
         "rms_norm_eps": 1e-06, "rope_theta": 5000.0, "sliding_window": 512, "tie_word_embeddings": True,
         "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False, "vocab_size": 97}
    return {**d, **changes}


def without(d, *keys):
    return {k: v for k, v in d.items() if k not in keys}


@needs_published
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_config(name):
    transformers = pytest.importorskip("transformers")
    d = published(name)
    config = Qwen2Config.from_dict(d)
    for field in dataclasses.fields(config):
        if field.name != "head_dim":
            assert getattr(config, field.name) == d[field.name]
    assert config.head_dim == d["hidden_size"] // d["num_attention_heads"]
    with torch.device("meta"):
        ours, theirs = Qwen2(config), transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**d))
    assert shapes(ours) == shapes(theirs)
    assert sum(p.numel() for p in ours.parameters()) == {           # counted with transformers 5.23
        "0.5B": 494032768, "1.5B": 1543714304, "3B": 3085938688, "7B": 7615616512, "14B": 14770033664,
        "32B": 32763876352, "72B": 72706203648}[name.split("-")[1]]


@needs_published
@pytest.mark.parametrize("name", INDEXED)
def test_published_shard_index(name):
    index = published(name, "model.safetensors.index.json")
    with torch.device("meta"):
        model = Qwen2(Qwen2Config.from_dict(published(name)))
    assert set(index["weight_map"]) == set(shapes(model))       # a tied head has no name of its own
    assert index["metadata"]["total_size"] == 2 * sum(p.numel() for p in model.parameters())    # bytes, bf16


@pytest.mark.parametrize("name, value", [
    ("model_type", "llama"), ("model_type", "qwen3"), ("hidden_act", "gelu"), ("use_sliding_window", True),
    ("rope_scaling", {"type": "yarn", "factor": 4.0}), ("attention_dropout", 0.1), ("use_mrope", True),
    ("quantization_config", {"quant_method": "gptq"}),
    ("layer_types", ["full_attention", "sliding_attention"]),
])
def test_an_unsupported_setting_is_refused_by_name(name, value):
    Qwen2Config.from_dict(plain())
    with pytest.raises(ValueError, match=name):
        Qwen2Config.from_dict(plain(**{name: value}))


def test_scaled_rope_in_the_new_spelling_is_refused():
    rope = {"rope_type": "yarn", "rope_theta": 5e3, "factor": 4.0}
    with pytest.raises(ValueError, match="rope_type = 'yarn'"):
        Qwen2Config.from_dict({**without(plain(), "rope_theta"), "rope_parameters": rope})


@pytest.mark.parametrize("name", ["rope_theta", "vocab_size", "rms_norm_eps", "num_key_value_heads",
                                  "max_position_embeddings", "model_type"])
def test_a_missing_setting_is_named(name):
    with pytest.raises(ValueError, match=name):
        Qwen2Config.from_dict(without(plain(), name))


def test_rope_theta_has_no_default_in_the_new_spelling_either():
    with pytest.raises(ValueError, match="rope_theta"):
        Qwen2Config.from_dict({**without(plain(), "rope_theta"), "rope_parameters": {"rope_type": "default"}})


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="num_key_value_heads 3"):
        Qwen2Config.from_dict(plain(num_key_value_heads=3))


def test_optional_settings():
    config = Qwen2Config.from_dict(without(plain(), "tie_word_embeddings", "initializer_range"))
    assert config.tie_word_embeddings is False and config.initializer_range == 0.02 and config.head_dim == 6
    assert Qwen2Config.from_dict(plain(head_dim=10)).head_dim == 10
    assert Qwen2Config.from_dict(plain(head_dim=None)).head_dim == 6
    explicit = plain(layer_types=["full_attention"] * 2, rope_scaling=None, use_mrope=False)
    assert Qwen2Config.from_dict(explicit) == Qwen2Config.from_dict(plain())


def test_a_config_as_transformers_5_writes_it(tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5")
    theirs = transformers.Qwen2Config(**without(plain(), "rope_theta", "torch_dtype"), head_dim=10,
                                      rope_parameters={"rope_type": "default", "rope_theta": 7000.0})
    theirs.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "rope_theta" not in written and written["rope_parameters"]["rope_theta"] == 7000.0
    assert Qwen2Config.from_dict(written) == Qwen2Config.from_dict(plain(rope_theta=7000.0, head_dim=10))


@pytest.mark.parametrize("changes", [
    {}, dict(head_dim=10, tie_word_embeddings=False, rms_norm_eps=1e-5, rope_theta=1e6,
             initializer_range=0.1)],
    ids=["plain", "changed"])
def test_our_config_is_read_back_by_transformers_and_by_us(tmp_path, changes):
    transformers = pytest.importorskip("transformers")
    config = Qwen2Config.from_dict(plain(**changes))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(theirs) is transformers.Qwen2Config and theirs.architectures == ["Qwen2ForCausalLM"]
    for field in dataclasses.fields(config):
        if field.name != "rope_theta":
            assert getattr(theirs, field.name) == getattr(config, field.name), field.name
    assert theirs.rope_parameters["rope_theta"] == config.rope_theta
    assert theirs.rope_parameters["rope_type"] == "default"
    assert theirs.hidden_act == "silu" and set(theirs.layer_types) == {"full_attention"}
    assert Qwen2Config.from_dict(json.loads((tmp_path / "config.json").read_text())) == config
    assert config.to_dict()["rope_theta"] == config.rope_theta      # transformers 4 looks here


def test_fresh_weights():
    config = Qwen2Config.from_dict(plain(hidden_size=64, intermediate_size=160, num_hidden_layers=8,
                                         initializer_range=0.05))
    a, b, c = Qwen2(config), Qwen2(config), Qwen2(config)
    for model, seed in ((a, 3), (b, 3), (c, 4)):
        model.init_weights(seed)
    for (name, p), q, r in zip(a.named_parameters(), b.parameters(), c.parameters()):
        assert torch.equal(p, q)
        if p.dim() == 1:
            assert torch.all(p == (0 if name.endswith("bias") else 1))
        else:
            std = 0.05 / 4 if "o_proj" in name or "down_proj" in name else 0.05         # 4 = sqrt(2 L)
            assert float(p.detach().std()) == pytest.approx(std, rel=0.1)
            assert not torch.equal(p, r)


# ---- loss ----

def loss_and_gradients(hidden, targets, head, weights, chunk, add=False):
    hidden = hidden.clone().requires_grad_()
    head.zero_grad()
    if add:
        head.weight.grad = torch.zeros_like(head.weight)
    losses = token_losses(hidden, targets, head, chunk, add)
    (losses * weights).sum().backward()
    return losses.detach(), hidden.grad, head.weight.grad.clone()


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("chunk", [1, 5, 36, 37, 100, None])
def test_chunked_loss_is_cross_entropy(chunk, add):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 12, generator=generator, dtype=torch.float64)
    targets = torch.randint(29, (37,), generator=generator)
    weights = torch.rand(37, generator=generator, dtype=torch.float64)
    head = nn.Linear(12, 29, bias=False, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.randn(29, 12, generator=generator))

    plain_hidden = hidden.clone().requires_grad_()
    expected = F.cross_entropy(plain_hidden @ head.weight.T, targets, reduction="none")
    (expected * weights).sum().backward()
    expected = (expected.detach(), plain_hidden.grad, head.weight.grad.clone())

    ours = loss_and_gradients(hidden, targets, head, weights, chunk, add)
    assert ours[0].shape == (37,) and ours[0].dtype == torch.float64
    for a, b in zip(ours, expected):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_a_head_that_adds_its_gradient_leaves_the_others_to_autograd(tiny, tied):
    """Gradients of two micro-batches, with what was in the sums before; the head is the embedding, or not."""
    grads = []
    for add in (False, True):
        model = tiny(seed=7, dtype=torch.float64, tie_word_embeddings=tied).requires_grad_(True)
        for p in model.parameters():
            p.grad = torch.full_like(p, 0.25)
        into = {name: p.grad for name, p in model.named_parameters()}
        for seed in (1, 2):
            ids = torch.randint(97, (2, 9), generator=torch.Generator().manual_seed(seed))
            losses = model(ids[:, :-1], head=lambda h, lm_head: token_losses(
                h.flatten(0, 1), ids[:, 1:].flatten(), lm_head, 5, add))
            (losses * torch.arange(16)).sum().backward()
        assert all(p.grad is into[name] for name, p in model.named_parameters())
        grads.append(into)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-11, atol=1e-11)


def test_a_head_that_adds_never_sees_more_than_half_a_chunk(monkeypatch):
    rows, linear = [], F.linear
    monkeypatch.setattr(F, "linear", lambda x, *more: rows.append(len(x)) or linear(x, *more))
    head = nn.Linear(6, 11, bias=False)
    head.weight.grad = torch.zeros_like(head.weight)
    hidden = torch.ones(20, 6, requires_grad=True)
    token_losses(hidden, torch.zeros(20, dtype=torch.int64), head, chunk=16, add=True).sum().backward()
    assert rows == [8, 8, 4] * 2


def test_loss_of_a_bf16_head_is_taken_in_fp32():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(9, 12, generator=generator).bfloat16()
    targets = torch.randint(29, (9,), generator=generator)
    head = nn.Linear(12, 29, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        head.weight.copy_(torch.randn(29, 12, generator=generator))
    expected = F.cross_entropy((hidden @ head.weight.T).float(), targets, reduction="none")
    for chunk in (2, 100):
        losses = token_losses(hidden, targets, head, chunk)
        assert losses.dtype == torch.float32
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def test_the_head_never_sees_more_than_a_chunk():
    head = nn.Linear(6, 11, bias=False)
    rows = []
    head.register_forward_hook(lambda module, args, out: rows.append(out.shape[0]))
    hidden = torch.ones(20, 6, requires_grad=True)
    losses = token_losses(hidden, torch.zeros(20, dtype=torch.int64), head, chunk=8)
    assert rows == [8, 8, 4]
    losses.sum().backward()
    assert sorted(rows[3:]) == [4, 8, 8]                # backward computes the logits again


def test_the_default_chunk_is_2_to_the_26_logits():
    class Head:
        weight = torch.empty(2 ** 22, 1, device="meta")
        rows = []

        def __call__(self, h):
            self.rows.append(h.shape[0])
            return h.new_zeros(h.shape[0], 3)

    token_losses(torch.ones(40, 1), torch.zeros(40, dtype=torch.int64), Head())
    assert Head.rows == [16, 16, 8]
