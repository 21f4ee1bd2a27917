"""By which way does the news reach the answer? Attention from the question to the news knocked out.

Attention knock-out (Geva et al., 2304.14767): in a window of layers the tokens of `queries` cannot look at
the tokens of `keys`; what they gave them goes to the rest, as if those scores were -inf. From the question's
tokens, from where the answer is predicted, or from all behind the news; all of them in all layers is a model
that has not read. Null: another news item in context, knocked out alike.
"""

from contextlib import contextmanager

from model.capture import eager_attention, edit
from newnews.probing.asked import measure
from newnews.probing.gate import layer_groups


@contextmanager
def knocked(model, queries, keys, layers):
    """Within the block no token of `queries` (R, T) bool looks at one of `keys` (R, T) in these layers. Every
    query must keep something to look at."""
    cut = queries[:, None, :, None] & keys[:, None, None, :]                # (R, 1, T, T)

    def without(pattern):                                                   # (R, H, T, T)
        left = pattern.masked_fill(cut, 0)
        return left / left.sum(-1, keepdim=True)

    with eager_attention(model), \
            edit(model, {f"model.layers.{layer}.self_attn.pattern": without for layer in layers}):
        yield


def queries_of(batch):
    """{label: (R, T) bool} behind the news: question (with its subject), last, all."""
    news = batch.sites["news"]
    behind = batch.real & ~news & (news.cumsum(1) == news.sum(1, keepdim=True))
    question = batch.sites["question"] | batch.sites.get("subject", batch.sites["question"])
    return {"question": question, "last": batch.sites["last"], "all": behind}


def rows(model, runs, groups=None):
    """Rows {"run", "from", "layers", "log_odds", "change"} for runs {label: (batch in context, adapter)}, in
    nats, means over questions; change: against the same run untouched."""
    groups, out = layer_groups(model.config.num_hidden_layers) if groups is None else groups, []
    for label, (batch, adapter) in runs.items():
        whole = measure(model, batch, adapter)["log_odds"]
        out.append({"run": label, "from": "none", "layers": "all", "log_odds": whole, "change": 0.0})
        for name, queries in queries_of(batch).items():
            for window, layers in groups.items():
                with knocked(model, queries, batch.sites["news"], layers):
                    x = measure(model, batch, adapter)["log_odds"]
                out.append({"run": label, "from": name, "layers": window, "log_odds": x, "change": x - whole})
    return out
