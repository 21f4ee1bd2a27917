"""What the ledger of memory predicts, against what processes take.

As a program this file is such a process: python test_memory.py JSON prints the peak of its resident memory,
in bytes, above what it had once torch was warm.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, make_config, make_ids, make_tiny

from model.flops import factors
from model.lora import PROJECTIONS, adapted, add_lora
from model.memory import block_activations, parameter_count, sampling_memory, training_memory
from model.qwen2 import Qwen2
from model.drawing import Sampling
from model.sampling import generate
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
        prompts = [[7] * case["prompt"] + [i] for i in range(case["rows"])]
        ends = set(range(model.config.vocab_size // 4))     # a quarter of the rows leaves at each token
        generate(model, prompts, ends, Sampling(case["tokens"] - case["prompt"] - 1))
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
    warm = {**case, "n": 4, "row": 2, "rows": 2, "tokens": 12, "prompt": 4}
    work(Qwen2(make_config()).to(DTYPES[case["e"]]), warm)
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
    lora = LORA if case["what"] == "lora" else None
    return training_memory(config, case["e"], case["n"], rows * case["row"], lora,
                           case.get("recompute", False))


def test_counts():
    for tied in (False, True):
        config = make_config(**{**SHAPE, "tie_word_embeddings": tied})
        with torch.device("meta"):
            model = Qwen2(config)
        assert parameter_count(config) == sum(p.numel() for p in model.parameters())
    with torch.device("cpu"):
        tiny = add_lora(Qwen2(make_config()), ("q_proj", "down_proj"), 3, 6)
    learnt = sum(p.numel() for n, p in tiny.named_parameters() if "lora" in n)
    assert factors(tiny.config, (3, ("q_proj", "down_proj"))) == learnt


@pytest.mark.parametrize("e", [4, 2])
@pytest.mark.parametrize("lora", [None, LORA, (4, ("v_proj",)), (4, ("o_proj", "down_proj"))])
@pytest.mark.parametrize("recompute", [False, True])
def test_what_blocks_keep_for_backward(e, lora, recompute):
    """The bytes of all tensors that autograd saves, each storage once: to 2%, and 5 to 60 times less with
    checkpointing."""
    config = make_config(hidden_size=96, intermediate_size=256, num_hidden_layers=8, num_attention_heads=6)
    model = Qwen2(config).to(DTYPES[e])
    if lora:
        add_lora(model, lora[1], lora[0], 8)
    model.requires_grad_(not lora)
    for name, p in model.named_parameters():
        p.requires_grad_(not lora or "lora" in name)
    model.model.recompute = recompute
    kept, ids = {}, torch.ones(3, 50, dtype=torch.int64)

    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t                # the tensor: no storage is used again
        return t

    x = model.model.embed_tokens(ids).detach().requires_grad_()  # else the first block of LoRA keeps less
    model.model.embed_tokens.forward = lambda _: x
    model.model.norm.forward = lambda h: h
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        model.model(ids)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in own)
    each = 8 * block_activations(config, e, lora)
    assert found == pytest.approx(ids.numel() * (8 * e * 96 if recompute else each), rel=0.03)
    assert 5 < each / (8 * e * 96) < 60


@pytest.mark.parametrize("lora", [False, True])
def test_checkpointing_changes_no_bit_of_a_gradient(lora):
    found = []
    for recompute in (False, True):
        model = make_tiny(1)
        if lora:
            add_lora(model, rank=2, alpha=4)
            for module in adapted(model).values():
                module.lora_B.data.normal_(generator=torch.Generator().manual_seed(1))
        model.requires_grad_(not lora)
        for name, p in model.named_parameters():
            p.requires_grad_(not lora or "lora" in name)
        model.model.recompute = recompute
        loss = model(make_ids(3, 9)).log_softmax(-1)[..., 5].sum()
        loss.backward()
        found.append([loss.detach()] + [p.grad for p in model.parameters() if p.requires_grad])
    assert len(found[0]) > 20 and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


CASES = [{"what": "full", "e": 4, "n": 256, "row": 64}, {"what": "lora", "e": 4, "n": 512, "row": 64},
         {"what": "lora", "e": 4, "n": 512, "row": 64, "recompute": True},
         {"what": "sample", "e": 4, "rows": 64, "tokens": 200, "prompt": 192}]


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_within_15_percent(case):
    """Pieces from 64 kB on are given back when they are freed, so that what is resident is what is needed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536",
           "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, __file__, json.dumps(case)], env=env, capture_output=True,
                          text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    predicted, measured = predict(case), int(done.stdout)
    print(case, {k: round(v / 1e6) for k, v in predicted.items()}, "measured", round(measured / 1e6))
    assert predicted["total"] == pytest.approx(measured, rel=0.15)


if __name__ == "__main__":
    measure(json.loads(sys.argv[1]))
