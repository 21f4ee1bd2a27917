"""What full tuning changes besides the projections' weights: biases, norms, embedding and head, as a bank.

Every module of the model is linear in its parameters, f(x; w + dw) = f(x; w) + f(x; dw). So a change dw acts
as an adapter does (model/lora.py): beside the base, in the rows that use it, at the tokens that `gated` lets
through. With adapters of full rank on the projections this is a fully tuned model that can be switched on and
off like an adapter, exactly.
"""

from copy import copy
from functools import partial

import torch
from torch import nn


class Rest:
    """bank[k] = {parameter name: change} becomes a part of adapter k of the bank on the model, until `remove`
    (behind remove_lora).

    A change of a tied embedding is one of the head too. The head, and a norm that is called by itself, act as
    in the model's last call.
    """

    def __init__(self, model, bank):
        self.model, self.parts = model, {}          # {module name: {k: [x -> what a change adds]}}
        self.uses = self.keep = None                # of the last call: (B,) each row's adapter; (B, T) bool
        for k, changes in enumerate(bank):
            if model.config.tie_word_embeddings and "model.embed_tokens.weight" in changes:
                changes = {"lm_head.weight": changes["model.embed_tokens.weight"], **changes}
            for name, change in changes.items():
                owner, _, last = name.rpartition(".")
                part = part_of(model.get_submodule(owner), last, change)
                self.parts.setdefault(owner, {}).setdefault(k, []).append(part)
        self.handles = [model.register_forward_pre_hook(self.note_keep, with_kwargs=True),
                        model.register_forward_hook(self.forget_keep),
                        model.model.register_forward_pre_hook(self.note_uses, with_kwargs=True)]
        for name, parts in self.parts.items():
            module = model.get_submodule(name)
            module.gate = getattr(module, "gate", None)         # `gated` sets it; a projection has it already
            self.handles.append(module.register_forward_hook(partial(self.add, parts)))
        model.rest = self

    def remove(self):
        for handle in self.handles:
            handle.remove()
        for name in self.parts:
            vars(self.model.get_submodule(name)).pop("gate", None)
        del self.model.rest

    def note_keep(self, model, args, kwargs):
        self.keep = kwargs.get("keep", args[2] if len(args) > 2 else None)

    def forget_keep(self, model, args, output):
        self.keep = None

    def note_uses(self, decoder, args, kwargs):
        uses = kwargs.get("adapters", args[2] if len(args) > 2 else None)
        self.uses = torch.as_tensor([0] * len(args[0]) if uses is None else uses, device=args[0].device)

    def effect(self, name, x, k):
        """What adapter k adds to the output of a module at the input x; 0 where it changes nothing."""
        return sum(part(x) for part in self.parts.get(name, {}).get(k, ()))

    def add(self, parts, module, args, output):
        for k, some in parts.items():
            mine = self.uses == k                                           # (B,)
            if not mine.any():
                continue
            on = 1.0
            if module.gate is not None or not mine.all():
                on = mine[:, None] * (1.0 if module.gate is None else module.gate)      # (B, T), or T = 1
                if output.dim() == 2:       # (N, V) of the head, behind keep
                    if self.keep is None:
                        raise ValueError("the head was called by itself, though rows or tokens differ in "
                                         "their adapters: call the model with keep=...")
                    on = on.expand(self.keep.shape)[self.keep]
                on = on[..., None]
            output = (output + on * sum(part(args[0]) for part in some)).to(output.dtype)
        return output


def part_of(module, last, change):
    """x -> f(x; dw): what a change of the parameter `last` of a module adds to its output."""
    change = change.to(module.weight)
    if last == "bias":
        return lambda x: change
    twin = copy(module)             # shallow: the same module, with the change for a weight
    twin._parameters = {**module._parameters, last: nn.Parameter(change, requires_grad=False)}
    return twin.forward             # not twin itself, which would run the hooks
