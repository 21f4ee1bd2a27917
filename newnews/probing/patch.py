"""Which activations carry the answer? Those of one run put into another one.

Activation patching (Meng et al., 2202.05262; in-context against closed book as donor and recipient): at
chosen positions an output of the recipient's run (residual stream behind a block, attention out, MLP out, or
one head's z, what o_proj reads) is replaced by the donor's. recovered = (patched - recipient) /
(donor - recipient), in log-odds of the right option, several-token answers summed. Runs: base closed book,
base in context, tuned closed book.

A prompt in context is longer than the closed one; the rows end alike, so positions are matched from the end,
as far as the tokens are the same. Patched values keep their donor's content and get the recipient's position.
"""

from itertools import product

import torch

from model.capture import edit
from newnews.probing.asked import log_odds, logprobs, measure, states
from newnews.probing.gate import share
from newnews.probing.updates import layer_of

OUTPUTS = {"residual": "model.layers.{}.resid_post", "attention": "model.layers.{}.self_attn",
           "mlp": "model.layers.{}.mlp", "head": "model.layers.{}.self_attn.z"}
SITES = ("subject", "last", "all")


def aligned(recipient, donor):
    """(where (R, T) bool, source (R, T) int64): the recipient's positions that have a partner in the donor's
    row, counted from the end over equal tokens, and where that partner is."""
    where = torch.zeros(recipient.ids.shape, dtype=torch.bool, device=recipient.ids.device)
    source = torch.zeros_like(recipient.ids)
    ends = [batch.real.sum(1).tolist() for batch in (recipient, donor)]
    for row, (end, its_end) in enumerate(zip(*ends, strict=True)):
        mine, its = recipient.ids[row, :end].tolist(), donor.ids[row, :its_end].tolist()
        same = 0
        while same < min(end, its_end) and mine[-1 - same] == its[-1 - same]:
            same += 1
        where[row, end - same:end] = True
        source[row] = (torch.arange(source.shape[1]) + its_end - end).clamp(0, donor.ids.shape[1] - 1)
    return where, source


def patched(model, recipient, adapter, donor, where, source, head=None):
    """(R,) log-probabilities of the recipient's answers with states {name: (R, T', D)} of a donor at `where`;
    of states (R, T', H, Dh) the one head."""
    rows = torch.arange(len(source), device=source.device)[:, None]
    where = where[..., None]                                                    # (R, T, 1)
    if head is not None:
        heads = torch.arange(model.config.num_attention_heads, device=source.device)
        where = (where & (heads == head))[..., None]                            # (R, T, H, 1)

    def put(state):
        return lambda output: torch.where(where, state[rows, source], output)

    with edit(model, {name: put(state) for name, state in donor.items()}):
        return logprobs(model, recipient, adapter)


def rows(model, pairs, layers=None, sites=SITES, outputs=tuple(OUTPUTS)):
    """Rows {"pair", "output", "site", "layer", "head" (of the output "head", else None), "log_odds",
    "recipient", "donor" (the log-odds of both runs), "recovered"} for pairs {label: ((recipient batch,
    adapter), (donor batch, adapter))}; recovered None where the runs differ by less than gate.LEAST nats.
    Every row is a pass over the recipient's batch."""
    layers, out = range(model.config.num_hidden_layers) if layers is None else layers, []
    for label, ((recipient, adapter), (donor, its_adapter)) in pairs.items():
        low, high = (measure(model, *run)["log_odds"] for run in ((recipient, adapter), (donor, its_adapter)))
        partner, source = aligned(recipient, donor)
        for output in outputs:
            names = [OUTPUTS[output].format(layer) for layer in layers]
            found = states(model, donor.ids, names, its_adapter)
            heads = range(model.config.num_attention_heads) if output == "head" else [None]
            here = [site for site in sites if site == "all" or site in recipient.sites]
            for site, name, head in product(here, names, heads):
                mask = partner if site == "all" else partner & recipient.sites[site]
                sums = patched(model, recipient, adapter, {name: found[name]}, mask, source, head)
                odds = float(log_odds(recipient, sums).mean())
                out.append({"pair": label, "output": output, "site": site, "layer": layer_of(name),
                            "head": head, "log_odds": odds, "recipient": low, "donor": high,
                            "recovered": share(odds, low, high)})
    return out
