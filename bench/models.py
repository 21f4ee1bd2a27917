"""What rows run on: a model of ours and its twin in transformers, on the same weights in the same memory."""

import logging
import os
import warnings
from dataclasses import replace
from functools import cached_property
from tempfile import TemporaryDirectory

import torch

from model.chat import Chat
from model.checkpoint import load_model, save_model
from model.qwen2 import Qwen2, Qwen2Config
from newnews.console import choose_device

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import transformers  # noqa: E402
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding  # noqa: E402

transformers.utils.logging.disable_progress_bar()
logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)       # warns where there is no stop id
# transformers warns of a name that PEFT still asks it for
warnings.filterwarnings("ignore", ".is_gradient_checkpointing", FutureWarning)

POCKET = "data/pocket"
# Qwen2.5-0.5B: 494M parameters, 136M of them the embedding, which is the head too
HALF = Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                   num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768,
                   rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True)
SHAPES = {"0.5b": HALF,
          "1.5b": replace(HALF, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
                          num_attention_heads=12, head_dim=128),
          "7b": replace(HALF, vocab_size=152064, hidden_size=3584, intermediate_size=18944,
                        num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, head_dim=128,
                        tie_word_embeddings=False)}
# what stands for them in tests: V is that of the pocket tokenizer, and the weights are so large that a wrong
# position or mask shows
TINY = Qwen2Config(vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                   num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
                   rms_norm_eps=1e-6, rope_theta=1e4, tie_word_embeddings=True, initializer_range=0.3)


def build(config, dtype, device="cpu"):
    """Random weights, frozen. At an initializer_range of .02 all ids are about as likely: a stop set of V / n
    of them ends a sampled row after n tokens on average."""
    with torch.device("meta"):
        model = Qwen2(config)
    model = model.to(dtype).to_empty(device=device)
    model.tie()
    model.init_weights(0)               # by the device that holds them: a CPU takes a minute for 7B
    return model.requires_grad_(False).eval()


def twin_of(model):
    """transformers' Qwen2ForCausalLM, with SDPA, whose parameters are the memory of ours."""
    c = model.config
    config = transformers.Qwen2Config(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers, num_attention_heads=c.num_attention_heads, head_dim=c.head_dim,
        num_key_value_heads=c.num_key_value_heads, max_position_embeddings=c.max_position_embeddings,
        rms_norm_eps=c.rms_norm_eps, tie_word_embeddings=c.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta})
    with torch.device("meta"):
        twin = transformers.AutoModelForCausalLM.from_config(config, dtype=model.lm_head.weight.dtype,
                                                             attn_implementation="sdpa")
    twin.load_state_dict(model.state_dict(), strict=True, assign=True)
    twin.tie_weights()
    # its table is no parameter: it was left on meta
    twin.model.rotary_emb = Qwen2RotaryEmbedding(config).to(model.lm_head.weight.device)
    return twin.requires_grad_(False).eval()


class Models:
    """(ours, theirs), made when a row first asks for them."""

    def __init__(self, size, dtype, device="cpu", shape="0.5b"):
        self.config = TINY if size == "tiny" else SHAPES[shape]
        # all shapes are large enough for bf16; what stands for them takes the same
        self.device, self.dtype, self.reason = choose_device(device, dtype, 494 * 10 ** 6)

    @property
    def on_gpu(self):
        return self.device != "cpu"

    def config_of(self, layers):
        """The large shape with so many layers, or "all" of its own."""
        return self.config if layers == "all" else replace(self.config, num_hidden_layers=layers)

    @cached_property
    def large(self):
        model = build(self.config, self.dtype, self.device)
        return model, twin_of(model)

    @cached_property
    def pocket(self):
        """Always fp32, as everywhere: bf16 gains it nothing."""
        model = load_model(POCKET, dtype=torch.float32).to(self.device)
        return model, twin_of(model)

    @cached_property
    def chat(self):
        """The pocket tokenizer: its ids are valid for the large shapes too."""
        return Chat(POCKET)

    @cached_property
    def folder(self):
        """The large model on disk in bf16, as Qwen2.5 is published. Gone with the process."""
        self.kept = TemporaryDirectory(prefix="bench-")
        folder = f"{self.kept.name}/model"
        save_model(folder, self.config, {name: t.to("cpu", torch.bfloat16) for name, t in
                                         self.large[0].state_dict().items()})
        return folder
