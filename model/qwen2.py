"""Qwen2 by hand, bottom-up: config, norm, rotary embedding, attention, MLP, block, model.

Parameter names are those of the Hugging Face checkpoint, letter for letter, so loading is a strict
load_state_dict and an update is named like the weight it changes. Rounding follows transformers
(modeling_qwen2.py), so that bf16 agrees too.

Dimension letters, here and everywhere in the project:
    B batch (rows)      T tokens of this call     C tokens already in the cache     S = C + T keys
    D model width       H query heads             G key/value heads (H % G == 0)    Dh head width
    F MLP width         V vocabulary              L layers      K adapters in a bank      r rank of an adapter
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.lora import Linear, arrange


@dataclass(frozen=True)
class Qwen2Config:
    """The settings in which the Qwen2.5 sizes differ. Everything else is constant, hence code."""
    vocab_size: int                 # V: rows of the embedding, >= the tokenizer's size
                                    # (Qwen pads it to a round number)
    hidden_size: int                # D
    intermediate_size: int          # F
    num_hidden_layers: int          # L
    num_attention_heads: int        # H
    num_key_value_heads: int        # G
    max_position_embeddings: int    # the longest context that the model was trained on, tokens
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    head_dim: int = 0               # Dh; 0 means D / H
    initializer_range: float = 0.02

    def __post_init__(self):
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                             f"num_key_value_heads {self.num_key_value_heads}")

    @classmethod
    def from_dict(cls, d):
        """Read a config.json. What this code does not implement is refused by name rather than ignored.

        transformers 4 writes rope_theta at the top level, transformers 5 inside rope_parameters: both are
        read, and theta has no default, because a wrong one gives fluent nonsense instead of an error.
        """
        rope = d.get("rope_parameters") or {}
        refused = {                                      # setting: the values that mean "plain Qwen2"
            "model_type": ("qwen2",), "hidden_act": ("silu",), "use_sliding_window": (None, False),
            "rope_scaling": (None,), "attention_dropout": (None, 0, 0.0), "use_mrope": (None, False),
            "quantization_config": (None,),
        }
        for key, allowed in refused.items():
            if d.get(key) not in allowed:
                raise ValueError(f"{key} = {d.get(key)!r} is not supported (only {allowed[-1]!r})")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ValueError(f"rope_parameters.rope_type = {kind!r} is not supported "
                             f"(only 'default')")
        if set(d.get("layer_types") or ()) - {"full_attention"}:
            raise ValueError(f"layer_types = {sorted(set(d['layer_types']))} is not supported "
                             f"(only full_attention)")
        d = {**d, "rope_theta": d.get("rope_theta", rope.get("rope_theta")),
             "head_dim": d.get("head_dim") or 0}
        d.setdefault("initializer_range", 0.02)
        d.setdefault("tie_word_embeddings", False)  # transformers' default: it leaves a False out of the file
        missing = [name for name in cls.__dataclass_fields__ if d.get(name) is None]
        if missing:
            raise ValueError(f"missing {', '.join(missing)}")
        return cls(**{name: d[name] for name in cls.__dataclass_fields__})

    def to_dict(self):
        """A config.json that transformers 4 and 5 both read (5 takes rope_theta from either place)."""
        return {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
                "attention_dropout": 0.0, "use_sliding_window": False, **asdict(self),
                "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta}}


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        # At least fp32 inside; scaled by the weight after the cast back, as Llama and Qwen do
        # (Gemma scales before it).
        h = F.rms_norm(x.to(torch.promote_types(x.dtype, torch.float32)), x.shape[-1:], eps=self.eps)
        return self.weight * h.to(x.dtype)


def rotary_tables(positions, config, dtype):
    """cos and sin of the rotary embedding (Su et al., 2104.09864), each (B, 1, T, Dh), for positions (B, T).

    Computed in fp32 whatever the model's dtype (position 30,000 has no exact bf16), then
    cast to the activations'.
    """
    Dh = config.head_dim
    steps = torch.arange(0, Dh, 2, dtype=torch.int64, device=positions.device).float() / Dh
    angle = (positions[:, None, :, None].float()
             * (1.0 / config.rope_theta ** steps))          # (B, 1, T, Dh/2), radians
    angle = torch.cat((angle, angle), dim=-1)               # (B, 1, T, Dh)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    """Rotate x (B, heads, T, Dh). Channel i turns with channel i + Dh/2 ("split half"): the layout of HF
    weights. The other layout, neighbours (2i, 2i+1), is Meta's original; mixing the two up still trains but
    loads as noise."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        D, Dh = config.hidden_size, config.head_dim
        self.H, self.G, self.Dh, self.layer = (config.num_attention_heads, config.num_key_value_heads,
                                               Dh, layer)
        self.q_proj = Linear(D, self.H * Dh, bias=True)         # Qwen2 has biases on q, k, v and nowhere else
        self.k_proj = Linear(D, self.G * Dh, bias=True)
        self.v_proj = Linear(D, self.G * Dh, bias=True)
        self.o_proj = Linear(self.H * Dh, D, bias=False)
        self.eager = False              # True: spell the softmax out, so that `pattern` can be read;
                                        # for probing only (model/capture.py)
        # activations that are no module's output pass through here, so that probes find them by name
        self.rot_q, self.rot_k = nn.Identity(), nn.Identity()   # (B, H, T, Dh), (B, G, T, Dh), rotated
        self.pattern = nn.Identity()                            # (B, H, T, S), only when eager
        self.z = nn.Identity()                                  # (B, T, H, Dh), what o_proj reads

    def forward(self, x, cos, sin, cache=None, mask=None, rows=None):
        """x (B, T, D) -> (B, T, D). mask (B, 1, T, S) bool, True where a query may look;
        None = square causal. rows: which adapters the rows use (model/lora.py)."""
        B, T, _ = x.shape
        q = self.q_proj(x, rows=rows).view(B, T, self.H, self.Dh).transpose(1, 2)       # (B, H, T, Dh)
        k = self.k_proj(x, rows=rows).view(B, T, self.G, self.Dh).transpose(1, 2)       # (B, G, T, Dh)
        v = self.v_proj(x, rows=rows).view(B, T, self.G, self.Dh).transpose(1, 2)
        q, k = self.rot_q(rotate(q, cos, sin)), self.rot_k(rotate(k, cos, sin))
        if cache is not None:
            k, v = cache.append(self.layer, k, v)                           # (B, G, S, Dh)
        if self.eager:
            y = self.eager_attention(q, k, v, mask)
        else:
            y = self.fused_attention(q, k, v, mask)
        z = self.z(y.transpose(1, 2))                                       # (B, T, H, Dh)
        return self.o_proj(z.reshape(B, T, self.H * self.Dh), rows=rows)

    def fused_attention(self, q, k, v, mask):
        # is_causal is right only for a square: with keys in the cache it aligns top-left, which is wrong.
        if mask is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        # Behind a cache there are few queries and many keys: the n query heads that read one key head go side
        # by side as if they were queries of it, so keys are read once, not n times.
        B, T, n = q.shape[0], q.shape[2], self.H // self.G
        q = q.reshape(B, self.G, n * T, self.Dh)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.repeat(1, 1, n, 1))
        return y.reshape(B, self.H, T, self.Dh)

    def eager_attention(self, q, k, v, mask):
        T, S, n = q.shape[2], k.shape[2], self.H // self.G
        k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)     # query head h reads key head h // n
        if mask is None:
            mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril()
        att = (q @ k.transpose(-1, -2)) * self.Dh ** -0.5               # (B, H, T, S)
        att = att.masked_fill(~mask, float("-inf")).softmax(
            -1, dtype=torch.promote_types(q.dtype, torch.float32))
        return self.pattern(att.to(q.dtype)) @ v


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x, rows=None):
        h = F.silu(self.gate_proj(x, rows=rows)) * self.up_proj(x, rows=rows)          # (B, T, F)
        return self.down_proj(h, rows=rows)


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.resid_pre, self.resid_mid, self.resid_post = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x, cos, sin, cache=None, mask=None, rows=None):
        x = self.resid_pre(x)                                               # (B, T, D), all three
        x = self.resid_mid(x + self.self_attn(self.input_layernorm(x), cos, sin, cache, mask, rows))
        return self.resid_post(x + self.mlp(self.post_attention_layernorm(x), rows))


class Decoder(nn.Module):
    """Everything below the head: ids (B, T) -> last hidden state (B, T, D), after the final norm.

    adapters: for each row the adapter that it uses, -1 for none (model/lora.py: arrange)."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        # given its weight, or on the meta device its initialisation would import torch._dynamo: 1.5 s
        weight = torch.zeros(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=weight)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.bank = 0                   # how many adapters add_lora has put on the projections
        self.recompute = False          # True: keep only what enters a block, and compute the rest again in
                                        # backward: same bits, a third more FLOPs

    def forward(self, ids, cache=None, adapters=None):
        rows = arrange(adapters, ids.shape[0], self.bank, ids.device)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]    # (1, T)
        mask = None
        if cache is not None:
            positions, mask = cache.place(ids.shape[1])                    # a row continues at its own length
        x = self.embed_tokens(ids)                                         # (B, T, D)
        cos, sin = rotary_tables(positions, self.config, x.dtype)
        for block in self.layers:
            if self.recompute and cache is None and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, None, mask, rows, use_reentrant=False,
                               preserve_rng_state=False)
            else:
                x = block(x, cos, sin, cache, mask, rows)
        if cache is not None:
            cache.advance(ids.shape[1])
        return self.norm(x)


class Qwen2(nn.Module):
    """ids (B, T) int64 -> logits (B, T, V), always that shape, with or without a cache.

    Rows are padded on the right. Causality makes the padding invisible to real tokens, so no mask is needed.

    Where (B, T, V) would not fit or most of it is not wanted, keep (B, T) bool chooses N positions, in the
    order of rows and then of tokens, or keep (N,) int64 numbers them in that order: their logits (N, V).
    head(hidden, lm_head) may replace the plain head: what it makes of the chosen hidden states, (N, D), or
    without keep of all of them, (B, T, D), is returned. It runs inside this forward, so whatever shards or
    wraps the model has its weights at hand.
    adapters: for each row the adapter that it uses, -1 for the base (model/lora.py: arrange).
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie()

    def tie(self):
        # one tensor under two names, so an update cannot make them differ
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids, cache=None, keep=None, head=None, adapters=None):
        hidden = self.model(ids, cache, adapters)                          # (B, T, D)
        if keep is not None:
            hidden = hidden[keep] if keep.dtype == torch.bool else hidden.flatten(0, 1).index_select(0, keep)
        # hidden: (N, D), or without keep (B, T, D)
        return self.lm_head(hidden) if head is None else head(hidden, self.lm_head)

    def init_weights(self, seed):
        """Draw fresh weights: normal(0, initializer_range), biases 0, norms 1; the two matrices that write
        into the residual stream smaller by sqrt(2 L), so that its variance does not grow with depth
        (GPT-2)."""
        generator = torch.Generator(self.lm_head.weight.device).manual_seed(seed)
        std = self.config.initializer_range
        for name, p in self.named_parameters():
            if p.dim() == 1:
                nn.init.constant_(p, 0.0 if name.endswith("bias") else 1.0)
            else:
                small = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, 0.0, std / (2 * self.config.num_hidden_layers) ** 0.5 if small else std,
                                generator)
