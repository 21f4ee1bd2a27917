"""What the tests share: tiny models whose EVERY tensor is random, and their twins in transformers.

Every tensor, because with the zero biases and unit norms of a fresh model a dropped bias or a skipped norm
passes unnoticed. The weights are scaled so that logits have size 1 to 10 and attention is neither flat nor
one-hot: then an absolute bound on logits means something.
"""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)     # background jobs and their children ignore it
torch.set_num_threads(1)         # tiny models: a second thread only waits

from model.checkpoint import save_model  # noqa: E402
from model.qwen2 import Qwen2, Qwen2Config  # noqa: E402
from newnews.console import Lines  # noqa: E402


def make_config(**changes):
    fields = dict(vocab_size=97, hidden_size=24, intermediate_size=37, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
                  rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False)
    return Qwen2Config(**{**fields, **changes})


def randomise(model, seed):
    """Draw every parameter, by its own name's rule: matrices, embeddings, biases and norms alike."""
    generator = torch.Generator().manual_seed(seed)
    width = model.config.hidden_size
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if name.endswith("norm.weight"):
                p.copy_(1 + 0.3 * noise)
            elif name.endswith("bias"):
                p.copy_(0.5 * noise)
            elif name == "model.embed_tokens.weight":
                p.copy_(noise * 2 / width ** 0.5)
            else:
                p.copy_(noise * 1.5 / p.shape[1] ** 0.5)
    return model


def make_tiny(seed=0, dtype=torch.float32, **changes):
    """A tiny Qwen2 with random weights, which the seed alone decides; `changes` are fields of Qwen2Config."""
    return randomise(Qwen2(make_config(**changes)), seed).to(dtype).eval()


def make_twin(model, attention="sdpa"):
    """transformers' Qwen2ForCausalLM with the weights of `model`, copied under the same names."""
    transformers = pytest.importorskip("transformers")
    c = model.config
    config = transformers.Qwen2Config(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers, num_attention_heads=c.num_attention_heads, head_dim=c.head_dim,
        num_key_value_heads=c.num_key_value_heads, max_position_embeddings=c.max_position_embeddings,
        rms_norm_eps=c.rms_norm_eps, tie_word_embeddings=c.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta})
    twin = transformers.AutoModelForCausalLM.from_config(
        config, dtype=model.lm_head.weight.dtype, attn_implementation=attention)
    assert type(twin).__name__ == "Qwen2ForCausalLM" and twin.config._attn_implementation == attention
    assert twin.model.rotary_emb.inv_freq.dtype == torch.float32    # as from_pretrained leaves it
    twin.load_state_dict(model.state_dict(), strict=True)
    return twin.eval()


def make_ids(rows, tokens, vocab=97, seed=0):
    return torch.randint(vocab, (rows, tokens), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def quiet_first_minute():
    """Bars share a clock within a process (console.Lines); each test is a process of its own to them."""
    Lines.said = None


@pytest.fixture
def one_thread():
    """For tests of many tiny operations: beside a busy process, a second thread made them 14 times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny():
    """tiny(seed=0, dtype=torch.float32, **changes of the config) -> Qwen2 with random weights."""
    return make_tiny


@pytest.fixture
def twin():
    """twin(model, attention="sdpa") -> the same model in transformers."""
    return make_twin


@pytest.fixture
def ids():
    """ids(rows, tokens, vocab=97, seed=0) -> (rows, tokens) int64, uniform."""
    return make_ids


def save_over(folder, model):
    """The model's config and weights into a folder that is there, with the tokenizer."""
    save_model(folder / "saved", model.config, model.state_dict(), source=folder)
    for path in (folder / "saved").iterdir():
        path.replace(folder / path.name)
    (folder / "saved").rmdir()
