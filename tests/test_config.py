"""Every published Qwen2.5 config and shard index is read; what is not implemented is refused by name; round
trips."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from model.qwen2 import Qwen2, Qwen2Config
from test_qwen2 import shapes

pytestmark = pytest.mark.usefixtures("one_thread")


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
