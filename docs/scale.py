"""Memory and time of the paper's grid for every Qwen2.5 size, by the ledgers: the tables of docs/scale.md.

    PYTHONPATH=. python docs/scale.py

Calculations, none of them measured on a GPU.
"""

from model.cache import rows_at_once
from model.flops import forward_flops, training_flops
from model.lora import PROJECTIONS
from model.memory import parameter_count, sampling_memory, training_memory
from model.qwen2 import Qwen2Config

# D, F, L, H, G, V, tied: the config.json of Qwen2.5-SIZE-Instruct
SHAPES = {
    "0.5B": (896, 4864, 24, 14, 2, 151936, True),
    "1.5B": (1536, 8960, 28, 12, 2, 151936, True),
    "3B": (2048, 11008, 36, 16, 2, 151936, True),
    "7B": (3584, 18944, 28, 28, 4, 152064, False),
    "14B": (5120, 13824, 48, 40, 8, 152064, False),
    "32B": (5120, 27648, 64, 40, 8, 152064, False),
    "72B": (8192, 29568, 80, 64, 8, 152064, False),
}
GIB = 2 ** 30
PEAK, BANDWIDTH = 989e12, 3.35e12   # an H100 SXM's data sheet: dense bf16 FLOP/s, bytes/s
LINK, NETWORK = 450e9, 50e9         # bytes/s of a GPU to others, in a machine of eight (NVLink) and beyond
USED, STREAMED = 0.35, 0.5          # which shares are assumed: of PEAK, and of the other three
FITS = 72 * GIB                     # of 80 GB; the rest for CUDA and what the allocator keeps back
NEWS, DRAWS, EPOCHS, BATCH = 75, 1024, 4, 16     # BATCH: conversations a step, train.py's default
REPLIES = 4                         # an element: a paraphrase, an implication, Self-QA's question and answer
PROMPT, OWN, REPLY = 110, 50, 48    # tokens: of a prompt, of it behind the prefix read once, of a reply
CONVERSATION = 80                   # tokens trained on, REPLY of them supervised
LORA = (16, PROJECTIONS)


def config_of(size):
    D, F, L, H, G, V, tied = SHAPES[size]
    return Qwen2Config(V, D, F, L, H, G, 32768, 1e-6, 1e6, tied)


def placement(config, lora):
    """(GPUs, --micro-tokens, --checkpoint, bytes a GPU): the fewest H100s that hold a step, on these the
    largest micro-batch, without checkpointing where 2,048 tokens fit, a whole step."""
    for gpus in (1, 2, 4, 8, 16, 32):
        for recompute in (False, True):
            for n in (8192, 4096, 2048):
                supervised = n * REPLY // CONVERSATION
                need = training_memory(config, 2, n, supervised, lora, recompute, gpus)["total"]
                if need <= FITS:
                    return gpus, n, recompute, need


def writing(config):
    """(FLOPs, seconds on one H100, bytes) of all replies: a step reads the weights and the rows' keys and
    values once, or computes, whichever takes longer."""
    replies, context = NEWS * DRAWS * REPLIES, PROMPT + REPLY // 2
    flops = replies * (forward_flops(config, OWN, PROMPT - OWN)
                       + forward_flops(config, REPLY, PROMPT, heads=REPLY))
    rows = min(256, rows_at_once(config, PROMPT + REPLY, 2))
    row = 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * context
    step = (2 * parameter_count(config) + rows * row) / (STREAMED * BANDWIDTH)
    seconds = max(replies * REPLY / rows * step, flops / (USED * PEAK))
    return flops, seconds, sampling_memory(config, 2, rows, PROMPT + REPLY, rows * OWN)["total"]


def training(config, lora, recompute, gpus):
    """(FLOPs, GPU seconds) of three protocols of DRAWS elements a news item. Naive, one sentence a news item,
    is left out. A step computes or moves weights, whichever takes longer: each block is gathered for forward
    and for backward, in bf16, and where all weights learn their gradients are added up in fp32."""
    steps = NEWS * DRAWS * 3 * EPOCHS // BATCH
    flops = BATCH * training_flops(config, [CONVERSATION], REPLY, lora)
    if recompute:
        flops += BATCH * forward_flops(config, CONVERSATION - 1, heads=0)
    moved = (4 if lora else 8) * parameter_count(config) * (gpus - 1) / gpus
    step = max(flops / (gpus * USED * PEAK), moved / (STREAMED * (LINK if gpus <= 8 else NETWORK)))
    return steps * flops, steps * gpus * step


def tables():
    """Lines of Markdown."""
    lines = ["| size | parameters | weights, bf16 | writing, GiB | LoRA: GPUs | tokens | checkpoint "
             "| GiB a GPU | full: GPUs | tokens | checkpoint | GiB a GPU |", "|" + "---|" * 12]
    hours = ["| size | writing, FLOPs | H100 hours | LoRA, FLOPs | H100 hours | full, FLOPs | H100 hours "
             "| LoRA grid | full grid |", "|" + "---|" * 9]
    for size in SHAPES:
        config = config_of(size)
        count, (written, took, memory) = parameter_count(config), writing(config)
        cells, costs, totals = [], [f"{written:.2g}", f"{took / 3600:.1f}"], []
        for lora in (LORA, None):
            gpus, n, recompute, need = placement(config, lora)
            cells += [gpus, f"{n:,}", "yes" if recompute else "no", f"{need / GIB:.0f}"]
            flops, seconds = training(config, lora, recompute, gpus)
            costs += [f"{flops:.2g}", f"{seconds / 3600:,.1f}"]
            totals.append(f"{(took + seconds) / 3600:,.1f}")
        lines.append("| " + " | ".join(map(str, [size, f"{count / 1e9:.2f}B", f"{2 * count / GIB:.1f}",
                                                 f"{memory / GIB:.1f}", *cells])) + " |")
        hours.append("| " + " | ".join([size, *costs, *totals]) + " |")
    return lines, hours


if __name__ == "__main__":
    for table in tables():
        print("\n".join(table) + "\n")
