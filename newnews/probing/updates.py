"""A weight update as factors, whatever it came from: {module name: Update}, dW = B A.

    read_updates(model, folders)    LoRA adapters on disk
    difference(tuned, base)         two sets of full weights
    random_twin(update)             the null of every claim: the same singular values, random directions
    mean_of(updates)                what a group has in common
    mount(model, updates)           back on a model, side by side: update k is adapter k of its bank
"""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch

from model.checkpoint import load_adapter
from model.lora import PROJECTIONS, adapted, add_lora, remove_lora

NULL = "null: random twin"      # its label


class Update(NamedTuple):
    """dW = B A of one weight, fp64 on the CPU; the adapter's scale is in B."""
    B: torch.Tensor     # (out, r)
    A: torch.Tensor     # (r, in)


def updates_of(model, k=0):
    """Adapter k of a model as {module name: Update}; the names are those of the weights, without
    ".weight"."""
    found = {}
    for name, module in adapted(model).items():
        B, A = (factor[k].detach().cpu().double() for factor in (module.lora_B, module.lora_A))
        found[name] = Update(module.scale * B, A)
    return found


def read_updates(model, folders):
    """{folder: {module name: Update}} of PEFT adapters for `model`, which carries none before and after."""
    found = {}
    for folder in folders:
        load_adapter(folder, model)
        found[str(folder)] = updates_of(model)
        remove_lora(model)
    return found


def svd(update):
    """(U (out, r), S (r,), Vh (r, in)) of dW = B A, dW never formed: QR of both thin factors, then an r x r
    SVD. Exact, O((out + in) r^2): seconds for a 7B model on a CPU."""
    Q, R = torch.linalg.qr(update.B)
    P, T = torch.linalg.qr(update.A.T)
    U, S, Vh = torch.linalg.svd(R @ T.T)
    rank = min(R.shape[0], T.shape[0])
    return Q @ U[:, :rank], S[:rank], Vh[:rank] @ P.T


def difference(tuned, base):
    """({name: Update}, {name: (Frobenius floor, singular floor)}) of two state dicts.

    Every matrix of a block whose weights differ, as the factors of its SVD. The floor is what rounding alone
    would give where both were saved in bf16, else 0: errors uniform in one unit in the last place u of each
    weight, so sqrt(sum u^2 / 12), and as a random matrix's largest singular value
    rms(u) / sqrt(12) * (sqrt(out) + sqrt(in)). A spectrum below it says nothing.
    """
    updates, floors = {}, {}
    for key, weight in base.items():
        name, _, last = key.rpartition(".")
        if last != "weight" or name.rpartition(".")[2] not in PROJECTIONS:
            continue
        if key not in tuned or tuned[key].shape != weight.shape:
            found = list(tuned[key].shape) if key in tuned else "nothing"
            raise ValueError(f"{key}: the base has {list(weight.shape)}, the tuned model {found}: "
                             f"not two states of one model")
        U, S, Vh = torch.linalg.svd(tuned[key].double() - weight.double(), full_matrices=False)
        updates[name], floors[name] = Update(U * S, Vh), (0.0, 0.0)
        if tuned[key].dtype == weight.dtype == torch.bfloat16:
            # 8 significant bits, so one unit in the last place is 2^-7 of the leading one
            unit = torch.exp2(weight.double().abs().clamp_min(1e-30).log2().floor() - 7)
            rms = float(unit.pow(2).mean().sqrt()) / 12 ** 0.5
            out, width = weight.shape
            floors[name] = (rms * (out * width) ** 0.5, rms * (out ** 0.5 + width ** 0.5))
    return updates, floors


def random_twin(updates, seed=0, keep_rows=False):
    """The rank-matched null: every module keeps its singular values; its directions are drawn anew, uniform
    among the orthonormal frames. keep_rows: the row space stays, only the columns are drawn: two adapters
    whose A began with the same seed still share most of it, whatever they learnt."""
    generator, twins = torch.Generator().manual_seed(seed), {}
    for name, update in updates.items():
        _, S, Vh = svd(update)
        U, V = (torch.linalg.qr(torch.randn(size, len(S), generator=generator, dtype=torch.float64))[0]
                for size in (update.B.shape[0], update.A.shape[1]))
        twins[name] = Update(U * S, Vh if keep_rows else V.T)
    return twins


def mean_of(group):
    """The mean of several updates as factors: their ranks add up."""
    names = dict.fromkeys(name for updates in group for name in updates)
    parts = {name: [updates[name] for updates in group if name in updates] for name in names}
    return {name: Update(torch.cat([p.B for p in some], 1) / len(group), torch.cat([p.A for p in some]))
            for name, some in parts.items()}


def mount(model, group):
    """Put updates side by side on a model without adapters: group[k] becomes adapter k. Lower ranks are
    filled up with zeros, which add exactly nothing; so is a module that an update does not have."""
    names = dict.fromkeys(name for updates in group for name in updates)
    rank = max(update.A.shape[0] for updates in group for update in updates.values())
    add_lora(model, {name.rpartition(".")[2] for name in names}, rank, rank, range(len(group)))
    modules = adapted(model)
    check_shapes(modules, group)
    for name, module in modules.items():
        module.lora_A.data.zero_()
        for k, updates in enumerate(group):
            if name in updates:
                B, A = updates[name]
                module.lora_B.data[k, :, :B.shape[1]] = B.to(module.lora_B)
                module.lora_A.data[k, :A.shape[0]] = A.to(module.lora_A)
    return model.requires_grad_(False)


def check_shapes(modules, group):
    for updates in group:
        for name, (B, A) in updates.items():
            if name not in modules:
                raise ValueError(f"the update changes {name}, which the model does not have")
            want = (modules[name].out_features, modules[name].in_features)
            if (B.shape[0], A.shape[1]) != want:
                raise ValueError(f"{name}: the update is {B.shape[0]} x {A.shape[1]}, the weight "
                                 f"{want[0]} x {want[1]}: an adapter for another model?")


def layer_of(name):
    """The number of the block in a module's name, or None."""
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return numbers[0] if numbers else None


def choose(names, patterns):
    """The names that fit one of the patterns, each a shell pattern for the whole name ("*.mlp.*"), one of its
    parts ("q_proj", "mlp") or the number of a layer. ValueError with the nearest names where one fits
    nothing."""
    chosen = []
    for pattern in patterns:
        fits = [name for name in names if fnmatchcase(name, pattern) or pattern in name.split(".")]
        if not fits:
            parts = dict.fromkeys(part for name in names for part in name.split("."))
            near = get_close_matches(pattern, [p for p in parts if pattern.isdigit() == p.isdigit()], 4, 0)
            raise ValueError(f"{pattern!r} matches none of the {len(list(names))} modules of the update; "
                             f"the nearest names are {', '.join(near) or 'none'}")
        chosen += fits
    return [name for name in names if name in chosen]
