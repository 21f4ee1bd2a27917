"""Low-rank adapters (Hu et al., 2106.09685), one or a bank of K side by side on one frozen base.

An adapted Linear computes  W x + b + scale * B (A x)  with A (r, in), B (out, r), scale = alpha / r, and
keeps its weight under the same name, so the base checkpoint still loads by the same keys. In a bank A is
(K, r, in) and B is (K, out, r). The rows of a batch then come in K equal groups, group k for adapter k: the
frozen matrix runs once for all rows, the small ones as one batched product. Plain LoRA is K = 1.
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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
        self.active = None      # None: row groups; an int k: adapter k for every row; False: the base model

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)                     # (B, T, out)
        if self.active is False:
            return y
        A, B = self.lora_A, self.lora_B
        if self.active is not None:
            A, B = A[self.active:self.active + 1], B[self.active:self.active + 1]
        K = A.shape[0]
        if x.shape[0] % K:
            raise ValueError(f"{x.shape[0]} rows cannot form {K} equal groups, one for each adapter")
        h = x.reshape(K, -1, x.shape[-1]).to(A.dtype)               # (K, B/K * T, in)
        h = (h @ A.transpose(1, 2)) @ B.transpose(1, 2)             # (K, B/K * T, out)
        return (y + (self.scale * h).view_as(y)).to(y.dtype)    # summed in fp32, rounded once, as PEFT does

    def delta(self, k=0):
        """The update dW = scale * B A of adapter k, (out, in)."""
        return self.scale * self.lora_B[k] @ self.lora_A[k]


def adapted(model):
    """{name: LoRALinear} in the order of the model."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def add_lora(model, targets=PROJECTIONS, rank=16, alpha=32, seeds=(0,)):
    """Freeze `model` and put a bank of len(seeds) adapters on every Linear whose last name is in `targets`.

    A is drawn as PEFT draws it, uniform in +-1/sqrt(in) (kaiming with a = sqrt(5)), from the adapter's
    own seed, so adapter k of a bank starts as the single adapter of that seed does. B is zero: the
    model starts as the base.
    """
    unknown = set(targets) - set(PROJECTIONS)
    if unknown or not targets or rank < 1:
        raise ValueError(f"targets {sorted(targets)}, rank {rank}: "
                         f"targets come from {', '.join(PROJECTIONS)}, rank >= 1")
    if adapted(model):
        raise ValueError("the model carries adapters already; remove_lora(model) first")
    model.requires_grad_(False)
    for name, linear in [(n, m) for n, m in model.named_modules() if n.rpartition(".")[2] in targets]:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, LoRALinear(linear, len(seeds), rank, alpha / rank))
    for k, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for module in adapted(model).values():
            A = torch.rand(module.lora_A.shape[1:], generator=generator, dtype=torch.float64) * 2 - 1
            module.lora_A.data[k] = (A * module.in_features ** -0.5).to(module.lora_A)
    return model


def remove_lora(model):
    """Take every adapter off; the base weights were never touched. They stay frozen."""
    for name, module in adapted(model).items():
        parent, _, child = name.rpartition(".")
        linear = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None,
                           device="meta")
        linear.weight, linear.bias = module.weight, module.bias
        setattr(model.get_submodule(parent), child, linear)
    return model


@contextmanager
def only(model, k):
    """Within the block every row uses adapter k; with k = False none does,
    and the model is the base, exactly."""
    modules = list(adapted(model).values())
    if k is not False and modules and not 0 <= k < len(modules[0].lora_A):
        raise ValueError(f"adapter {k}: the bank holds adapters 0 to {len(modules[0].lora_A) - 1}")
    before = [m.active for m in modules]
    for m in modules:
        m.active = k
    try:
        yield model
    finally:
        for m, active in zip(modules, before):
            m.active = active


def lora_tensors(model, k=0):
    """Adapter k as PEFT names it:
    {"...q_proj.lora_A.weight": (r, in), "...q_proj.lora_B.weight": (out, r)}."""
    return {f"{name}.lora_{side}.weight": getattr(module, f"lora_{side}")[k].detach()
            for name, module in adapted(model).items() for side in "AB"}


def merged_tensors(model, k=0):
    """The model's state dict with adapter k added into the weights: fp32 sum, rounded once.
    Changes nothing in place."""
    modules = adapted(model)
    merged = {}
    for name, tensor in model.state_dict().items():
        owner, _, last = name.rpartition(".")
        if owner in modules and last == "weight":
            delta = modules[owner].delta(k)
            tensor = (tensor.to(delta.dtype) + delta).to(tensor.dtype)
        if last not in ("lora_A", "lora_B"):
            merged[name] = tensor.detach()
    return merged
