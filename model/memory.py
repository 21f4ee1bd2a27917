"""The ledger of memory: what training and sampling keep at their peak, counted by hand, in bytes.

Counted is what grows with the model and the batch: weights, gradients, the optimizer's moments, activations
that backward needs, keys and values. Not counted: Python, torch and its kernels' work space (on a CPU some
hundred MB), the pools of CUDA graphs (what a step makes on its way, a second time: logits of 200 rows and
152k tokens in fp32 are .1 GB, and several such stand), and what an allocator keeps back: on CUDA some tenth
(assumed); glibc keeps the pieces below 32 MB that were freed between others, up to as much again as the
activations, unless MALLOC_MMAP_THRESHOLD_=65536.
tests/test_memory.py holds it against what processes take.

    e   bytes of a number in the model's dtype (4: fp32, 2: bf16)       n   tokens of a micro-batch, padded
"""

from model.flops import factors, projections
from model.loss import CHUNK_NUMBERS

INPUTS = {"q_proj": "x", "k_proj": "x", "v_proj": "x", "o_proj": "z", "gate_proj": "h", "up_proj": "h",
          "down_proj": "p"}         # which activation each projection reads


def parameter_count(config):
    D, L = config.hidden_size, config.num_hidden_layers
    H, G, Dh = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    layer = sum(i * o for i, o in projections(config).values()) + (H + 2 * G) * Dh + 2 * D
    return L * layer + D + (1 if config.tie_word_embeddings else 2) * config.vocab_size * D


def block_activations(config, e, lora=None):
    """Bytes a token that one block keeps for backward."""
    D, F = config.hidden_size, config.intermediate_size
    H, G, Dh = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    kept = 2 * 4 * D                            # what the norms read, in fp32 (a copy where e = 2)
    kept += e * (2 * H + 2 * G) * Dh + 4 * H    # attention: q, k, v, its output, the logarithms of its sums
    kept += e * 3 * F                           # silu's input and output, and up's output
    if lora is None:                            # the norms' products before their weights, and every input of
        return kept + e * (2 * D) + e * (2 * D + F)         # a projection (attention's output is there)
    rank, targets = lora
    width = {"x": D, "z": H * Dh, "h": D, "p": F}
    for name in {INPUTS[t] for t in targets} - {"z"}:       # each once, whoever reads it; z is there
        kept += e * width[name]
    return kept + e * rank * len(targets)


def head_memory(config, e, supervised, adds):
    """Bytes at the peak of the loss: log-probabilities and two gradients in fp32, bf16 logits beside them; of
    a head that adds its own gradient (model/loss.py: AddingHead) logits and probabilities, half as many."""
    rows = min(supervised, max(1, CHUNK_NUMBERS // config.vocab_size // (2 if adds else 1)))
    return rows * config.vocab_size * (8 if adds else 12 if e == 4 else 14)


def training_memory(config, e, n, supervised, lora=None, recompute=False, shards=1):
    """{part: bytes} of one process at the peak of a training step, "total" their sum where it is highest.

    lora: None where all weights learn, else (rank, targets). recompute: backward computes blocks again.
    shards: over how many processes the base model is split; the block at work is whole, and so is what lies
    outside of the blocks.
    """
    P, L = parameter_count(config), config.num_hidden_layers
    V, D = config.vocab_size, config.hidden_size
    learns = P if lora is None else factors(config, lora)
    parts, width = (shards, e) if lora is None else (1, 4)
    out = {"weights": e * P // shards + (0 if lora is None else 4 * learns)}
    if shards > 1:                              # gathered: all outside of the blocks, and two blocks
        outside = (1 if config.tie_word_embeddings else 2) * V * D
        out["gathered"] = e * (outside + 2 * (P - outside) // L) * (1 if lora else 2)
    out["optimizer"] = (8 if width == 4 else 12) * learns // parts      # moments, and an fp32 master of bf16
    out["gradients"] = 4 * learns // parts
    block = block_activations(config, e, lora)
    kept = n * (block + (L - 1) * e * D if recompute else L * block)
    # the peak is where backward begins (activations, the head's), where it ends (the micro-batch's own
    # gradients; an fp32 model's are added to the sums at once), or in the optimizer (two pieces of 64 MB)
    adds = lora is None and e == 4 and shards == 1
    begins = kept + head_memory(config, e, supervised, adds) + n * e * 3 * D
    ends = n * block + (0 if width == 4 and shards == 1 else width * learns // parts)
    if adds:                                            # the embedding's own gradient
        ends += e * V * D
    elif lora is None and config.tie_word_embeddings:   # its two gradients wait for each other, and are added
        ends += 2 * e * V * D // parts
    out["activations"] = max(begins, ends, min(2 ** 27, 8 * learns // parts))
    out["total"] = sum(out.values())
    return out


def sampling_memory(config, e, rows, tokens, prompt):
    """{part: bytes} at the peak of sampling: `rows` decode together, each of at most `tokens` tokens, and
    `prompt` tokens are prefilled at once."""
    D, F, V = config.hidden_size, config.intermediate_size, config.vocab_size
    H, G, Dh = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    cache = 2 * config.num_hidden_layers * G * Dh * e * rows * tokens
    out = {"weights": e * parameter_count(config), "keys and values": cache,
           # rows that leave or join copy the cache: the old one stays until the new one is whole
           "their copy": cache}
    prefill = prompt * e * (2 * D + (2 * H + 2 * G) * Dh + 3 * F)
    out["working"] = max(prefill, rows * V * (12 if e == 4 else 14))       # logits, the next, probabilities
    out["total"] = sum(out.values())
    return out
