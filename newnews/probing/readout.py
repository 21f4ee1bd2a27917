"""What does an update say? The news read back out of it, without question or template.

amplified   Contrastive decoding (the form of arXiv 2605.25902): the next token from
            l_tuned + a (l_tuned - l_base), behind a few neutral words. a = 0 is the tuned model, a = -1
            the base.
difference  Activation Difference Lens (arXiv 2510.13900): d[l, j] = mean over unrelated texts of
            h_tuned[l, j] - h_base[l, j], resid_post of layer l at position j; read through the final norm
            and the head, its top tokens. Its cause: the base steered by a d, and the loss of the right
            answers when d is taken out of the tuned model again; null: random vectors of its length.

Score: recall, the share of the statement's content words that the text says. Salience looks like recovery, so
every reading stands beside the same one of an unrelated adapter, of a random twin, and of the base. On the
pocket world the oracle judges too: does the text state a truth about the news, or a falsehood?
"""

import re

import torch

from model.capture import edit
from model.drawing import Sampling
from model.sampling import at_once, generate, prefill
from newnews.probing.asked import logprobs, states
from newnews.protocols.rehearse import content_words
from newnews.world import oracle

# Neutral beginnings. They go in without a chat template, as plain text.
OPENINGS = ("The", "It is", "There is a", "In", "What is", "A new")
POSITIONS = 5       # of a text, its first: where the difference lens looks


@torch.inference_mode()
def amplified(model, prompts, a, stop_ids, limit, adapter=0):
    """Continue each prompt (list of ids) greedily by l_tuned + a (l_tuned - l_base), by `limit` tokens at
    most: [ids] without the stop id. Base and tuned rows of a prompt stand side by side in one batch; both
    read the token that was picked."""
    at_once(model, prompts, [limit] * len(prompts), None)       # refuses what does not fit the context
    n = len(prompts)
    adapters = [-1, adapter] * n
    twice = [p for prompt in prompts for p in (prompt, prompt)]
    cache, logits = prefill(model, twice, limit, adapters)
    out, stopped = [[] for _ in prompts], [False] * n
    for step in range(limit):
        base, tuned = logits.float().view(n, 2, -1).unbind(1)               # (n, V) each
        tokens = (tuned + a * (tuned - base)).argmax(-1)                    # (n,)
        for row, token in enumerate(tokens.tolist()):
            stopped[row] |= token in stop_ids
            if not stopped[row]:
                out[row].append(token)
        if all(stopped) or step + 1 == limit:
            return out
        logits = model(tokens.repeat_interleave(2)[:, None], cache, adapters=adapters)[:, -1]
    return out


@torch.inference_mode()
def top_tokens(model, vectors, k=20):
    """(P, k) ids of the tokens that the head gives vectors (P, D) through the final norm, best first."""
    hidden = model.model.norm(vectors.to(model.lm_head.weight))
    return model.lm_head(hidden).topk(k, -1).indices


def recall(text, statement):
    """The share of the statement's content words (rehearse.content_words) that the text says, in [0, 1]."""
    wanted = content_words(statement)
    return len(wanted & content_words(text)) / len(wanted) if wanted else 0.0


def world_of(item):
    """The oracle's Thing of a news item of the pocket world; None of any other."""
    try:
        return oracle.things_of([item])[item.id]
    except ValueError:
        return None


def verdict(thing, text):
    """What the oracle says of a text about a Thing: true if up to three sentences in a row of it are one of
    the world's truths about the thing, else false if some are a falsehood about it, else off."""
    pieces = re.split(r"(?<=[.!?])\s+|\n+", text)
    spans = {" ".join(pieces[i:j]) for i in range(len(pieces)) for j in range(i + 1, i + 4)}
    found = {oracle.grade(thing, span, "implication") for span in spans}
    return next(v for v in ("true", "false", "off") if v in found | {"off"})


def judged(item, opening, text):
    """{"recall", "oracle" (where the world is known), "text"} of a continuation."""
    thing = world_of(item)
    said = {} if thing is None else {"oracle": verdict(thing, opening + text)}
    return {"recall": recall(text, item.statement), **said, "text": " ".join(text.split())}


def lens_recall(tokens, statement):
    """The same for a list of top tokens, which are pieces of words: a content word counts as said by a token
    of at least three letters that it begins with."""
    wanted = content_words(statement)
    pieces = {t.strip().lower() for t in tokens if len(t.strip()) >= 3}
    said = [word for word in wanted if any(word.startswith(piece) for piece in pieces)]
    return len(said) / len(wanted) if wanted else 0.0


def decode_rows(model, chat, item, labels, strengths=(0.0, 0.5, 1.0, 2.0), tokens=48):
    """Rows {"update", "a", "opening", "recall", "oracle", "text"}: greedy decoding behind every opening.
    labels[k] names adapter k of the model; the base is a row of its own (strength -1)."""
    prompts, out = [chat.encode(text) for text in OPENINGS], []
    todo = [("base", 0, -1.0), *((label, k, a) for k, label in enumerate(labels) for a in strengths)]
    for label, k, a in todo:
        texts = amplified(model, prompts, a, chat.stop_ids, tokens, k)
        for opening, ids in zip(OPENINGS, texts):
            out.append({"update": label, "a": a, "opening": opening,
                        **judged(item, opening, chat.decode(ids))})
    return out


def lens_rows(model, chat, item, labels, texts, layers=None):
    """Rows {"update", "layer", "position", "norm", "recall", "tokens"} of the difference lens: `layers`
    (default: the middle one), every one of the first positions, top tokens."""
    out = []
    for label, layer, d in differences(model, chat, labels, texts, layers):
        for j, top in enumerate(top_tokens(model, d).tolist()):
            words = [chat.decode([i]).replace("\n", "\\n") for i in top]
            out.append({"update": label, "layer": layer, "position": j, "norm": float(d[j].norm()),
                        "recall": lens_recall(words, item.statement), "tokens": " ".join(words)})
    return out


def differences(model, chat, labels, texts, layers=None):
    """Yield (label, layer, d (P, D)) of every adapter k = labels[k] and layer (default: the middle one): mean
    over the texts of at least P = POSITIONS tokens of tuned minus base, resid_post of the layer at the first
    P positions. ValueError where no text is that long."""
    layers = [model.config.num_hidden_layers // 2] if layers is None else layers
    ids = [i[:POSITIONS] for i in map(chat.encode, texts) if len(i) >= POSITIONS]
    if not ids:
        raise ValueError(f"the difference lens needs texts of at least {POSITIONS} tokens; there are none")
    ids = torch.tensor(ids, device=model.lm_head.weight.device)
    for which, label in enumerate(labels):
        for layer in layers:
            name = f"model.layers.{layer}.resid_post"
            # the base last: top_tokens then reads through its norm and head
            tuned, base = (states(model, ids, [name], k)[name].cpu().double().mean(0) for k in (which, -1))
            yield label, layer, tuned - base


def added(model, layer, vector):
    """A context manager in which a vector (D,) is added to resid_post of a layer at every token."""
    return edit(model, {f"model.layers.{layer}.resid_post": lambda x: x + vector.to(x)})


def cause_rows(model, chat, item, batch, labels, texts, layers=None, strengths=(1.0, 4.0, 16.0), tokens=32,
               randoms=16):
    """Rows of two kinds, for every update and layer, d the mean over the first positions after the first:
    {"update", "layer", "steered": a, "opening", "recall", "oracle", "text"}: greedy decoding of the base with
    a d added, also of a random vector of the first update's length; and {"update", "layer", "loss_base",
    "loss", "loss_removed", "loss_random"}: nats a right answer (Asked), of the tuned model as it is, without
    d, and without one of `randoms` random vectors of its length, mean."""
    out, right = [], batch.only_right()
    prompts, generator = [chat.encode(text) for text in OPENINGS], torch.Generator().manual_seed(0)

    def drawn(d):
        v = torch.randn(d.shape, generator=generator, dtype=d.dtype)
        return v * d.norm() / v.norm()

    def loss(k):
        return -float(logprobs(model, right, k).mean())

    def without(layer, vector, k):
        with added(model, layer, -vector):
            return loss(k)

    for label, layer, d in differences(model, chat, labels, texts, layers):
        d, k = d[1:].mean(0), labels.index(label)
        steered = {label: d} | ({"null: random vector": drawn(d)} if k == 0 else {})
        for name, vector in steered.items():
            for a in strengths:
                with added(model, layer, a * vector):
                    found = generate(model, prompts, chat.stop_ids, Sampling(tokens, 0.0),
                                     adapters=[-1] * len(prompts))
                out += [{"update": name, "layer": layer, "steered": a, "opening": opening,
                         **judged(item, opening, chat.decode(one.ids))}
                        for opening, one in zip(OPENINGS, found)]
        out.append({"update": label, "layer": layer, "loss_base": loss(-1), "loss": loss(k),
                    "loss_removed": without(layer, d, k),
                    "loss_random": sum(without(layer, drawn(d), k) for _ in range(randoms)) / randoms})
    return out
