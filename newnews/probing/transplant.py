"""What of an update is enough? Log-odds when parts of it are kept, removed, scaled, cut or replaced.

    keep, remove    a layer, attention or MLP, one kind of module (of a full update norms and embeddings too)
    scale           a dW with a in [-1, 2]: 0 the base, 1 the update, -1 the negation (task arithmetic,
                    2212.04089)
    rank            every module cut to its first r singular directions
    mean            the adapter's effect in each module replaced by its mean over the tokens of some texts: is
                    the update a steering vector (2507.08218)? mean_share = |E d|^2 / E |d|^2 of an effect d
    sum             the update plus another one
    null            a random twin, and other adapters
"""

import torch

from model.capture import edit, hooked
from model.lora import adapted, gated, switches
from newnews.probing.asked import measure
from newnews.probing.gate import PARTS, gates, layer_groups, with_share
from newnews.probing.updates import Update, svd

SCALES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


def cut(updates, rank):
    """Every module's best approximation of that rank."""
    return {name: Update(U[:, :rank] * S[:rank], Vh[:rank])
            for name, (U, S, Vh) in ((name, svd(update)) for name, update in updates.items())}


@torch.inference_mode()
def mean_effects(model, ids, where, adapter=0):
    """{module: (mean effect (out,), mean share in [0, 1])} of an adapter on the tokens `where` (B, T) bool of
    ids (B, T), each effect scale B A x (and what a full update adds beside it) at the input x that it has in
    the tuned run; without modules on which it has none. Share 1: a constant vector, about 1 / tokens: no
    common direction."""
    found, low = {}, adapted(model)

    def keep(name):
        def hook(module, args, output):
            x, d = args[0] if name == "lm_head" else args[0][where], 0      # (N, in)
            if hasattr(model, "rest"):
                d = torch.as_tensor(model.rest.effect(name, x, adapter)).cpu().double()
            if name in low:         # on the CPU: some devices have no fp64
                A, B = (factor[adapter].cpu().double() for factor in (module.lora_A, module.lora_B))
                d = d + module.scale * (x.cpu().double() @ A.T) @ B.T       # (N, out)
            mean, power = d.mean(0), float(d.square().sum(1).mean())
            if power:
                found[name] = mean, float(mean.square().sum()) / power
        return hook

    rest = [name for name in switches(model) if name not in low and adapter in model.rest.parts[name]]
    with hooked(model, {name: keep(name) for name in (*low, *rest)}):
        model(ids, keep=where, adapters=[adapter] * len(ids))
    return found


def as_mean(model, means):
    """A context manager in which every adapted module gives its base output plus a constant vector, at every
    token. The model must be asked with adapter -1."""
    def plus(vector):
        return lambda output: output + vector.to(output)
    return edit(model, {name: plus(mean) for name, (mean, _) in means.items()})


def transplants(model, batch, adapter=0):
    """Rows {"how", "what", "log_odds", "accuracy", "gain", "share"}: keep and remove, scale, mean, which has
    "mean_share" too."""
    base, tuned = measure(model, batch, -1), measure(model, batch, adapter)
    everywhere, L = torch.ones_like(batch.answer), model.config.num_hidden_layers
    rows = [{"how": "base", "what": "", **base}, {"how": "tuned", "what": "", **tuned}]
    sets = [(f"layer {label}", layers, "all") for label, layers in layer_groups(L).items() if label != "all"]
    found = dict.fromkeys(name.rpartition(".")[2] for name in switches(model))
    sets += [(part, range(L), part) for part in (*list(PARTS)[:2], *found)]
    for what, layers, part in sets:
        for how in ("keep", "remove"):
            with gated(model, gates(model, everywhere, layers, part, how == "remove")):
                rows.append({"how": how, "what": what, **measure(model, batch, adapter)})
    for a in SCALES:
        with gated(model, {name: torch.full((1, 1), a) for name in switches(model)}):
            rows.append({"how": "scale", "what": a, **measure(model, batch, adapter)})
    rows.append({"how": "mean", "what": "all modules", **averaged(model, batch, adapter)})
    return with_share(rows, base, tuned)


def averaged(model, batch, adapter=0):
    """{"log_odds", "accuracy", "mean_share"} with the adapter's effects replaced by their means over prompts
    and answers; mean_share is the mean over modules."""
    means = mean_effects(model, batch.ids, batch.real, adapter)
    with as_mean(model, means):
        return {**measure(model, batch, -1),
                "mean_share": sum(share for _, share in means.values()) / max(1, len(means))}
