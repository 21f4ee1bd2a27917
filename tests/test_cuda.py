"""The same on a GPU as on the CPU: forward, captured sampling, scoring, training, a study. Skipped without.

In fp64, where a token is a token. "The same" is 1e-3 of logits of size 1 to 10: rotary tables are fp32, and
a GPU's cosine and power differ from a CPU's in the last bit, which these steep weights make 2e-5.
"""

import subprocess
import sys

import pytest
import torch

from conftest import ROOT, make_tiny
from model import sampling as sampling_module
from model import strides
from model.drawing import Sampling
from model.lora import adapted, add_lora, lora_tensors
from model.sampling import generate, score
from newnews import captured
from newnews.batches import Shuffled
from newnews.examples import Example
from newnews.training import Recipe, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def close(a, b):
    torch.testing.assert_close(a.cpu(), b.cpu(), rtol=0, atol=1e-3)


def prompts_of(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(97, (n,), generator=generator).tolist() for n in lengths]


PROMPTS = prompts_of(5, 2, 9, 3, 4, 8, 2, 6, 7, 3, 5, 4, seed=23)
ADAPTERS = [0, 1, -1, 2, 2, 2, 0, -1, 1, 0, 0, 1]


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def pair(request):
    """(on the CPU, on the GPU): a model with three adapters."""
    def make():
        model = add_lora(make_tiny(3, torch.float64, tie_word_embeddings=request.param), rank=3, alpha=6,
                         seeds=(0, 1, 2))
        generator = torch.Generator().manual_seed(44)
        for module in adapted(model).values():
            for factor in (module.lora_A, module.lora_B):
                factor.data.copy_(torch.randn(factor.shape, generator=generator, dtype=torch.float64) * 0.4)
        return model
    gpu = make().to("cuda")
    gpu.tie()
    return make(), gpu


def test_forward(pair):
    ids = torch.tensor(prompts_of(*[11] * 4))
    for adapters in ([0, 1, 2, -1], [-1] * 4, [2] * 4):
        close(pair[0](ids, adapters=adapters), pair[1](ids.cuda(), adapters=adapters))


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("sampling", [
    dict(temperature=0.0), dict(),
    dict(temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=4)],
    ids=["greedy", "plain", "everything"])
def test_captured_sampling(pair, sampling, rows, monkeypatch):
    sampling = Sampling(**sampling, max_new_tokens=30)
    free = generate(pair[0], PROMPTS, (), sampling, adapters=ADAPTERS)
    stops = {free[0].ids[2], free[2].ids[5], free[5].ids[17]}
    expected = generate(pair[0], PROMPTS, stops, sampling, adapters=ADAPTERS)
    assert generate(pair[1], PROMPTS, stops, sampling, adapters=ADAPTERS, rows=rows) == expected
    monkeypatch.setattr(sampling_module, "in_strides", lambda model: False)
    assert generate(pair[1], PROMPTS, stops, sampling, adapters=ADAPTERS, rows=rows) == expected


def test_scoring(pair):
    answers = prompts_of(*[1, 3, 2] * 4, seed=5)
    ours, theirs = (score(model, PROMPTS, answers, adapters=ADAPTERS) for model in pair)
    close(torch.tensor(sum(ours, [])), torch.tensor(sum(theirs, [])))


@pytest.mark.parametrize("full", [False, True], ids=["bank", "all weights"])
def test_training(full, tmp_path):
    learners = 1 if full else 3
    lists = [[Example(ids, [0.0] + [1.0] * (len(ids) - 1)) for ids in prompts_of(7, 3, 12, 5, 9, 4, seed=k)]
             for k in range(learners)]
    recipe, ends = Recipe(steps=12, rate=1e-3, batch=3, warmup=2, weight_decay=0.1, micro_tokens=60), []
    for device in ("cpu", "cuda"):
        model = make_tiny(4, torch.float64, tie_word_embeddings=True).to(device)
        model.tie()
        if not full:
            add_lora(model, rank=2, alpha=4, seeds=range(learners))
        done = train(model, Shuffled(lists, recipe.batch, range(learners)), recipe, tmp_path / device)
        tensors = model.state_dict() if full else lora_tensors(model, 2)
        ends.append((torch.tensor(done["loss"]), {n: t.clone() for n, t in tensors.items()}))
    close(ends[0][0], ends[1][0])
    for name, tensor in ends[0][1].items():             # ten steps of 1e-3: a wrong one is 1e-3 off
        torch.testing.assert_close(tensor, ends[1][1][name].cpu(), rtol=0, atol=1e-4)


def test_graphs_are_recorded_and_give_their_memory_back(pair, monkeypatch):
    """Six calls of each take no more than two, and both do record."""
    made, gpu = [], pair[1]
    for module in (strides, captured):
        monkeypatch.setattr(module, "record", lambda *args, real=module.record: made.append(1) or real(*args))
    lists = [[Example(ids, [0.0] + [1.0] * (len(ids) - 1)) for ids in prompts_of(7, 3, 12, seed=k)]
             for k in range(3)]
    recipe, taken = Recipe(steps=6, rate=1e-3, batch=3), []
    for work in (lambda: generate(gpu, PROMPTS, (), Sampling(max_new_tokens=30), adapters=ADAPTERS),
                 lambda: train(gpu, Shuffled(lists, 3, range(3)), recipe)):
        made.clear()
        for _ in range(6):
            work()
            taken.append(torch.cuda.memory_reserved())
        assert len(made) >= 6
    assert taken[5] <= taken[1] and taken[11] <= taken[7]


def test_half_precision_is_near(tiny):
    ids = torch.tensor(prompts_of(*[40] * 3))
    exact, rough = tiny(seed=6, dtype=torch.float64), tiny(seed=6, dtype=torch.bfloat16).to("cuda")
    apart = rough(ids.cuda()).double().cpu() - exact(ids)
    assert float(apart.square().mean().sqrt() / exact(ids).std()) < 0.03


def test_a_study(tmp_path):
    changes = ["device=cuda", "news.per_domain=1", "draws=4", "recipe.steps=3", "contrasts=[]",
               "axes.protocol=[naive, self_qa]"]
    command = [sys.executable, "-m", "newnews", "run", "configs/demo.yaml", "--out", str(tmp_path / "demo")]
    subprocess.run(command + [word for change in changes for word in ("--set", change)], cwd=ROOT, check=True)
    assert (tmp_path / "demo" / "report.html").is_file()
