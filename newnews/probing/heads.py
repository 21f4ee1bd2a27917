"""Which heads read the context, and do they still after tuning? Scores of every head, each in [0, 1].

    induction   (Olsson et al., 2209.11895) n random tokens given twice: the attention from the second copy of
                a token to what stood behind the first. Null: the same to any other token of the first copy.
    retrieval   (after Wu et al., 2404.15574) the news in context, the right answer forced: of its tokens, the
                share at whose prediction the head looks most at the answer's words in the news. Theirs asks
                for the very token; here " Oslo" in the news and "Oslo" in the answer are one. Null: a head
                that looks into the news as often, and blindly.
    reading     attention that the answer's positions give to the whole news. Null: to all tokens alike.

Overexposure (2505.01812) says that a tuned model reads worse: then heads that read should lose scores, and
should not under an unrelated adapter or a random twin of the update.
"""

import torch

from model.capture import eager_attention
from newnews.probing.asked import states
from newnews.words import whole

SCORES = ("induction", "retrieval", "reading")
MARGIN = 0.1        # above its null, or a head is not said to do it


def patterns(model, ids, adapter=-1):
    """[(B, H, T, T)], a layer each: who looks where, in one run."""
    names = [f"model.layers.{layer}.self_attn.pattern" for layer in range(model.config.num_hidden_layers)]
    with eager_attention(model):
        return [pattern.float() for pattern in states(model, ids, names, adapter).values()]


def twice(vocabulary, n, rows, device=None):
    """(rows, 2 n): n different random token ids, and the same again."""
    generator = torch.Generator().manual_seed(0)
    once = torch.stack([torch.randperm(vocabulary, generator=generator)[:n] for _ in range(rows)])
    return once.repeat(1, 2).to(device)


def induction(pattern, n):
    """(score (H,), null (H,)) of a pattern (B, H, 2 n, 2 n) on `twice`. The first token, which has none
    before it and is what idle heads look at, is left out."""
    block = pattern[:, :, n + 1:2 * n - 1, 2:n]                             # (B, H, n - 2, n - 2)
    right = block.diagonal(dim1=-2, dim2=-1)
    return right.mean((0, 2)), ((block.sum(-1) - right) / (n - 3)).mean((0, 2))


def needles(chat, batch):
    """(R, T) bool: the tokens of the news that touch the words of the row's own option."""
    found = torch.zeros_like(batch.answer)
    for row, ids in enumerate(batch.ids.tolist()):
        said = chat.decode([ids[t + 1] for t in batch.answer[row].nonzero()[:, 0].tolist()])
        places = batch.sites["news"][row].nonzero()[:, 0].tolist()
        pieces = [chat.decode([ids[t]]) for t in places]
        match = whole(said.strip()).search("".join(pieces))
        end = 0
        for place, piece in zip(places, pieces):
            start, end = end, end + len(piece)
            found[row, place] = match is not None and start < match.end() and end > match.start()
    return found


def retrieval(pattern, batch, needle):
    """(score (H,), null (H,)) of a pattern (R, H, T, T); None, None where no answer stands in the news.
    batch: the right rows. <|im_end|> closes every answer, is in no news, and is left out."""
    counted = batch.answer & needle.any(1, keepdim=True)
    last = counted & ~counted.roll(-1, 1)
    rows, places = (counted & ~last).nonzero().unbind(1)
    if not len(rows):
        return None, None
    top = pattern[rows, :, places].argmax(-1)                               # (N, H)
    hit, look = (mask[rows].gather(1, top).float() for mask in (needle, batch.sites["news"]))
    share = needle[rows].sum(1) / batch.sites["news"][rows].sum(1)
    return hit.mean(0), (look * share[:, None]).mean(0)


def reading(pattern, batch):
    """(score (H,), null (H,)) of a pattern (R, H, T, T)."""
    rows, places = batch.answer.nonzero().unbind(1)
    news = batch.sites["news"][rows].to(pattern)                            # (N, T)
    score = (pattern[rows, :, places] * news[:, None]).sum(-1).mean(0)      # (H,)
    return score, (news.sum(1) / (places + 1)).mean().expand_as(score)


def rows(model, chat, batch, runs, n=40):
    """Rows {"run", "layer", "head", each of SCORES, "null_" of each} for runs {label: adapter}; the first
    run is the base, "change_" of each score is against it. batch: Asked in context."""
    batch, out = batch.only_right(), []
    needle, ids = needles(chat, batch), twice(len(chat.tokenizer.get_vocab()), n, 4, batch.ids.device)
    for label, adapter in runs.items():
        random, read = (patterns(model, x, adapter) for x in (ids, batch.ids))
        for layer, (one, two) in enumerate(zip(random, read)):
            found = dict(zip(SCORES, (induction(one, n), retrieval(two, batch, needle), reading(two, batch))))
            for head in range(one.shape[1]):
                row = {"run": label, "layer": layer, "head": head}
                for key, (score, null) in found.items():
                    row |= {key: None, f"null_{key}": None} if score is None else \
                           {key: float(score[head]), f"null_{key}": float(null[head])}
                out.append(row)
    size = len(out) // len(runs)
    for i, row in enumerate(out):
        base = out[i % size]
        row |= {f"change_{key}": row[key] - base[key] for key in SCORES if row[key] is not None}
    return out


def readers(rows, key, most=5):
    """The (layer, head) of the base's best heads by a score, those MARGIN above their null, best first."""
    base = [row for row in rows if row["run"] == rows[0]["run"] and row[key] is not None]
    good = [row for row in base if row[key] > row[f"null_{key}"] + MARGIN]
    return [(row["layer"], row["head"]) for row in sorted(good, key=lambda row: -row[key])[:most]]
