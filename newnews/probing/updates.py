"""A weight update as factors, whatever it came from: {name: Update}, dW = B A.

    read_update(model, folder)      a LoRA adapter on disk
    difference(tuned, base)         two sets of full weights
    random_twin(update)             the null of every claim: the same singular values, random directions
    sum_of, mean_of(updates)        several in one; what a group has in common
    mount(model, updates)           back on a model, side by side: update k is adapter k of its bank

A name is that of a parameter without ".weight". Full tuning changes more than projections: a norm or a bias
("...q_proj.bias") is an Update of one column, an embedding one of full rank.
"""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch

from model.dense import Rest
from model.lora import PROJECTIONS, adapted, add_lora, remove_lora
from newnews.loading import put_adapter

NULL = "null: random twin"      # its label


class Update(NamedTuple):
    """dW = B A of one weight, fp64 on the CPU; the adapter's scale is in B."""
    B: torch.Tensor     # (out, r)
    A: torch.Tensor     # (r, in)


def updates_of(model):
    """Adapter 0 of a model as {module name: Update}; the names are those of the weights, without
    ".weight"."""
    found = {}
    for name, module in adapted(model).items():
        B, A = (factor[0].detach().cpu().double() for factor in (module.lora_B, module.lora_A))
        found[name] = Update(module.scale * B, A)
    return found


def read_update(model, folder, digest):
    """{module name: Update} of a PEFT adapter for `model`, which carries none before and after. What speaks
    against it goes to stderr; digest: of the model's folder."""
    put_adapter(folder, model, digest)
    found = updates_of(model)
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


def frames(update):
    """(U (out, r), V (in, r)): the first r singular directions, columns and rows, as many as the update has
    (below 1e-5 of the first lies the rounding of merged weights), but at most a quarter of the smaller side:
    spaces that fill more of it overlap whatever they are, as those of full tuning do."""
    U, S, Vh = svd(update)
    rank = min(int((S > 1e-5 * S[0]).sum()), max(1, min(len(U), Vh.shape[1]) // 4))
    return U[:, :rank], Vh[:rank].T


def projections(names):
    """Those of the names that are projections, which LoRA adapters know."""
    return [name for name in names if name.rpartition(".")[2] in PROJECTIONS]


def difference(tuned, base):
    """({name: Update}, {name: (Frobenius floor, singular floor)}) of two state dicts: every projection, and
    whatever else differs.

    Exact, without an SVD: one factor is the difference, the other the identity. The floor is what rounding
    alone would give where both were saved in bf16, else 0: errors uniform in one unit in the last place u of
    each weight, so sqrt(sum u^2 / 12), and as a random matrix's largest singular value
    rms(u) / sqrt(12) * (sqrt(out) + sqrt(in)). A spectrum below it says nothing.
    """
    updates, floors, taken = {}, {}, {}
    for key, weight in base.items():
        name = key.removesuffix(".weight")
        if key not in tuned or tuned[key].shape != weight.shape:
            found = list(tuned[key].shape) if key in tuned else "nothing"
            raise ValueError(f"{key}: the base has {list(weight.shape)}, the tuned model {found}: "
                             f"not two states of one model")
        first, changed = taken.setdefault(weight.data_ptr(), key), not torch.equal(tuned[key], weight)
        tied = first != key and torch.equal(tuned[key], tuned[first])   # the head, with its embedding
        if tied or not changed and not projections([name]):
            continue
        delta = (tuned[key].double() - weight.double()).view(len(weight), -1)
        out, width = delta.shape
        updates[name] = dense(delta) if changed else Update(delta[:, :1], delta[:1])
        floors[name] = 0.0, 0.0
        if tuned[key].dtype == weight.dtype == torch.bfloat16:
            # 8 significant bits, so one unit in the last place is 2^-7 of the leading one
            unit = torch.exp2(weight.double().abs().clamp_min(1e-30).log2().floor() - 7)
            rms = float(unit.pow(2).mean().sqrt()) / 12 ** 0.5
            floors[name] = (rms * (out * width) ** 0.5, rms * (out ** 0.5 + width ** 0.5))
    return updates, floors


def dense(delta):
    """Any matrix (out, in) as an Update, exactly: one of the factors is the identity."""
    out, width = delta.shape
    eye = torch.eye(min(out, width), dtype=delta.dtype)
    return Update(delta, eye) if width < out else Update(eye, delta)


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


def sum_of(group, scale=1.0):
    """The sum of several updates, times `scale`, as factors: their ranks add up, to full rank at most."""
    out = {}
    for name in dict.fromkeys(name for updates in group for name in updates):
        some = [updates[name] for updates in group if name in updates]
        B, A = scale * torch.cat([part.B for part in some], 1), torch.cat([part.A for part in some])
        out[name] = Update(B, A) if len(A) <= min(len(B), A.shape[1]) else dense(B @ A)
    return out


def mean_of(group):
    return sum_of(group, 1 / len(group))


def mount(model, group):
    """Put updates side by side on a model without adapters: group[k] becomes adapter k. Lower ranks are
    filled up with zeros, which add exactly nothing; so is a module that an update does not have."""
    names = dict.fromkeys(name for updates in group for name in updates)
    targets = {name.rpartition(".")[2] for name in projections(names)} or PROJECTIONS
    rank = max([len(updates[name].A) for updates in group for name in projections(updates)], default=1)
    add_lora(model, targets, rank, rank, range(len(group)))
    modules, weights = adapted(model), model.state_dict()
    for module in modules.values():
        module.lora_A.data.zero_()
    rest = [{} for _ in group]
    for k, name, (B, A) in [(k, *pair) for k, updates in enumerate(group) for pair in updates.items()]:
        if name in modules:
            modules[name].lora_B.data[k, :, :B.shape[1]] = B
            modules[name].lora_A.data[k, :A.shape[0]] = A
        else:
            rest[k][parameter(name)] = (B @ A).view_as(weights[parameter(name)])
    if any(rest):
        Rest(model, rest)
    return model.requires_grad_(False)


def unmount(model):
    remove_lora(model)
    if hasattr(model, "rest"):
        model.rest.remove()


def parameter(name):
    return name if name.endswith(".bias") else f"{name}.weight"


def layer_of(name):
    """The number of the block in a module's name, or None."""
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return numbers[0] if numbers else None


def module_of(name):
    """The last part of a module's name, of a bias the last two."""
    return ".".join(name.split(".")[-1 - name.endswith(".bias"):])


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
