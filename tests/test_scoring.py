"""Scoring: what was generated is what one pass over it says; score() is a plain log_softmax, reads nothing
twice, and takes any number of rows at a time."""

import numpy as np
import pytest
import torch

from model import cache as cache_module
from model import sampling as sampling_module
from model.drawing import pick
from model.sampling import generate, score
from test_sampling import GREEDY, SAMPLINGS, exact, family, prompts_of, short     # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_generate_then_rescore(exact, sampling):
    """One uncached pass over prompt + answer, and from its logits alone every draw comes out again."""
    sampling = short(sampling, 10)
    prompts, stops = family(seed=12), {1, 2, 3}
    for stream, (prompt, answer) in enumerate(zip(prompts, generate(exact, prompts, stops, sampling))):
        ids = prompt + answer.ids
        with torch.no_grad():
            logits = exact(torch.tensor([ids]))[0]
        for step in range(len(answer.ids) + answer.stopped):
            at = len(prompt) + step
            seen = torch.zeros(1, 97, dtype=torch.bool)
            seen[0, ids[:at]] = True
            token = int(pick(logits[at - 1][None], sampling, [stream], step, seen))
            assert token in stops if step == len(answer.ids) else token == answer.ids[step]


def test_score_is_a_plain_log_softmax(exact):
    prompts = family(seed=13)
    continuations = prompts_of(4, 1, 6, 3, 2, seed=14)
    scores = score(exact, prompts, continuations)
    assert [len(s) for s in scores] == [4, 1, 6, 3, 2]
    for prompt, continuation, ours in zip(prompts, continuations, scores):
        with torch.no_grad():
            table = exact(torch.tensor([prompt + continuation]))[0].log_softmax(-1)
        expected = [float(table[len(prompt) + i - 1, token]) for i, token in enumerate(continuation)]
        assert ours == pytest.approx(expected, abs=2e-6)            # score() takes its softmax in fp32
        assert max(expected) < 0


def test_scoring_reads_every_prompt_and_no_letter_twice(exact):
    """Two questions behind a news item of 6 tokens, letters and texts: the item, the rests of the prompts,
    and what follows the first tokens of two texts. No head for padding: 2 prompts, 3 + 1 tokens."""
    shapes, scored = [], []
    exact.model.register_forward_hook(lambda module, args, out: shapes.append(tuple(args[0].shape)))
    exact.lm_head.register_forward_hook(lambda module, args, out: scored.append(out.shape[:-1].numel()))
    start, a, b, long, short = prompts_of(6, 3, 5, 4, 2, seed=0)
    prompts = [start + a] * 3 + [start + b] * 3
    found = score(exact, prompts, [[1], [2], [3], long, [4], short])
    assert shapes == [(1, 6), (2, 5), (2, 3)] and scored == [0, 2, 4]
    assert [len(row) for row in found] == [1, 1, 1, 4, 1, 2]


def test_a_long_prompt_and_the_long_answer_of_another_are_scored(tiny):
    """13 + 3 and 3 + 13 tokens fit a context of 16, though 13 + 13 would not."""
    model = tiny(seed=32, dtype=torch.float64, max_position_embeddings=16)
    prompts, continuations = prompts_of(13, 3, seed=16), prompts_of(3, 13, seed=17)
    together = score(model, prompts, continuations)
    for prompt, continuation, ours in zip(prompts, continuations, together):
        assert score(model, [prompt], [continuation]) == [pytest.approx(ours, abs=2e-6)]
        assert len(ours) == len(continuation)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
def test_rows_at_a_time_change_nothing_but_the_memory(exact, rows, monkeypatch):
    prompts, sampling = family(seed=18), short(SAMPLINGS["everything"], 8)
    batches = []
    exact.model.register_forward_hook(lambda module, args, out: batches.append(len(args[0])))
    assert generate(exact, prompts, {3}, sampling, rows=rows) == generate(exact, prompts, {3}, sampling)
    continuations = prompts_of(4, 1, 6, 3, 2, seed=14)
    whole = score(exact, prompts, continuations)
    monkeypatch.setattr(sampling_module, "rows_at_once", lambda *_: rows)
    batches.clear()
    for ours, theirs in zip(score(exact, prompts, continuations), whole, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-6)
    assert max(batches) <= rows


def test_rows_are_bounded_by_default(exact, monkeypatch):
    """4 rows of 12 + 2 tokens of fp64 keys and values: 2 (k, v) * 2 layers * 1 head * 6 * 8 bytes a token."""
    monkeypatch.setattr(cache_module, "CACHE_BYTES", 4 * (12 + 2) * 2 * 2 * 1 * 6 * 8)
    batches = []
    exact.model.register_forward_hook(lambda module, args, out: batches.append(len(args[0])))
    prompts = prompts_of(*[12] * 9, seed=19)
    score(exact, prompts, [[1, 2]] * 9)
    assert max(batches) == 4
    batches.clear()
    generate(exact, prompts, (), short(GREEDY, 2))
    assert max(batches) == 4


def test_score_of_an_empty_continuation_is_empty(exact):
    prompts = prompts_of(3, 5)
    whole = score(exact, prompts, [[1, 2], [3, 4]])
    assert score(exact, prompts, [[1, 2], []]) == [pytest.approx(whole[0], abs=2e-6), []]
    assert score(exact, prompts, [[], []]) == [[], []]


def test_score_of_what_was_generated(exact):
    """Greedy: no other token of a step scores higher than the one said; and all of them add up to one."""
    prompts = family(seed=15)
    answers = [c.ids for c in generate(exact, prompts, (), short(GREEDY, 4))]
    best = score(exact, prompts, answers)
    total = 0.0
    for token in range(97):
        changed = score(exact, prompts[:1], [answers[0][:2] + [token]])[0]
        assert changed[2] <= best[0][2] + 1e-6 and changed[:2] == pytest.approx(best[0][:2], abs=2e-6)
        total += np.exp(changed[2])
    assert total == pytest.approx(1, abs=1e-5)
