"""How large is an update, in how many directions, and are they new ones? Per module and layer.

Frobenius norm ||dW||, also relative to ||W0||; spectral norm; stable rank ||dW||^2 / s_1^2; effective rank
exp(H(s / sum s)) (Roy and Vetterli 2007); and intruder dimensions (Shuttleworth et al., 2410.21228): those of
the first k left singular vectors of W0 + dW that no singular vector of W0 comes near, best |cosine| <
epsilon. The count alone misleads (one weak intruder counts like a strong one), so their energy is given
beside it: the share sum of s_i^2 over the intruders / ||W0 + dW||^2.
"""

import torch

from newnews.probing.updates import layer_of, module_of, parameter, projections, random_twin, svd

TOP, EPSILON = 10, 0.5


def spectrum(S):
    """{"norm", "spectral", "stable_rank", "effective_rank"} of singular values S (r,), floats; an update of
    zeros has ranks 0."""
    norm, top = float(S.norm()), float(S.max())
    if not top:
        return {"norm": 0.0, "spectral": 0.0, "stable_rank": 0.0, "effective_rank": 0.0}
    return {"norm": norm, "spectral": top, "stable_rank": (norm / top) ** 2,
            "effective_rank": float(torch.special.entr(S / S.sum()).sum().exp())}


def intruders(W0, U0, update):
    """{"intruders": count among the first TOP, "intruder_energy": their share of ||W0 + dW||^2}. W0 (out, in)
    fp64 and U0, its left singular vectors; takes one dense SVD."""
    U, S, _ = torch.linalg.svd(W0 + update.B @ update.A, full_matrices=False)
    new = (U0.T @ U[:, :TOP]).abs().max(0).values < EPSILON                 # (TOP,)
    return {"intruders": int(new.sum()),
            "intruder_energy": float(S[:TOP][new].square().sum() / S.square().sum())}


def rows(updates, state=None, floors=None):
    """Yield a row a module: {"layer", "module", the numbers above, "relative", "s1".."s8"}. state: the base's
    weights, a state dict, adds the relative norm, and of projections the intruders, those of the rank-matched
    random twin beside them as null_intruders and null_intruder_energy; floors as `difference` gives them the
    noise floor of bf16."""
    twins = random_twin(updates)
    for name, update in updates.items():
        S = svd(update)[1]
        row = {"layer": layer_of(name), "module": module_of(name), **spectrum(S)}
        if floors is not None:
            row["noise_norm"], row["noise_spectral"] = floors[name]
        if state is not None:
            W0 = state[parameter(name)].cpu().double()
            row["relative"] = row["norm"] / float(W0.norm()) if W0.any() else None
        if state is not None and projections([name]):
            U0 = torch.linalg.svd(W0, full_matrices=False)[0]
            for prefix, dW in (("", update), ("null_", twins[name])):
                row |= {prefix + key: x for key, x in intruders(W0, U0, dW).items()}
        yield row | {f"s{i + 1}": float(s) for i, s in enumerate(S[:8])}
