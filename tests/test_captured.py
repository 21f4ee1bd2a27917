"""A micro-batch in a fixed shape (newnews/captured.py) has the losses and gradients of next_token. Here on
the CPU, where nothing is captured; tests/test_cuda.py has the graphs."""

import pytest
import torch

from model.lora import adapted, add_lora
from newnews.batches import micro_batches
from newnews.captured import TOKENS, Graphs, fixed
from newnews.examples import Example
from newnews.training import next_token

pytestmark = pytest.mark.usefixtures("one_thread")


def examples(*lengths, seed):
    """Random ids; the first third carries no loss, and what does has a weight of its own."""
    generator = torch.Generator().manual_seed(seed)
    return [Example(torch.randint(97, (n,), generator=generator).tolist(),
                    [0.0] * (n // 3) + (torch.rand(n - n // 3, generator=generator) + 0.1).tolist())
            for n in lengths]


def gradients(params):
    return {name: p.grad.clone() for name, p in params.items()}


@pytest.mark.parametrize("bank", [False, True], ids=["all weights", "bank"])
@pytest.mark.parametrize("budget", [10 ** 4, 70])
def test_fixed_shapes_have_the_same_gradients(tiny, bank, budget):
    """Two learners of three are short of rows, one of them has none at all; three steps, so that a shape
    comes again with other contents and totals, and gradients add up."""
    model = tiny(seed=36, dtype=torch.float64)
    if bank:
        add_lora(model, rank=3, alpha=6, seeds=(0, 1, 2))
        for module in adapted(model).values():
            module.lora_B.data += 0.1
    else:
        model.requires_grad_(True)
    params = {n: p for n, p in model.named_parameters() if p.requires_grad}
    replay, found, wanted = Graphs(model), [], []
    ours, theirs = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
    for step in range(3):
        lists = [examples(9, 20, 5, 13, seed=step), examples(8, seed=9 + step), []][:3 if bank else 1]
        scale = torch.tensor([3.0 + step, 0.7, 1e-9], dtype=torch.float64)[:len(lists)]
        for batch in micro_batches(lists, budget, bank):
            for grads, values, learn in (
                    (ours, found, lambda b: replay(b, scale)),
                    (theirs, wanted, lambda b: (next_token(model, b) / scale))):
                for n, p in params.items():
                    p.grad = grads[n]
                part = learn(batch)
                if part.requires_grad:
                    part.sum().backward()
                values.append(part.detach())
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=0, atol=1e-12)
    for name in params:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12)
    assert any(g.abs().max() > 1e-3 for g in ours.values())


def test_shapes_are_few():
    shapes = set()
    for seed in range(40):
        lists = [examples(*range(20 + seed % 12, 28 + seed % 12), seed=seed) for _ in range(2)]
        (batch,) = micro_batches(lists, 10 ** 6)
        x, keep = fixed(batch), batch.weights[:, 1:] > 0
        n = int(keep.sum())
        assert torch.equal(x.ids.flatten()[x.places[:n]], batch.ids[:, :-1][keep])
        assert torch.equal(x.targets[:n], batch.ids[:, 1:][keep]) and not x.weights[n:].any()
        shapes.add((x.ids.shape, len(x.places)))
    assert len(shapes) <= 4 and all(shape[1] % TOKENS == 0 for shape, _ in shapes)
