"""Where and when does an update act? The adapter switched on at chosen positions, layers, modules only.

Dynamic weight grafting (arXiv 2506.20746) for adapters: at token t, in module m, the adapter's output is
multiplied by a gate of 0 or 1 (model/lora.py: gated); keys and values that a gated-off token wrote are the
base's, those of a gated-on token the tuned model's. It asks which mechanism acts where, and overwrites
nothing that flowed in. Every set is measured alone ("only": is it enough?) and by its complement ("without":
is it needed?), in log-odds of the right option; share = (x - base) / (tuned - base).
"""

import torch

from model.lora import PROJECTIONS, gated, switches
from newnews.probing.asked import measure
from newnews.probing.updates import layer_of

# A norm goes with what reads it. The embedding, the last norm and the head of a full update are in "all"
# only, and in no layer but all of them.
PARTS = {"attention": (*PROJECTIONS[:4], "input_layernorm"),
         "mlp": (*PROJECTIONS[4:], "post_attention_layernorm"), "all": None}
LEAST = 0.5     # nats. On data/pocket a random twin moves the mean log-odds of ten questions by 0.2


def layer_groups(L):
    """{label: layers}: each layer, or quarters of a model of more than 8 layers; and all."""
    if L <= 8:
        groups = {str(layer): [layer] for layer in range(L)}
    else:
        cuts = [L * i // 4 for i in range(5)]
        groups = {f"{a}-{b - 1}": list(range(a, b)) for a, b in zip(cuts, cuts[1:])}
    return {**groups, "all": list(range(L))}


def gates(model, positions, layers, part="all", complement=False):
    """{module name: gate (R, T)} that lets the adapter act at `positions` (bool) in the modules of `part`
    (of PARTS, or a module's last name) in these layers, and nowhere else; complement: everywhere else and not
    there."""
    found, L = {}, model.config.num_hidden_layers
    for name in switches(model):
        inside = layer_of(name) in layers or layer_of(name) is None and len(layers) == L
        inside &= part == "all" or name.rpartition(".")[2] in PARTS.get(part, (part,))
        mask = positions if inside else torch.zeros_like(positions)
        found[name] = (~mask if complement else mask).float()
    return found


def gate_map(model, batch, adapter=0, parts=tuple(PARTS), groups=None, sites=None):
    """Rows {"positions", "layers", "modules", "how": only or without, "log_odds", "accuracy", "gain",
    "share"} of every site (default: the batch's) and all positions x group of layers x part. The first two
    rows are the base and the whole adapter."""
    groups = layer_groups(model.config.num_hidden_layers) if groups is None else groups
    everywhere = torch.ones_like(batch.answer)
    base, tuned = measure(model, batch, -1), measure(model, batch, adapter)
    whole = {"layers": "all", "modules": "all", "how": "only"}
    rows = [{"positions": "none", **whole, **base}, {"positions": "all", **whole, **tuned}]
    for site, mask in {**(batch.sites if sites is None else sites), "all": everywhere}.items():
        for label, layers in groups.items():
            for part in parts:
                for how in ("only", "without"):
                    if (site, label, part) == ("all", "all", "all"):
                        continue                        # the two rows that stand there already
                    with gated(model, gates(model, mask, layers, part, how == "without")):
                        rows.append({"positions": site, "layers": label, "modules": part, "how": how,
                                     **measure(model, batch, adapter)})
    return with_share(rows, base, tuned)


def with_share(rows, base, tuned):
    """Each row with its gain over the base in nats, and the share of the whole effect that this is."""
    low, high = base["log_odds"], tuned["log_odds"]
    return [{**row, "gain": row["log_odds"] - low, "share": share(row["log_odds"], low, high)}
            for row in rows]


def share(x, low, high):
    """(x - low) / (high - low), or None where the effect, high - low, has less than LEAST nats: the share of
    nothing is any number."""
    return None if abs(high - low) < LEAST else (x - low) / (high - low)
