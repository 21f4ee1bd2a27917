"""How large is an update, in how many directions, and are they new ones? Per module and layer.

Frobenius norm ||dW||, also relative to ||W0||; spectral norm; stable rank ||dW||^2 / s_1^2; effective rank
exp(H(s / sum s)) (Roy and Vetterli 2007); and intruder dimensions (Shuttleworth et al., 2410.21228): those of
the first k left singular vectors of W0 + dW that no singular vector of W0 comes near, best |cosine| <
epsilon. The count alone misleads (one weak intruder counts like a strong one), so their energy is given
beside it: the share sum of s_i^2 over the intruders / ||W0 + dW||^2.
"""

import torch

from newnews.probing.updates import layer_of, module_of, projections, random_twin, svd

TOP, EPSILON = 10, 0.5


def spectrum(S):
    """{"norm", "spectral", "stable_rank", "effective_rank"} of singular values S (r,), floats; an update of
    zeros has ranks 0."""
    norm, top = float(S.norm()), float(S.max())
    if not top:
        return {"norm": 0.0, "spectral": 0.0, "stable_rank": 0.0, "effective_rank": 0.0}
    p = S / S.sum()
    entropy = -float((p * p.clamp_min(1e-300).log()).sum())
    return {"norm": norm, "spectral": top, "stable_rank": (norm / top) ** 2,
            "effective_rank": torch.tensor(entropy).exp().item()}


def intruders(W0, update, U0=None, top=TOP, epsilon=EPSILON):
    """{"intruders": count among the first `top`, "intruder_energy": their share of ||W0 + dW||^2, "nearest"
    (top,): best |cosine| of each with W0's left singular vectors}. W0 (out, in) and U0, its left singular
    vectors if they are known; takes one dense SVD, two without U0."""
    W0 = W0.cpu().double()
    U0 = torch.linalg.svd(W0, full_matrices=False)[0] if U0 is None else U0
    U, S, _ = torch.linalg.svd(W0 + update.B @ update.A, full_matrices=False)
    nearest = (U0.T @ U[:, :top]).abs().max(0).values                       # (top,)
    new = nearest < epsilon
    energy = float(S[:top][new].pow(2).sum() / S.pow(2).sum())
    return {"intruders": int(new.sum()), "intruder_energy": energy, "nearest": nearest}


def rows(updates, weights=None, floors=None, done=None):
    """A row a module: {"layer", "module", the numbers above, "relative", "s1".."s8"}, and the same of its
    rank-matched random twin under null_*. weights {name: W0} adds the relative norm, and of projections the
    intruders; floors as `difference` gives them the noise floor of bf16. done(): called after each module."""
    twins, out = random_twin(updates), []
    for name in updates:
        S = svd(updates[name])[1]
        row = {"layer": layer_of(name), "module": module_of(name), **spectrum(S)}
        if floors is not None:
            row["noise_norm"], row["noise_spectral"] = floors[name]
        if weights is not None:
            W0 = weights[name].cpu().double()
            row["relative"] = row["norm"] / float(W0.norm()) if W0.any() else None
        if weights is not None and projections([name]):
            U0 = torch.linalg.svd(W0, full_matrices=False)[0]
            for prefix, update in (("", updates[name]), ("null_", twins[name])):
                found = intruders(W0, update, U0)
                row |= {f"{prefix}intruders": found["intruders"],
                        f"{prefix}intruder_energy": found["intruder_energy"]}
        row |= {f"s{i + 1}": float(s) for i, s in enumerate(S[:8])}
        out.append(row)
        if done is not None:
            done()
    return out
