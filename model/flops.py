"""The ledger of floating-point operations: what a forward pass and a training step need, counted by hand.

2 per multiply-add in matrix products. Norms, rotations, activations and softmax are left out: below 1% at
Qwen2.5-0.5B. Attention counts the causal triangle, which is the useful work: a token sees itself and what
lies before it. Kernels that compute the whole square and mask half of it do more; so does padding, and so
do a loss that computes its logits again in backward, and blocks that train.py --checkpoint computes again.
The head is counted on the positions that reach it.
"""

from model.sampling import common_prefix


def forward_flops(config, new, past=0, heads=1, lora=None):
    """One row's forward pass over `new` tokens behind `past` cached ones; `heads` of them get logits (a
    prefill needs 1, plain training all that carry loss, reading a shared prefix 0). lora: as in
    training_flops, of the adapter that the row uses."""
    weights = sum(i * o for i, o in projections(config).values())
    layer = 2 * new * weights + 2 * product(config, pairs(new, past))
    return config.num_hidden_layers * layer + 2 * new * factors(config, lora) \
        + 2 * heads * config.hidden_size * config.vocab_size


def training_flops(config, lengths, supervised, lora=None):
    """Forward and backward of one step on conversations of `lengths` tokens each, in which `supervised`
    tokens carry loss. lora: None where all weights learn, else (rank, the adapted projections) or (rank, the
    adapted projections, the numbers of the adapted blocks).

    The last token of a conversation is predicted, not read. Backward costs a forward once more for the
    gradients of the activations, and where all weights learn again for theirs; of attention it costs twice
    the forward. In LoRA the gradients stop at the first adapter of the first adapted layer.
    """
    new = sum(n - 1 for n in lengths)                               # tokens read
    seen = sum(pairs(n - 1, 0) for n in lengths)                    # queries times keys
    L = config.num_hidden_layers
    head = 2 * supervised * config.hidden_size * config.vocab_size
    shapes = projections(config)
    linear = 2 * new * sum(i * o for i, o in shapes.values())
    attention = 2 * product(config, seen)
    if lora is None:
        return 3 * L * linear + 3 * L * attention + 3 * head
    rank, targets, *blocks = lora
    first = min(blocks[0]) if blocks else 0
    # forward; from the first adapted layer on gradients of the activations; for the factors theirs too
    learning = (L - first) * (2 * linear + 3 * attention) + 3 * 2 * new * factors(config, lora)
    below = first * (linear + attention)
    return below + learning - below_the_first_adapter(config, new, seen, rank, targets) + 2 * head


def sampling_flops(config, rows, lora=None):
    """Drawing a token at a time: rows [(prompt, tokens drawn)] of one adapter or of the base. Equal prompts
    and the prefix that all share are read once; the last token that a row draws is read by nobody."""
    unique = set(tuple(prompt) for prompt, _ in rows)
    shared = common_prefix(list(unique))
    flops = forward_flops(config, shared, heads=0, lora=lora)
    for prompt in unique:
        flops += forward_flops(config, len(prompt) - shared, shared, lora=lora)
    for prompt, drawn in rows:
        flops += forward_flops(config, drawn - 1, len(prompt), heads=drawn - 1, lora=lora)
    return flops


def factors(config, lora):
    """Numbers in one adapter; lora: as in training_flops, None: none."""
    if lora is None:
        return 0
    rank, targets, *blocks = lora
    count = len(blocks[0]) if blocks else config.num_hidden_layers
    return count * rank * sum(sum(projections(config)[t]) for t in targets)


def projections(config):
    """{projection: (in, out)} of one layer."""
    D, F, Dh = config.hidden_size, config.intermediate_size, config.head_dim
    H, G = config.num_attention_heads, config.num_key_value_heads
    return {"q_proj": (D, H * Dh), "k_proj": (D, G * Dh), "v_proj": (D, G * Dh), "o_proj": (H * Dh, D),
            "gate_proj": (D, F), "up_proj": (D, F), "down_proj": (F, D)}


def pairs(new, past):
    """Queries times keys: the first new token sees past + 1, the last one past + new."""
    return new * past + new * (new + 1) // 2


def product(config, seen):
    """One product of attention over `seen` pairs, all heads: scores (q k^T), or the mix (weights times v)."""
    return 2 * config.num_attention_heads * config.head_dim * seen


def below_the_first_adapter(config, new, seen, rank, targets):
    """What backward does not compute in the first adapted layer: gradients of activations that depend on
    nothing that learns."""
    shapes = projections(config)
    stages = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
    saved, reached = 0, False
    for stage in stages:
        if not reached:                 # the inputs of this stage depend on no adapter
            saved += sum(2 * new * shapes[name][0] * shapes[name][1] for name in stage)
            saved += sum(2 * new * rank * shapes[name][0] for name in stage if name in targets)
        reached = reached or any(name in targets for name in stage)
    q, k, v = (name in targets for name in stages[0])
    needed = (q or k) + q + k + v       # gradients of the attention weights, of q, of k and of v
    return saved + (4 - needed) * product(config, seen)
