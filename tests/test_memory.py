"""What the ledger of memory predicts, against what processes take.

As a program this file is such a process: python test_memory.py JSON prints the peak of its resident memory, in
bytes, above what it had once torch was warm.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, make_config

from model.lora import PROJECTIONS, add_lora
from model.memory import adapter_count, parameter_count, sampling_memory, training_memory
from model.qwen2 import Qwen2
from model.sampling import Sampling, generate
from newnews.training import Recipe, train

# 62M parameters: far more than what torch itself takes
SHAPE = dict(vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=6,
             num_attention_heads=12, num_key_value_heads=2, max_position_embeddings=1024,
             tie_word_embeddings=True)
LORA = (16, PROJECTIONS)
DTYPES = {2: torch.bfloat16, 4: torch.float32}


def status(key):
    """A line of /proc/self/status, in bytes: VmRSS, or VmHWM, its peak."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))


def work(model, case):
    if case["what"] == "sample":
        prompts = [[1 + i % 90] * case["prompt"] + [i] for i in range(case["rows"])]
        generate(model, prompts, set(), Sampling(case["tokens"] - case["prompt"] - 1))
        return
    if case["what"] == "lora":
        add_lora(model, PROJECTIONS, LORA[0], 2 * LORA[0])
    model.model.recompute = case.get("recompute", False)
    ids = torch.randint(1, model.config.vocab_size, (case["n"] // case["row"], case["row"] + 1),
                        generator=torch.Generator().manual_seed(0)).tolist()
    train(model, lambda step: [[(row, [1.0] * len(row)) for row in ids]], Recipe(steps=2, rate=1e-4,
          micro_tokens=case["n"] + len(ids)))


def measure(case):
    torch.set_num_threads(1)
    work(Qwen2(make_config()).to(DTYPES[case["e"]]), {**case, "n": 4, "row": 2, "rows": 2, "tokens": 12, "prompt": 4})
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")                                # the peak begins anew
    with torch.device("meta"):
        model = Qwen2(make_config(**SHAPE))
    model = model.to(DTYPES[case["e"]]).to_empty(device="cpu")
    model.tie()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.01)
    work(model, case)
    print(status("VmHWM") - before)


def predict(case):
    config = make_config(**SHAPE)
    if case["what"] == "sample":
        return sampling_memory(config, case["e"], case["rows"], case["tokens"], case["rows"])
    rows = case["n"] // case["row"]
    return training_memory(config, case["e"], case["n"], rows * case["row"], LORA if case["what"] == "lora" else None,
                           case.get("recompute", False))


if __name__ == "__main__":
    measure(json.loads(sys.argv[1]))
