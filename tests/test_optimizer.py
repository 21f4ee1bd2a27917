"""AdamW for K adapters side by side, against torch's own: moving rates, clipping, decay, bf16 masters."""

import pytest
import torch
from test_training import gap, same_bits, torchs_adamw

from newnews import optimizer as adamw
from newnews.optimizer import AdamW
from newnews.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("bank", [False, True])
@pytest.mark.parametrize("piece", [2 ** 24, 11])
def test_adamw_is_torchs(dtype, tolerance, bank, piece, monkeypatch):
    """100 updates with moving rates; gradients from 1e-9, where eps decides, to 10, where clipping does. Each
    slice of a bank has a torch optimizer of its own. piece: a tensor at once, and in rows."""
    monkeypatch.setattr(adamw, "PIECE", piece)
    K, generator = 3 if bank else 1, torch.Generator().manual_seed(1)
    recipe = Recipe(steps=100, rate=1e-2, weight_decay=0.1, beta1=0.8, beta2=0.9, clip=1.0)
    shapes = {"matrix": (4, 5), "wide": (2, 7)} if bank else {"matrix": (4, 5), "vector": (6,)}
    start = {n: torch.randn(K, *s, generator=generator, dtype=dtype) for n, s in shapes.items()}
    ours = {n: torch.nn.Parameter(t.clone() if bank else t[0].clone()) for n, t in start.items()}
    theirs = [{n: torch.nn.Parameter(t[k].clone()) for n, t in start.items()} for k in range(K)]
    optimizer = AdamW(ours, recipe, bank)
    torchs = [torchs_adamw(ps.values(), recipe) for ps in theirs]
    norms = []
    for t in range(1, recipe.steps + 1):
        rate = float(torch.rand((), generator=generator, dtype=dtype)) * 0.1
        grads = {n: torch.randn(K, *s, generator=generator, dtype=dtype) for n, s in shapes.items()}
        for k in range(K):
            size = 10.0 ** float(torch.randint(-9, 2, (), generator=generator))
            for n, g in grads.items():
                g[k] *= size
                theirs[k][n].grad = g[k].clone()
            wanted = torch.nn.utils.clip_grad_norm_(theirs[k].values(), 1.0)
            norms.append(wanted.item())
            for group in torchs[k].param_groups:
                group["lr"] = rate
            torchs[k].step()
        for n, p in ours.items():
            p.grad = grads[n] if bank else grads[n][0]
        optimizer.collect()
        assert optimizer.norms().tolist() == pytest.approx(norms[-K:], rel=1e-5)
        with torch.no_grad():
            optimizer.step(t, rate, torch.ones(K, dtype=torch.bool), optimizer.norms())
    for n, p in ours.items():
        stacked = torch.stack([ps[n].detach() for ps in theirs])
        assert gap({n: p.detach() if bank else p.detach()[None]}, {n: stacked}, start) < tolerance
    assert min(norms) < 1e-7 and max(norms) > 1


def test_autograd_adds_into_the_sums():
    """No gradient of a micro-batch stands beside them."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW({"w": p}, Recipe(steps=1, rate=1e-3), False)
    for _ in range(2):
        (p * 2).sum().backward()
        optimizer.collect()
    assert p.grad is optimizer.grads["w"] and p.grad.tolist() == [4.0] * 3


def test_adamw_on_bf16_keeps_an_fp32_master():
    """The same gradients on a bf16 parameter and its fp32 copy: the same values, rounded only at the end."""
    generator = torch.Generator().manual_seed(2)
    low = torch.nn.Parameter(torch.randn(8, 8, generator=generator).bfloat16())
    full = torch.nn.Parameter(low.detach().float())
    recipe, start = Recipe(steps=50, rate=1e-5), low.detach().clone()
    optimizers = [AdamW({"w": p}, recipe, False) for p in (low, full)]
    for t in range(1, 51):
        for micro in range(3):                      # sums of micro-batches must not round to bf16 either
            g = torch.randn(8, 8, generator=generator).abs().bfloat16()
            low.grad, full.grad = g, g.float()
            for optimizer in optimizers:
                optimizer.collect()
        with torch.no_grad():
            for optimizer in optimizers:
                optimizer.step(t, 1e-3, torch.tensor([True]), optimizer.norms())
    assert low.dtype == torch.bfloat16 and same_bits(low.detach().float(), full.detach().bfloat16().float())
    assert same_bits(optimizers[0].values["w"], full.detach()) and (low != start).float().mean() > 0.9
