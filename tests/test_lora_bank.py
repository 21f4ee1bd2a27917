"""A bank of K adapters against K single models, and the low-rank product against the plain expression."""

import pytest
from test_lora import IDS, logits, new_model, one_thread, with_random_factors, worst
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.lora import LoRALinear, adapted, add_lora, arrange
from model.qwen2 import Block


# ---- the bank ----------------------------------------------------------------------------------------------

def bank_and_singles(dtype, K=3):
    """A bank of K with random factors, and K models that carry one of them each."""
    bank = with_random_factors(add_lora(new_model(dtype=dtype), rank=4, alpha=7, seeds=range(K)))
    singles = []
    for k in range(K):
        single = add_lora(new_model(dtype=dtype), rank=4, alpha=7)
        for module, one in zip(adapted(bank).values(), adapted(single).values()):
            one.lora_A.data[0], one.lora_B.data[0] = module.lora_A[k], module.lora_B[k]
        singles.append(single)
    return bank, singles


@pytest.mark.parametrize("dtype, tolerance", ((torch.float64, 1e-12), (torch.float32, 1e-5)))
def test_a_bank_is_its_single_adapters(dtype, tolerance):
    """Six rows in three groups of two: group k gets adapter k, in the logits and in the gradients."""
    bank, singles = bank_and_singles(dtype)
    weight = torch.randn(6, 13, 61, generator=torch.Generator().manual_seed(1)).to(dtype)
    out = bank(IDS, adapters=[0, 0, 1, 1, 2, 2])
    (out * weight).sum().backward()
    for k, single in enumerate(singles):
        rows = slice(2 * k, 2 * k + 2)
        one = single(IDS[rows])
        (one * weight[rows]).sum().backward()
        assert worst(out[rows], one) <= tolerance
        assert worst(one, logits(singles[(k + 1) % 3], IDS[rows])) > 0.2            # the adapters differ
        for module, alone in zip(adapted(bank).values(), adapted(single).values()):
            for ours, theirs in ((module.lora_A, alone.lora_A), (module.lora_B, alone.lora_B)):
                assert theirs.grad.abs().max() > 0.1
                assert worst(ours.grad[k], theirs.grad[0]) <= tolerance * 100
    assert all((p.grad is not None) == ("lora_" in n) for n, p in bank.named_parameters())


ROWS = ([0, 0, 1, 1, 2, 2], [2, 2, 2, 2, 2, 2], [2, 0, 1, 1, 0, 2], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 2, 2],
        [-1, 0, 2, -1, -1, 1], [-1, -1, -1, 1, 1, 1], [-1, 2, 2, 2, 2, -1])


@pytest.mark.parametrize("dtype, tolerance", ((torch.float64, 1e-12), (torch.float32, 2e-5)))
@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_any_row_may_use_any_adapter_or_none(rows, dtype, tolerance):
    """Groups, mixtures, base and tuned side by side: logits and gradients are those of single models."""
    bank, singles = bank_and_singles(dtype)
    base = new_model(dtype=dtype)
    weight = torch.randn(6, 13, 61, generator=torch.Generator().manual_seed(1)).to(dtype)
    out = bank(IDS, adapters=torch.tensor(rows))
    (out * weight).sum().backward()
    for k, single in enumerate(singles):
        mine = [i for i, row in enumerate(rows) if row == k]
        if mine:
            one = single(IDS[mine])
            assert worst(out[mine], one) <= tolerance
            (one * weight[mine]).sum().backward()
        for module, alone in zip(adapted(bank).values(), adapted(single).values()):
            for ours, theirs in ((module.lora_A, alone.lora_A), (module.lora_B, alone.lora_B)):
                grad = theirs.grad[0] if mine else torch.zeros_like(ours[k])
                assert worst(ours.grad[k], grad) <= tolerance * 200
    for i, row in enumerate(rows):
        if row == -1:
            assert worst(out[i], logits(base, IDS[i:i + 1])[0]) <= tolerance
            assert worst(out[i], logits(singles[0], IDS[i:i + 1])[0]) > 0.2


def test_blocks_that_are_computed_again_in_backward_use_the_same_adapters(monkeypatch):
    """Activation checkpointing runs a block a second time, when the model's call has long ended."""
    found, forward = [], Block.forward
    for recompute in (False, True):
        bank, _ = bank_and_singles(torch.float64)
        if recompute:
            again = lambda self, *args: checkpoint(forward, self, *args, use_reentrant=False)
            monkeypatch.setattr(Block, "forward", again)
        bank(IDS, adapters=[-1, 0, 2, 2, 1, 0]).square().sum().backward()
        found.append([p.grad for p in bank.parameters() if p.grad is not None])
    assert len(found[0]) > 20 and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_all_rows_on_the_base_are_the_base_bit_for_bit(dtype):
    bank, _ = bank_and_singles(dtype)
    plain = logits(new_model(dtype=dtype))
    assert torch.equal(logits(bank, k=-1), plain)
    assert torch.equal(logits(new_model(dtype=dtype), k=-1), plain)         # a model without adapters too
    assert worst(logits(bank, k=2), plain) > 0.2


def test_a_broken_adapter_does_not_touch_rows_on_the_base():
    bank, singles = bank_and_singles(torch.float32)
    for module in adapted(bank).values():
        module.lora_A.data[0] = float("nan")
    out = logits(bank, k=[-1, 0, 2, -1, 2, 1])
    assert out[1].isnan().all() and out[[0, 2, 3, 4, 5]].isfinite().all()


# ---- the product, against the plain expression -------------------------------------------------------------

def plain(module, x, rows):
    """W x + b + scale * B (A x) as it stands, factors and sum in fp32 as in PEFT: the slow twin."""
    y = nn.functional.linear(x, module.weight, module.bias)
    if rows is None:
        return y
    A, B = ((module.lora_A, module.lora_B) if rows.which is None
            else (module.lora_A[rows.which], module.lora_B[rows.which]))
    used = torch.arange(len(x)) if rows.used is None else rows.used
    h = x[used].reshape(rows.n, -1, x.shape[-1]).to(A.dtype)
    h = module.scale * (h @ A.transpose(1, 2) @ B.transpose(1, 2)).view(len(used), x.shape[1], -1)
    if module.gate is not None:
        h = h * module.gate.expand(x.shape[:2])[used][..., None]
    return y.index_copy(0, used, (y[used] + h).to(y.dtype))


def small_module(dtype, K, bias=True, std=1.0):
    module = LoRALinear(nn.Linear(5, 7, bias=bias).to(dtype).requires_grad_(False), K, 3, 7 / 3)
    return with_random_factors(module, std=std)


MIXES = (1, None), (3, [0, 1, 2]), (3, [2, 2, 0, 0, 1, 1]), (3, [-1, 2, -1, 0]), (2, [1, 1, 1])


@pytest.mark.parametrize("K, adapters", MIXES, ids=str)
@pytest.mark.parametrize("gate", (False, True), ids=("plain", "gated"))
@pytest.mark.parametrize("bias", (False, True))
def test_the_product_is_the_plain_expression(K, adapters, gate, bias):
    """Values and the gradients of x and both factors, to float noise in fp32; in fp64 against differences."""
    module, n = small_module(torch.float32, K, bias), len(adapters or [0, 0])
    x = torch.randn(n, 4, 5, generator=torch.Generator().manual_seed(2)).requires_grad_()
    weight = torch.randn(n, 4, 7, generator=torch.Generator().manual_seed(3))
    module.gate = torch.rand(n, 4, generator=torch.Generator().manual_seed(4)) if gate else None
    rows, wanted = arrange(adapters, n, K), (x, module.lora_A, module.lora_B)
    found, twin = module(x, rows), plain(module, x, rows)
    assert worst(found, twin) <= 1e-6 * twin.abs().max()
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), wanted) for y in (found, twin)), strict=True):
        assert a.shape == b.shape and worst(a, b) <= 1e-6 * b.abs().max() and b.abs().max() > 0.1
    module, x = module.double(), x.detach().double().requires_grad_()

    def output(x, A, B):
        return torch.func.functional_call(module, {"lora_A": A, "lora_B": B}, (x, rows))

    assert torch.autograd.gradcheck(output, (x, *(p.detach().requires_grad_() for p in
                                                  (module.lora_A, module.lora_B))))


def test_bf16_factors_lose_no_more_than_the_rest_of_a_bf16_model(monkeypatch):
    """Logits and gradients of a bf16 base against the same rounded weights in fp64: the factors are rounded
    to bf16 and multiplied there, and the error stays that of PEFT's expression, which multiplies in fp32."""
    fast, far = LoRALinear.forward, {}
    weight = torch.randn(6, 13, 61, generator=torch.Generator().manual_seed(1))
    for way, forward, dtype in (("exact", fast, torch.float64), ("fast", fast, torch.bfloat16),
                                ("plain", plain, torch.bfloat16)):
        monkeypatch.setattr(LoRALinear, "forward", forward)
        model = add_lora(new_model(dtype=torch.bfloat16).to(dtype), rank=4, alpha=8)
        out = with_random_factors(model, std=0.05)(IDS)
        (out * weight).sum().backward()
        grads = [[p.grad.double().flatten() for n, p in model.named_parameters() if n.endswith(side)]
                 for side in ("lora_A", "lora_B")]
        far[way] = [out.detach().double(), *map(torch.cat, grads)]
        learnt = [p for p in model.parameters() if p.grad is not None]
        assert learnt and all(p.grad.dtype == p.dtype != torch.bfloat16 for p in learnt)
    for exact, ours, theirs in zip(*far.values(), strict=True):
        error, reference = ((x - exact).norm().item() for x in (ours, theirs))
        assert 0 < error <= 1.15 * reference < 0.1 * exact.norm().item()


def test_few_rows_meet_fp32_factors_on_a_bf16_base():
    """Fewer rows than the rank, as where a bank decodes: no more rounding than in the plain expression."""
    x = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(2)).bfloat16().requires_grad_()
    module, rows = small_module(torch.bfloat16, 3), arrange([0, 1, 2], 3, 3)
    found, twin = module(x, rows), plain(module, x, rows)
    assert found.dtype == torch.bfloat16 and torch.equal(found, twin)
    wanted = (x, module.lora_A, module.lora_B)
    for a, b in zip(*(torch.autograd.grad(y.sum(), wanted) for y in (found, twin)), strict=True):
        assert a.dtype == b.dtype
        assert worst(a, b) <= (1e-6 if a.dtype == torch.float32 else 2e-2) * b.abs().max()


def test_groups_are_found():
    """Equal runs are one product a run; the bank in its order is used as it is, without a copy."""
    assert arrange([-1, -1], 2, 3) is None and arrange(None, 4, 0) is None
    assert arrange(None, 4, 1) == arrange([0] * 4, 4, 1) == (1, None, None)
    assert arrange([0, 0, 1, 1, 2, 2], 6, 3) == (3, None, None)
    assert (found := arrange([2, 2, 0, 0], 4, 3)).n == 2 and found.which.tolist() == [2, 0]
    assert (found := arrange([0, 0, 1], 3, 2)).n == 3 and found.which.tolist() == [0, 0, 1]
    found = arrange([-1, 1, 1, -1], 4, 3)
    assert found.n == 1 and found.which.tolist() == [1] and found.used.tolist() == [1, 2]


@pytest.mark.parametrize("k, said", (
    (None, "carries 3 adapters: say which"), ([0, 1], "6 rows, but adapters for 2"),
    ([0, 1, 2, 3, 0, 0], "adapter 3 is not on the model .it carries 0 to 2"), ([-2] * 6, "adapter -2")))
def test_adapters_that_fit_no_row_are_refused(k, said):
    bank, _ = bank_and_singles(torch.float32)
    with pytest.raises(ValueError, match=said):
        logits(bank, k=k)
    with pytest.raises(ValueError, match="it carries none"):
        logits(new_model(), k=0)


def test_what_is_added_is_the_scaled_product_of_the_factors():
    linear = nn.Linear(5, 4)
    module = with_random_factors(LoRALinear(linear, 2, 3, 7 / 3))
    x = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    for k in (0, 1):
        expected = linear(x[k]) + x[k] @ (7 / 3 * module.lora_B[k] @ module.lora_A[k]).T
        assert worst(module(x, arrange([0, 1], 2, 2))[k], expected) <= 1e-6
