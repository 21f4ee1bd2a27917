"""Is tuning a frozen copy of reading? The weight patch that the news in context is worth, against the update.

For one token and one block, reading a context is the same as a change of the MLP's weights (2507.16003; gated
blocks 2511.17864; before a norm 2512.11255). With n0, nC the MLP's inputs without and with the context, r0,
rC the residual stream before the MLP, and hC = silu(W_gate nC) * W_up nC:

    dW_gate = W_gate (nC - n0) n0^T / |n0|^2      dW_up likewise      dW_down = (rC - r0) hC^T / |hC|^2

Each has rank one; put into the block that has not read, they give that token the output of the one that has,
exactly. Only for that token, though: the equality says nothing about shared weights, and published tuning
does not align with reading (2509.22621), so expect small numbers and look at the nulls: another news item in
context, other adapters, a random twin.

And functionally, at the same forced answer tokens (after IA2, 2509.22621): how much are attention outputs of
the tuned model closed book (h_t) like those of the base that reads (h_r), beside the base closed book (h_b)?

    asim        cos(h_t, h_r); of the base itself cos(h_b, h_r), the floor
    moved       cos(h_t - h_b, h_r - h_b): what both have in common anyway is taken out; 0 for a random update
    mean_share  of the adapter's effect, the share that is one vector, whatever the token
                (transplant.mean_effects)
"""

import torch

from newnews.probing.asked import states
from newnews.probing.compare import cosine
from newnews.probing.patch import aligned
from newnews.probing.transplant import mean_effects
from newnews.probing.updates import Update, frames, layer_of, mean_of, module_of

MODULES = ("gate_proj", "up_proj", "down_proj")


def context_patch(weights, n0, nC, r0, rC):
    """{module: Update of rank one} of one token. weights {module: W}; n0, nC, r0, rC (D,), all fp64."""
    def rank_one(column, row):
        return Update((column / row.square().sum())[:, None], row[None])

    gate, up = weights["gate_proj"], weights["up_proj"]
    hC = torch.nn.functional.silu(gate @ nC) * (up @ nC)                    # (F,)
    return {"gate_proj": rank_one(gate @ (nC - n0), n0), "up_proj": rank_one(up @ (nC - n0), n0),
            "down_proj": rank_one(rC - r0, hC)}


@torch.inference_mode()
def context_patches(model, closed, context, layers=None):
    """[{module name: Update}], one for each question: what the news in context is worth at the prompt's last
    token, in every layer of the base. closed, context: Asked of the same questions."""
    closed, context = closed.only_right(), context.only_right()
    layers = range(model.config.num_hidden_layers) if layers is None else layers
    _, source = aligned(closed, context)
    here = closed.answer.int().argmax(1)                                    # (Q,) the prompt's last token
    rows = torch.arange(len(here), device=here.device)
    there = source[rows, here]
    parts = ("post_attention_layernorm", "resid_mid")
    names = [f"model.layers.{layer}.{part}" for layer in layers for part in parts]
    both = [{name: x[rows, places].cpu().double() for name, x in states(model, batch.ids, names).items()}
            for batch, places in ((closed, here), (context, there))]                          # (Q, D) each
    out = [{} for _ in here]
    for layer in layers:
        mlp = model.get_submodule(f"model.layers.{layer}.mlp")
        weights = {name: getattr(mlp, name).weight.cpu().double() for name in MODULES}
        norm, mid = (f"model.layers.{layer}.{part}" for part in parts)
        for q, patches in enumerate(out):
            found = context_patch(weights, *(side[name][q] for name in (norm, mid) for side in both))
            patches |= {f"model.layers.{layer}.mlp.{name}": update for name, update in found.items()}
    return out


def agreement(patches, update):
    """{"cosine", "columns", "rows", "effect"} of rank-one patches of one module (one a question) with an
    Update of it. cosine: with the mean patch, the "thought matrix". columns, rows: mean share of a patch's
    column (row) that lies in the update's column (row) space; r / d for a random one. effect: mean cosine of
    dW_update x and dW_context x at the input x that the patch is keyed on: do both do the same to the same
    activation?"""
    mean = mean_of([{"": patch} for patch in patches])[""]
    U, V = frames(update)
    columns = torch.cat([p.B for p in patches], 1)                          # (out, Q)
    keys = torch.cat([p.A for p in patches]).T                              # (in, Q)
    columns, keys = columns / columns.norm(dim=0), keys / keys.norm(dim=0)
    effect = torch.nn.functional.cosine_similarity(update.B @ (update.A @ keys), columns, dim=0)
    return {"cosine": cosine(mean, update),
            "columns": float((U.T @ columns).square().sum(0).mean()),
            "rows": float((V.T @ keys).square().sum(0).mean()), "effect": float(effect.mean())}


def rows(contexts, updates):
    """Rows {"context", "update", "layer", "module", "cosine", "columns", "rows", "effect"} of contexts
    {label: context_patches(...)} against updates {label: {module name: Update}}; a module an update lacks is
    left out."""
    out = []
    for context, patches in contexts.items():
        for label, update in updates.items():
            for name in patches[0]:
                if name in update and float(update[name].B.norm()):
                    out.append({"context": context, "update": label, "layer": layer_of(name),
                                "module": module_of(name),
                                **agreement([p[name] for p in patches], update[name])})
    return out


def attention_outputs(model, batch, adapter, layers):
    """{layer: (N, D) fp64} at the positions that predict the right answers' tokens."""
    found = states(model, batch.ids, [f"model.layers.{layer}.self_attn" for layer in layers], adapter)
    return {layer_of(name): x[batch.answer].cpu().double() for name, x in found.items()}


def frozen(model, closed, contexts, labels, layers=None):
    """Rows {"context", "update", "layer", "asim", "moved", "mean_share"} of the base and of adapter k =
    labels[k], closed book, against the base behind contexts {label: Asked}; mean_share: mean over the layer's
    modules, on the questions' own tokens."""
    layers, out = range(model.config.num_hidden_layers) if layers is None else layers, []
    closed = closed.only_right()
    read = {name: attention_outputs(model, batch.only_right(), -1, layers)
            for name, batch in contexts.items()}
    base = attention_outputs(model, closed, -1, layers)
    for k, label in ((-1, "base"), *enumerate(labels)):
        mine = attention_outputs(model, closed, k, layers)
        effects = {} if k < 0 else mean_effects(model, closed.ids, closed.real, k)
        for name, its in read.items():
            for layer in layers:
                cos = torch.nn.functional.cosine_similarity
                row = {"context": name, "update": label, "layer": layer,
                       "asim": float(cos(mine[layer], its[layer]).mean()), "moved": None, "mean_share": None}
                if k >= 0:
                    some = [share for module, (_, share) in effects.items() if layer_of(module) == layer]
                    moved = cos(mine[layer] - base[layer], its[layer] - base[layer])
                    row |= {"moved": float(moved.mean()), "mean_share": sum(some) / max(1, len(some))}
                out.append(row)
    return out
