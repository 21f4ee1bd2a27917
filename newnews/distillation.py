"""The loss of context distillation, as newnews.training.train takes it.

The student reads a row as Example has it, the teacher as Example.other shows it: the same answer behind a
context. The teacher is the same model, its rows without adapters, so it is the base model to the bit, and
nothing trains it.
"""

import torch

from model.drawing import Sampling
from model.flops import forward_flops, sampling_flops, training_flops
from model.lora import adapter_shape
from model.loss import divergences
from model.sampling import generate


class Distillation:
    """loss(model, batch) -> (weighted sum of the KL divergences in nats of each learner, (K,); FLOPs that
    next_token on the same rows would not need). reverse, top: see model.loss.divergences.

    own: first the student answers, at temperature 1, as many tokens as the row's answer has or fewer, and
    stands in place of the row. No gradient goes through the drawing.
    """

    def __init__(self, reverse=False, top=None, own=False):
        self.reverse, self.top, self.own = reverse, top, own

    def __call__(self, model, batch):
        if batch.adapters is None or batch.other is None:
            raise ValueError("distillation needs adapters, which its teacher does without, and examples with "
                             "a second view, which the teacher reads")
        flops = 0
        if self.own:
            batch, flops = own_answers(model, batch)
        keep, there = batch.weights[:, 1:] > 0, batch.other.weights[:, 1:] > 0      # N of (B, T), (B, T')
        with torch.no_grad():
            teacher = model(batch.other.ids[:, :-1], keep=there, head=lambda hidden, _: hidden,
                            adapters=[-1] * len(batch.ids))                                         # (N, D)

        def head(hidden, lm_head):
            return divergences(hidden, teacher, lm_head, self.reverse, self.top)

        losses = model(batch.ids[:, :-1], keep=keep, head=head, adapters=batch.adapters)            # (N,)
        flops += sum(forward_flops(model.config, batch.other.lengths[i] - 1, heads=n)
                     for i, _, n in answers(batch.other))
        return batch.sums(losses * batch.weights[:, 1:][keep], keep), flops


def answers(view):
    """[(row, first place, places)] of the answers: the supervised tokens of each row that has some, which
    stand together."""
    found = [(i, weights.nonzero().flatten().tolist()) for i, weights in enumerate(view.weights.cpu())]
    return [(i, places[0], len(places)) for i, places in found if places]


def own_answers(model, batch):
    """The batch with the student's answers in place of the rows' own, and the FLOPs on top.

    The last token of a row's answer ends it. A student who is done earlier leaves the rest of the places
    without weight; the row as a whole weighs as much as it did. Tokens drawn beyond a row's own number of
    places, while a longer row of the batch went on, are cut and, as padding, not counted.
    """
    lora, runs = adapter_shape(model), answers(batch)
    whole = all((batch.weights[i, first:first + n] > 0).all() for i, first, n in runs)
    if not whole or len({int(batch.ids[i, first + n - 1]) for i, first, n in runs}) > 1:
        raise ValueError("where the student answers anew, every example must have one answer, all closed by "
                         "the same token: no plain texts, no conversations of several turns among them")
    before = cost(model.config, batch, lora)
    # 1. Draw, each row behind its own prompt, by its own adapter and noise.
    prompts = [batch.ids[i, :first].tolist() for i, first, _ in runs]
    used = [int(batch.adapters[i]) for i, *_ in runs]
    (end,) = {int(batch.ids[i, first + n - 1]) for i, first, n in runs}
    sampling = Sampling(max_new_tokens=max(n for *_, n in runs))
    done = generate(model, prompts, {end}, sampling, [batch.noise[i] for i, *_ in runs], used)
    said = [[*answer.ids, *[end] * answer.stopped][:n] for answer, (*_, n) in zip(done, runs)]
    # 2. Write them into both views.
    own = replaced(batch, said)._replace(other=replaced(batch.other, said))
    # 3. Book the drawing, and that rows have become shorter.
    flops = cost(model.config, own, lora) - before
    for k in set(used):
        mine = [(prompt, len(tokens)) for prompt, tokens, j in zip(prompts, said, used) if j == k]
        flops += sampling_flops(model.config, mine, lora)
    return own, flops


def replaced(view, said):
    """The view with other answers, as long as its own or shorter."""
    ids, weights, lengths = view.ids.clone(), view.weights.clone(), list(view.lengths)
    for (i, first, n), tokens in zip(answers(view), said, strict=True):
        total, last = weights[i, first:first + n].sum(), first + len(tokens)
        ids[i, first:last] = torch.tensor(tokens, device=ids.device)
        weights[i, first:last] = total / len(tokens)
        weights[i, last:first + n] = 0
        lengths[i] -= n - len(tokens)
    return view._replace(ids=ids, weights=weights, lengths=tuple(lengths))


def cost(config, batch, lora):
    """FLOPs of next_token on the batch."""
    runs = answers(batch)
    return training_flops(config, [batch.lengths[i] for i, *_ in runs], sum(n for *_, n in runs), lora)
