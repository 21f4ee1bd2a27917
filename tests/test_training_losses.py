"""Losses other than next_token through the one loop: masked texts, distillation, second views."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.lora import add_lora
from newnews.batches import Shuffled
from newnews.examples import Example
from newnews.training import Recipe, train
from test_training import V, examples, metrics_of, small

pytestmark = pytest.mark.usefixtures("one_thread")
MASK = V - 1


def masked(ids):
    """Masked tuning, as a protocol would write it: fresh holes at each use, only the holes carry loss, and
    the text stands behind its holed copy."""
    def draw(rng):
        holes = rng.random(len(ids)) < 0.3
        holes[rng.integers(len(ids))] = True
        holed = [MASK if hole else t for t, hole in zip(ids, holes)]
        return Example(holed + ids, [0.0] * len(ids) + holes.astype(float).tolist())
    return draw


def test_masked_tuning_by_functions():
    """Each use of an example is drawn anew, by (seed, epoch, place) and nothing else; and it trains."""
    lists = [[masked(x) for x, _ in examples(20 + k, [6, 8, 5, 7])] for k in range(2)]
    shuffled, again = Shuffled(lists, 2, [3, 4]), Shuffled(lists, 2, [3, 4])
    steps = [shuffled(step) for step in range(6)]
    assert [again(step) for step in reversed(range(6))][::-1] == steps      # what a resumed run would draw
    alone = Shuffled(lists[1:], 2, [4])
    assert [alone(step)[0] for step in range(6)] == [step[1] for step in steps]
    drawn = [tuple(e.weights) for step in steps for e in step[0]]
    assert len(drawn) == 12 and len(set(drawn)) > 8                         # four texts, three epochs
    model = add_lora(small(torch.float32), rank=2, alpha=4, seeds=(0, 1))
    result = train(model, shuffled, Recipe(steps=30, rate=2e-2))
    first = train(add_lora(small(torch.float32), rank=2, alpha=4, seeds=(0, 1)), shuffled, Recipe(1, 1e-9))
    assert all(now < before for now, before in zip(result["loss"], first["loss"]))


def test_the_first_place_does_not_share_the_generator_of_the_order():
    seen = []
    Shuffled([[lambda rng: seen.append(rng.permutation(50).tolist())]], 1, [3])(0)
    assert seen[0] != np.random.default_rng([3, 0]).permutation(50).tolist()
    assert np.random.default_rng([3, 0, 0]).permutation(50).tolist() != seen[0]


def distil(model, batch):
    """Distillation, as a protocol would write it: KL from the base, which reads `other`, at each supervised
    token."""
    keep, there = batch.weights[:, 1:] > 0, batch.other.weights[:, 1:] > 0
    with torch.no_grad():
        base = [-1] * len(batch.ids)
        teacher = model(batch.other.ids[:, :-1], keep=there, adapters=base).log_softmax(-1)
    student = model(batch.ids[:, :-1], keep=keep, adapters=batch.adapters).log_softmax(-1)
    kl = (teacher.exp() * (teacher - student)).sum(-1)
    return batch.sums(kl * batch.weights[:, 1:][keep], keep)


def pairs_of_views():
    """The same answers behind a long context, which the teacher reads, and behind a short one."""
    rows = []
    for context, answer in zip(examples(23, [9, 4, 6]), examples(24, [4, 6, 5])):
        weights = [1.0] * len(answer[0])
        other = Example(context[0] + [5] + answer[0], [0.0] * len(context[0]) + [0.0] + weights)
        rows.append(Example([5] + answer[0], [0.0] + weights, other))
    return rows


@pytest.mark.parametrize("micro_tokens", [1, 40, 10 ** 6])
def test_distillation_by_a_loss(micro_tokens, tmp_path):
    """Two adapters that learn from the base with a context to do without. The first loss by hand, row by row,
    and however the step is split; then it falls."""
    rows = pairs_of_views()
    lists, base = [rows, rows[:1]], small()
    wanted = []
    for mine in lists:
        total = 0.0
        for row in mine:
            n = len(row.ids) - 1
            here, there = (base(torch.tensor([ids[:-1]]))[0, -n:].log_softmax(-1)
                           for ids in (row.ids, row.other.ids))
            total += F.kl_div(here, there, reduction="sum", log_target=True).item()
        wanted.append(total / sum(len(row.ids) - 1 for row in mine))
    model = add_lora(small(), rank=3, alpha=6, seeds=(0, 1))
    recipe = Recipe(steps=25, rate=2e-2, micro_tokens=micro_tokens, schedule="constant")
    result = train(model, lambda step: lists, recipe, tmp_path, loss=distil)
    assert metrics_of(tmp_path)[0]["loss"] == pytest.approx(wanted, rel=1e-9)
    assert all(now < 0.7 * before for now, before in zip(result["loss"], wanted))
    assert wanted[0] > 0.1


@pytest.mark.parametrize("spoil, said", [
    (lambda row: row._replace(other=None), "some examples .* have a second view"),
    (lambda row: row._replace(weights=[0.0, 0.0] + row.weights[2:]), "as many tokens as the first one")])
def test_a_second_view_that_does_not_fit_is_refused(spoil, said):
    rows = pairs_of_views()
    with pytest.raises(ValueError, match=said):
        train(small(), lambda step: [[spoil(rows[0]), *rows[1:]]], Recipe(steps=1, rate=1e-3), loss=distil)
