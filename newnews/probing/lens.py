"""Where does the answer appear? Probability and rank of the right answer by layer and position.

Logit lens (nostalgebraist 2020): the residual stream behind each block goes through the final norm and the
head. Three runs tell reading from having learnt: base closed book, base with the news in context, tuned
closed book; the nulls are a random twin and unrelated adapters, closed book. At the site `last` the whole
answer is forced and its tokens' log-probabilities are summed; at other sites the first token of the answer
is looked for.
"""

import torch

from newnews.probing.asked import states
from newnews.probing.updates import layer_of


@torch.inference_mode()
def lens(model, batch, adapter=-1, layers=None):
    """{layer: (logprob (R, T), rank (R, T))} of the next answer token, as `wanted` gives it, at every
    position; rank 0 is the head's first choice. batch: Asked, only the rows of right options."""
    L = model.config.num_hidden_layers
    layers = range(L) if layers is None else layers
    seen = states(model, batch.ids, [f"model.layers.{layer}.resid_post" for layer in layers], adapter)
    tokens, found = wanted(batch), {}
    for name, its in seen.items():
        logprob = torch.empty(batch.ids.shape, dtype=torch.float64)
        rank = torch.empty(batch.ids.shape, dtype=torch.int64)
        for row, x in enumerate(its):                                       # one row at a time: (T, V)
            logits = model.lm_head(model.model.norm(x))     # a full update's own, as in the model's last call
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            own = logits.gather(1, tokens[row][:, None])                    # (T, 1)
            logprob[row] = (own - logits.logsumexp(1, keepdim=True))[:, 0].cpu()
            rank[row] = (logits > own).sum(1).cpu()
        found[layer_of(name)] = logprob, rank
    return found


def wanted(batch):
    """(R, T): at a position that predicts a token of the answer that token, elsewhere the answer's first
    one."""
    out = torch.empty_like(batch.ids)
    for row, mask in enumerate(batch.answer):
        places = mask.nonzero()[:, 0]
        out[row] = batch.ids[row, places[0] + 1]
        out[row, places] = batch.ids[row, places + 1]
    return out


def rows(model, runs, layers=None):
    """Rows {"run", "layer", "site", "logprob", "probability", "rank", "first"} for runs {label: (batch,
    adapter)}.

    Site "last": logprob is the answer's, summed over its tokens, probability that of the whole answer, rank
    the mean over its tokens, first the share of answers whose every token is the first choice. Other sites:
    logprob, its exponential, and rank of the answer's first token, mean over the site's tokens; first the
    share of tokens at which it is the first choice. All means over questions."""
    out = []
    for label, (batch, adapter) in runs.items():
        batch = batch.only_right()
        for layer, (logprob, rank) in lens(model, batch, adapter, layers).items():
            for site, mask in batch.sites.items():
                mask = (batch.answer if site == "last" else mask).cpu()
                have = mask.any(1)                                          # a row may lack the site
                sums, ranks, first, n = ((x * mask).sum(1)[have] for x in (logprob, rank, rank == 0, mask))
                sums, first = (sums, first == n) if site == "last" else (sums / n, first / n)
                out.append({"run": label, "layer": layer, "site": site, "logprob": float(sums.mean()),
                            "probability": float(sums.exp().mean()), "rank": float((ranks / n).mean()),
                            "first": float(first.double().mean())})
    return out
