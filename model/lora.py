"""Low-rank adapters (Hu et al., 2106.09685), one or a bank of K side by side on one frozen base.

An adapted Linear computes  W x + b + scale * B (A x)  with A (r, in), B (out, r), scale = alpha / r, and
keeps its weight under the same name, so the base checkpoint still loads by the same keys. In a bank A is
(K, r, in) and B is (K, out, r). Which adapter a row of the batch uses is an argument of the model's call,
handed down to every projection: the frozen matrix runs once for all rows, the small ones as one batched
product over groups of rows. Plain LoRA is K = 1.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Rows(NamedTuple):
    """Which adapter each row of a batch uses, as LoRALinear wants it: rows that use one, in n equal groups of
    neighbours that share it."""
    n: int
    which: torch.Tensor | None      # (n,) int64, the adapter of each group; None: the whole bank, in order
    used: torch.Tensor | None       # int64, the rows that use an adapter; None: all of them


def arrange(adapters, B, K, device=None):
    """Rows for a batch of B rows on a bank of K adapters, or None if all of them use the base.

    adapters: B ints (a tensor, best on the CPU, or a list), -1 for the base. None stands for adapter 0 of a
    bank of one, and for the base where there is no bank; with more adapters it is an error, as every guess
    would be. Rows stay as they are: what is called again and again for the same rows is arranged once.
    """
    if isinstance(adapters, Rows):
        return adapters
    if adapters is None:
        if K > 1:
            raise ValueError(f"the model carries {K} adapters: say which one each row uses (adapters=...)")
        return Rows(1, None, None) if K else None
    adapters = torch.as_tensor(adapters).tolist()
    if len(adapters) != B:
        raise ValueError(f"{B} rows, but adapters for {len(adapters)}")
    if any(not -1 <= k < K for k in adapters):
        known = f"it carries 0 to {K - 1}" if K else "it carries none"
        raise ValueError(f"adapter {next(k for k in adapters if not -1 <= k < K)} is not on the model "
                         f"({known}; -1 is the base)")
    used = [row for row, k in enumerate(adapters) if k >= 0]
    if not used:
        return None
    which = [adapters[row] for row in used]
    firsts = [i for i, k in enumerate(which) if i == 0 or which[i - 1] != k]        # where a run begins
    size = len(which) // len(firsts)
    if firsts == list(range(0, len(which), size)):      # runs of one length: a group each
        which = [which[i] for i in firsts]              # else every row is its own group
    n, whole = len(which), which == list(range(K))      # the whole bank: nothing to gather
    return Rows(n, None if whole else torch.tensor(which, device=device),
                None if len(used) == B else torch.tensor(used, device=device))


class Linear(nn.Linear):
    """A projection without adapters. It is told which rows use which, as LoRALinear is, and has no use
    for it."""

    def forward(self, x, rows=None):
        return F.linear(x, self.weight, self.bias)


class AddLowRank(torch.autograd.Function):
    """y (N, out) += scale * B (A x) of n groups of N / n rows, in place: x (..., in) of N rows, A (n, r, in),
    B (n, out, r), scale a number or (n, N/n, 1). One node of the graph, so that the scale meets the narrow
    product (n, N/n, r), forward and backward, and nothing as wide as y is written but y itself.

    On a bf16 base fp32 factors are rounded to bf16, for half of the bytes: what a model gives, and its
    gradients, are as far from fp64 as with PEFT, which multiplies in fp32, up to 3% (docs/performance.md).
    Where fewer rows than r read a factor, rounding it would move more than it saves: fp32.
    """

    @staticmethod
    def forward(ctx, y, x, A, B, scale):
        ctx.shape, ctx.scale = x.shape, scale
        x = x.reshape(len(A), -1, x.shape[-1])
        x = x.to(A.dtype) if x.shape[1] < A.shape[1] else x
        h = torch.bmm(x, A.to(x.dtype).mT).mul_(scale)              # (n, N/n, r)
        wide = y.view(len(A), -1, y.shape[-1])                      # (n, N/n, out)
        if h.dtype == y.dtype:
            torch.baddbmm(wide, h, B.to(h.dtype).mT, out=wide)      # a form that torch's flop counter knows
        else:
            wide += torch.bmm(h, B.mT)
        ctx.mark_dirty(y)
        ctx.save_for_backward(x, A, B, h)
        return y

    @staticmethod
    def backward(ctx, g):
        x, A, B, h = ctx.saved_tensors
        wide = g.reshape(len(A), -1, g.shape[-1]).to(h.dtype)       # (n, N/n, out)
        dh = torch.bmm(wide, B.to(h.dtype)).mul_(ctx.scale)         # (n, N/n, r)
        dx = torch.bmm(dh, A.to(h.dtype)).view(ctx.shape).to(g.dtype) if ctx.needs_input_grad[1] else None
        # transposed as autograd of the plain expression would have it: bit for bit the same in fp32
        dA, dB = torch.bmm(x.mT, dh).mT, torch.bmm(h.mT, wide).mT
        return g, dx, dA.to(A.dtype), dB.to(B.dtype), None


class LoRALinear(nn.Linear):
    """A Linear with a bank of adapters. Made by `add_lora`, which gives it the weight
    of the Linear that it replaces."""

    def __init__(self, linear, adapters, rank, scale):
        nn.Module.__init__(self)            # not Linear's: it would allocate a second weight
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        device, dtype = linear.weight.device, torch.promote_types(linear.weight.dtype, torch.float32)
        # fp32 even on a bf16 base: at small rates most bf16 weights would not move at all
        self.lora_A = nn.Parameter(torch.empty(adapters, rank, self.in_features, device=device, dtype=dtype))
        self.lora_B = nn.Parameter(torch.zeros(adapters, self.out_features, rank, device=device, dtype=dtype))
        self.scale = scale
        self.gate = None                    # `gated` sets it

    def forward(self, x, rows):
        """x (B, T, in) -> (B, T, out); rows as `arrange` gives them, None for the base."""
        # flat: what F.linear makes of (B, T, in) and a bias is a view, and to change a view in place costs
        # backward two copies
        y = F.linear(x.flatten(0, 1), self.weight, self.bias)       # (B T, out)
        if rows is None:
            return y.view(*x.shape[:2], -1)
        A, B = self.lora_A, self.lora_B                             # (K, r, in), (K, out, r)
        if rows.which is not None:
            A, B = A[rows.which], B[rows.which]                     # (n, r, in), (n, out, r)
        scale = self.scale
        if self.gate is not None:
            gate = self.gate.to(A).expand(x.shape[:2])              # (B, T)
            gate = gate if rows.used is None else gate[rows.used]
            scale = scale * gate.reshape(rows.n, -1, 1)             # (n, rows/n * T, 1)
        if rows.used is None:
            return AddLowRank.apply(y, x, A, B, scale).view(*x.shape[:2], -1)
        y = y.view(*x.shape[:2], -1)                                # (B, T, out)
        before, mine = y[rows.used], x[rows.used]
        after = AddLowRank.apply(before.flatten(0, 1), mine, A, B, scale)
        return y.index_copy(0, rows.used, after.view_as(before))


def adapted(model):
    """{name: LoRALinear} in the order of the model."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def block_of(name):
    """The number of the block that a module belongs to: "model.layers.3.mlp.up_proj" -> 3."""
    return int(name.split(".")[2])


def adapter_shape(model):
    """What an adapter on the model costs: (rank, the projections and the numbers of the blocks that carry
    it); None without adapters."""
    modules = adapted(model)
    if not modules:
        return None
    return (next(iter(modules.values())).lora_A.shape[1],
            sorted({name.rpartition(".")[2] for name in modules}), sorted({block_of(n) for n in modules}))


def check_adapter(targets, rank):
    if set(targets) - set(PROJECTIONS) or not targets or len(set(targets)) < len(targets) \
            or not 1 <= rank <= 10 ** 5:
        raise ValueError(f"targets {sorted(targets)}, rank {rank}: targets come from "
                         f"{', '.join(PROJECTIONS)}, once each; rank from 1 to 100,000")


def add_lora(model, targets=PROJECTIONS, rank=16, alpha=32, seeds=(0,), layers=None):
    """Freeze `model` and put a bank of len(seeds) adapters on every Linear whose last name is in `targets`,
    in the blocks whose numbers are in `layers` (None: in all).

    A is drawn as PEFT draws it, uniform in +-1/sqrt(in) (kaiming with a = sqrt(5)), from the adapter's
    own seed, so adapter k of a bank starts as the single adapter of that seed does. B is zero: the
    model starts as the base.
    """
    targets = list(targets)
    check_adapter(targets, rank)
    if adapted(model):
        raise ValueError("the model carries adapters already; remove_lora(model) first")
    blocks = range(model.config.num_hidden_layers)
    layers = blocks if layers is None else layers
    if not layers or set(layers) - set(blocks):
        raise ValueError(f"layers {list(layers)}: the model has the blocks 0 to {len(blocks) - 1}")
    model.requires_grad_(False)
    for name, linear in [(n, m) for n, m in model.named_modules()
                         if n.rpartition(".")[2] in targets and block_of(n) in layers]:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, LoRALinear(linear, len(seeds), rank, alpha / rank))
    model.model.bank = len(seeds)
    for k, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for module in adapted(model).values():
            A = torch.rand(module.lora_A.shape[1:], generator=generator, dtype=torch.float64) * 2 - 1
            module.lora_A.data[k] = (A * module.in_features ** -0.5).to(module.lora_A.dtype)
    return model


def remove_lora(model):
    """Take every adapter off; the base weights were never touched. They stay frozen."""
    for name, module in adapted(model).items():
        parent, _, child = name.rpartition(".")
        linear = Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
        linear.weight, linear.bias = module.weight, module.bias
        setattr(model.get_submodule(parent), child, linear)
    model.model.bank = 0
    return model


def switches(model):
    """{name: module} of what carries a part of an adapter: adapted projections, and model/dense.py's."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "gate")}


@contextmanager
def gated(model, gates):
    """Within the block the adapters' part of a module's output is multiplied token by token: gates = {module
    name: tensor that broadcasts to (B, T)}. All ones is the adapter bit for bit, all zeros the base; a module
    that is not named keeps its adapter. A cached key or value keeps the gate under which it was written."""
    modules = switches(model)
    for name in gates:
        if name not in modules:
            raise ValueError(f"no adapter on {name}; they are on {', '.join(list(modules)[:4])}, ...")
    before = {name: modules[name].gate for name in gates}
    try:
        for name, gate in gates.items():
            modules[name].gate = torch.as_tensor(gate, device=modules[name].weight.device)
        yield model
    finally:
        for name, gate in before.items():
            modules[name].gate = gate


def lora_tensors(model, k=0):
    """Adapter k as PEFT names it:
    {"...q_proj.lora_A.weight": (r, in), "...q_proj.lora_B.weight": (out, r)}."""
    return {f"{name}.lora_{side}.weight": getattr(module, f"lora_{side}")[k].detach()
            for name, module in adapted(model).items() for side in "AB"}
