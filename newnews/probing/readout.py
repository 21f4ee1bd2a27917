"""What does an update say? The news read back out of it, without question or template.

amplified   Contrastive decoding (the form of arXiv 2605.25902): the next token from
            l_tuned + a (l_tuned - l_base), behind a few neutral words. a = 0 is the tuned model, a = -1
            the base.
difference  Activation Difference Lens (arXiv 2510.13900): d[l, j] = mean over unrelated texts of
            h_tuned[l, j] - h_base[l, j], resid_post of layer l at position j; read through the final norm
            and the head, its top tokens.

Score: recall, the share of the statement's content words that the text says. Salience looks like recovery, so
every reading stands beside the same one of an unrelated adapter, of a random twin, and of the base.
"""

import numpy as np
import torch

from model.capture import capture
from model.sampling import Sampling, pick, prefill
from newnews.protocols.rehearse import content_words

# Neutral beginnings. They go in without a chat template, as plain text.
OPENINGS = ("The", "It is", "There is a", "In", "What is", "A new")


@torch.inference_mode()
def amplified(model, prompts, a, stop_ids, sampling, adapter=0):
    """Continue each prompt (list of ids) by l_tuned + a (l_tuned - l_base): [ids] without the stop id.

    Base and tuned rows of a prompt stand side by side in one batch; both read the token that was picked. The
    noise of row i is stream i of the sampling's seed, whatever a is. No repetition penalty.
    """
    n = len(prompts)
    adapters = [-1, adapter] * n
    twice = [p for prompt in prompts for p in (prompt, prompt)]
    cache, logits = prefill(model, twice, sampling.max_new_tokens, adapters)
    out, stopped = [[] for _ in prompts], [False] * n
    for step in range(sampling.max_new_tokens):
        base, tuned = logits.float().view(n, 2, -1).unbind(1)               # (n, V) each
        tokens = pick(tuned + a * (tuned - base), sampling, np.arange(n), step)    # (n,)
        for row, token in enumerate(tokens.tolist()):
            stopped[row] |= token in stop_ids
            if not stopped[row]:
                out[row].append(token)
        if all(stopped) or step + 1 == sampling.max_new_tokens:
            return out
        logits = model(tokens.repeat_interleave(2)[:, None], cache, adapters=adapters)[:, -1]
    return out


@torch.inference_mode()
def mean_difference(model, texts, layer, positions, adapter=0):
    """d (P, D): mean over texts (lists of ids, each with at least `positions` tokens) of tuned minus base,
    resid_post of `layer` at the first P positions."""
    short = [i for i, ids in enumerate(texts) if len(ids) < positions]
    if short or not texts:
        raise ValueError(f"the difference lens needs texts of at least {positions} tokens; "
                         f"{f'text {short[0]} is shorter' if short else 'there are none'}")
    ids = torch.tensor([ids[:positions] for ids in texts], device=model.lm_head.weight.device)
    name, states = f"model.layers.{layer}.resid_post", []
    for k in (-1, adapter):
        with capture(model, [name]) as seen:
            model.model(ids, adapters=[k] * len(texts))
        states.append(seen[name].cpu().double().mean(0))                          # (P, D)
    return states[1] - states[0]


@torch.inference_mode()
def top_tokens(model, vectors, k=20):
    """(P, k) ids of the tokens that the head gives vectors (P, D) through the final norm, best first."""
    hidden = model.model.norm(vectors.to(model.lm_head.weight))
    return model.lm_head(hidden).topk(k, -1).indices


def recall(text, statement):
    """The share of the statement's content words (rehearse.content_words) that the text says, in [0, 1]."""
    wanted = content_words(statement)
    return len(wanted & content_words(text)) / len(wanted) if wanted else 0.0


def lens_recall(tokens, statement):
    """The same for a list of top tokens, which are pieces of words: a content word counts as said by a token
    of at least three letters that it begins with."""
    wanted = content_words(statement)
    pieces = {t.strip().lower() for t in tokens if len(t.strip()) >= 3}
    said = [word for word in wanted if any(word.startswith(piece) for piece in pieces)]
    return len(said) / len(wanted) if wanted else 0.0


def decode_rows(model, chat, item, labels, strengths=(0.0, 0.5, 1.0, 2.0), tokens=48, openings=OPENINGS):
    """Rows {"update", "a", "opening", "recall", "text"}: greedy decoding behind every opening. labels[k]
    names adapter k of the model; the base is a row of its own (strength -1)."""
    prompts, out = [chat.encode(text) for text in openings], []
    todo = [("base", 0, -1.0), *((label, k, a) for k, label in enumerate(labels) for a in strengths)]
    for label, k, a in todo:
        texts = amplified(model, prompts, a, chat.stop_ids, Sampling(tokens, 0.0), k)
        for opening, ids in zip(openings, texts):
            text = chat.decode(ids)
            out.append({"update": label, "a": a, "opening": opening, "recall": recall(text, item.statement),
                        "text": " ".join(text.split())})
    return out


def lens_rows(model, chat, item, labels, texts, layers=None, positions=5, k=20):
    """Rows {"update", "layer", "position", "norm", "recall", "tokens"} of the difference lens: `layers`
    (default: the middle one), every one of the first positions, top k tokens."""
    layers = [model.config.num_hidden_layers // 2] if layers is None else layers
    ids, out = [i for i in map(chat.encode, texts) if len(i) >= positions], []
    for which, label in enumerate(labels):
        for layer in layers:
            d = mean_difference(model, ids, layer, positions, which)
            for j, top in enumerate(top_tokens(model, d, k).tolist()):
                words = [chat.decode([i]).replace("\n", "\\n") for i in top]
                out.append({"update": label, "layer": layer, "position": j, "norm": float(d[j].norm()),
                            "recall": lens_recall(words, item.statement), "tokens": " ".join(words)})
    return out
