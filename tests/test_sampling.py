"""Sampling, against transformers and against the uncached oracle.

Greedy        64 tokens equal to transformers' generate(), with and without a repetition penalty, row by row
              and in batches of unequal prompts; the test checks that no step was a near tie
Oracle        generate = generate_naive: greedy, sampled, shared prefixes, equal prompts, rows that stop apart
Independence  a row's tokens depend neither on the other rows nor on their order
Refusals      prompts that are empty or longer than the model's context, broken weights

Models that must agree token by token are in fp64: float noise of 1e-15 does not tip a draw, on any machine.
One draw of a token: test_drawing.py; adapters: test_sampling_adapters.py; score(): test_scoring.py.
"""

import numpy as np
import pytest
import torch

from model.drawing import Sampling
from model.sampling import Completion, Queue, common_prefix, generate, generate_naive, prefill, score

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = Sampling(temperature=0.0, max_new_tokens=64)


def prompts_of(*lengths, seed=0, vocab=97):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab, (n,), generator=generator).tolist() for n in lengths]


def family(seed=0):
    """Prompts as evaluation has them: a common beginning, two equal, one that is the beginning of others."""
    start, a, b, c = prompts_of(6, 3, 5, 1, seed=seed)
    return [start + a, start + b, start, start + a, start + c]


# ---- greedy, against transformers ----

@torch.no_grad()
def transformers_greedy(hf, prompt, penalty, eos=None):
    """The new tokens, and the smallest gap between the two best scores of any step."""
    out = hf.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                      max_new_tokens=64, do_sample=False, repetition_penalty=penalty, eos_token_id=eos,
                      pad_token_id=0, output_scores=True, return_dict_in_generate=True)
    best = torch.cat(out.scores).topk(2).values
    return out.sequences[0, len(prompt):].tolist(), float((best[:, 0] - best[:, 1]).min())


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_64_greedy_tokens_are_those_of_transformers(tiny, twin, penalty, tied):
    model = tiny(seed=30, tie_word_embeddings=tied)
    hf = twin(model)
    prompts = prompts_of(1, 23, 9, seed=1) + family(seed=2)[:3]
    expected = []
    for prompt in prompts:
        tokens, margin = transformers_greedy(hf, prompt, penalty)
        assert len(tokens) == 64 and len(set(tokens)) >= 5      # no dull loop
        assert margin > 2e-4                                    # ten times what logits may differ by
        expected.append(tokens)
    sampling = Sampling(temperature=0.0, max_new_tokens=64, repetition_penalty=penalty)
    alone = [generate(model, [prompt], (), sampling)[0] for prompt in prompts]
    batch = generate(model, prompts, (), sampling)
    assert [c.ids for c in alone] == expected
    assert [c.ids for c in batch] == expected
    assert not any(c.stopped for c in alone + batch)


def test_the_greedy_check_can_fail(tiny, twin):
    """A wrong penalty and a wrong weight both change the 64 tokens, so the equality above says something."""
    model = tiny(seed=30)
    prompt = prompts_of(9, seed=1)[0]
    expected, _ = transformers_greedy(twin(model), prompt, 1.3)
    for wrong in (1.0, 1.25, 1.4):
        sampling = Sampling(temperature=0.0, max_new_tokens=64, repetition_penalty=wrong)
        assert generate(model, [prompt], (), sampling)[0].ids != expected
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.bias.zero_()
    sampling = Sampling(temperature=0.0, max_new_tokens=64, repetition_penalty=1.3)
    assert generate(model, [prompt], (), sampling)[0].ids != expected


def test_stopping_is_as_in_transformers(tiny, twin):
    """The stop id ends a row; transformers keeps it in the answer, we do not."""
    model = tiny(seed=31)
    hf = twin(model)
    prompts = prompts_of(5, 8, 3, seed=3)
    free = generate(model, prompts, (), GREEDY)
    stops = [free[0].ids[20], free[1].ids[7]]
    ends = set()
    for prompt, ours in zip(prompts, generate(model, prompts, stops, GREEDY)):
        tokens, margin = transformers_greedy(hf, prompt, 1.0, eos=stops)
        assert margin > 2e-4
        assert ours == (Completion(tokens[:-1], True) if tokens[-1] in stops else Completion(tokens, False))
        ends.add(len(ours.ids))
    assert len(ends) > 1


# ---- the oracle ----

SAMPLINGS = {
    "greedy": Sampling(temperature=0.0),
    "greedy, penalty": Sampling(temperature=0.0, repetition_penalty=1.3),
    "plain": Sampling(),
    "cool": Sampling(temperature=0.6, seed=1),
    "hot, top-k": Sampling(temperature=1.5, top_k=7, seed=2),
    "top-p": Sampling(top_p=0.8, seed=3),
    "everything": Sampling(temperature=0.9, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=4),
}


@pytest.fixture
def exact(tiny):
    return tiny(seed=32, dtype=torch.float64, num_key_value_heads=1)


def short(sampling, n):
    return Sampling(**{**vars(sampling), "max_new_tokens": n})


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("prompts", [
    prompts_of(7), prompts_of(1, 12, 5, 8, seed=5), family(), prompts_of(4) * 3,
    prompts_of(1) * 2 + prompts_of(1, 6, seed=6)], ids=["one", "unequal", "family", "equal", "one token"])
def test_generate_is_generate_naive(exact, sampling, prompts):
    sampling = short(sampling, 12)
    expected = [generate_naive(exact, prompt, (), sampling, stream=i) for i, prompt in enumerate(prompts)]
    assert generate(exact, prompts, (), sampling) == expected
    assert all(len(c.ids) == 12 and not c.stopped for c in expected)


@pytest.mark.parametrize("name", ["plain", "everything"])
def test_rows_that_stop_apart(exact, name):
    """Twelve rows: some stop at once, some later, alone or together, some never, and no row notices."""
    prompts, sampling = family() + prompts_of(2, 9, seed=7) + family(seed=8), short(SAMPLINGS[name], 20)
    free = [generate_naive(exact, prompt, (), sampling, stream=i).ids for i, prompt in enumerate(prompts)]
    stops = {free[0][0], free[3][19], free[5][3], free[7][8], free[9][12]}
    expected = [generate_naive(exact, prompt, stops, sampling, stream=i) for i, prompt in enumerate(prompts)]
    rows = []
    exact.model.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    assert generate(exact, prompts, stops, sampling) == expected
    assert expected[0] == Completion([], True) and len({len(c.ids) for c in expected if c.stopped}) >= 4
    assert 0 < sum(not c.stopped for c in expected) <= 6
    assert len(rows) == 20                              # the prefill, and a step for each token but the last
    assert rows[-1] < 12 and sorted(rows[1:], reverse=True) == rows[1:]     # the finished left


def test_a_stop_id_as_the_first_and_as_the_last_token(exact):
    prompts = family()
    free = generate(exact, prompts, (), short(GREEDY, 6))
    first = free[1].ids[0]
    assert generate(exact, prompts[1:2], [first], short(GREEDY, 6)) == [Completion([], True)]
    ids = next(c.ids for c in free if c.ids[5] not in c.ids[:5])    # said for the first time at the last step
    prompt = prompts[[c.ids for c in free].index(ids)]
    assert generate(exact, [prompt], [ids[5]], short(GREEDY, 6)) == [Completion(ids[:5], True)]
    assert generate(exact, [prompt], [ids[5]], short(GREEDY, 5)) == [Completion(ids[:5], False)]


def test_a_finished_row_that_lingers_does_not_grow(exact):
    """One of eight stops early: too few to leave at once. What its row goes on to say must stay unseen."""
    prompts = prompts_of(*range(3, 11), seed=9)
    free = generate(exact, prompts, (), short(Sampling(seed=5), 20))
    stop = free[3].ids[2]
    expected = [c.ids[:c.ids.index(stop)] if stop in c.ids else c.ids for c in free]
    ours = generate(exact, prompts, [stop], short(Sampling(seed=5), 20))
    assert [c.ids for c in ours] == expected and len(ours[3].ids) <= 2
    assert [c.stopped for c in ours] == [stop in c.ids for c in free]
    assert sum(c.stopped for c in ours) <= 3


# ---- independence of the batch ----

def test_a_row_depends_on_its_prompt_and_stream_only(exact):
    prompts, stops = family() + prompts_of(3, 11, seed=10), {0, 1, 2, 3}
    sampling = Sampling(temperature=1.2, top_p=0.95, repetition_penalty=1.1, max_new_tokens=12, seed=6)
    streams = [5, 2 ** 63 + 1, 7, 8, 1000, 0, 3]
    whole = generate(exact, prompts, stops, sampling, streams)
    for order in ([3], [6, 0, 5], [1, 2], [4, 3, 2, 1, 0, 5, 6]):
        part = generate(exact, [prompts[i] for i in order], stops, sampling, [streams[i] for i in order])
        assert part == [whole[i] for i in order]


def test_streams_and_seeds_give_different_samples(exact):
    prompt = prompts_of(5)[0]
    rows = generate(exact, [prompt] * 8, (), Sampling(max_new_tokens=8))
    assert len({tuple(c.ids) for c in rows}) == 8
    assert generate(exact, [prompt] * 8, (), Sampling(max_new_tokens=8)) == rows
    assert generate(exact, [prompt] * 8, (), Sampling(max_new_tokens=8), streams=range(8)) == rows
    other = generate(exact, [prompt] * 8, (), Sampling(max_new_tokens=8, seed=1))
    assert not {tuple(c.ids) for c in rows} & {tuple(c.ids) for c in other}


# ---- prefill ----

@pytest.mark.parametrize("prompts, shared", [
    ([[1, 2, 3, 4]], 3), ([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2, 3, 9], [1, 2, 4]], 2),
    ([[1, 2], [1, 2, 3]], 1), ([[1], [1, 2, 3]], 0), ([[5, 1], [6, 1]], 0),
    ([[2, 1, 7], [2, 9, 7], [2, 1, 8]], 1), ([[1, 9, 9], [1, 2, 3, 4], [1, 2, 3, 5]], 1),
])
def test_common_prefix(prompts, shared):
    assert common_prefix([tuple(p) for p in prompts]) == shared


@pytest.mark.parametrize("prompts", [family(), prompts_of(6) * 3, prompts_of(9, 1, 4)],
                         ids=["family", "equal", "apart"])
def test_prefill(exact, prompts):
    with torch.no_grad():
        cache, logits = prefill(exact, prompts, 3)
        assert cache.lengths.tolist() == [len(p) for p in prompts]
        tail = torch.tensor(prompts_of(*[3] * len(prompts), seed=11))
        after = exact(tail, cache)                          # the room that was asked for is there
        for i, prompt in enumerate(prompts):
            whole = exact(torch.tensor([prompt + tail[i].tolist()]))[0]
            assert (logits[i] - whole[len(prompt) - 1]).abs().max() < 1e-12
            assert (after[i] - whole[len(prompt):]).abs().max() < 1e-12


def test_shared_work_is_done_once(exact):
    """Six tokens that all prompts share, then the rest of the three different ones; nothing twice."""
    shapes = []
    exact.model.register_forward_hook(lambda module, args, out: shapes.append(tuple(args[0].shape)))
    start, a, b, c = prompts_of(6, 3, 5, 2, seed=0)
    with torch.no_grad():
        prefill(exact, [start + a, start + b, start + c, start + a], 1)
        prefill(exact, [start] * 9, 1)
    assert shapes == [(1, 6), (3, 5), (1, 5), (1, 1)]


def test_each_group_shares_its_own_prefix(exact):
    """Two news items of 6 and 4 tokens with two questions each: one pass over the items, one over
    questions."""
    shapes = []
    exact.model.register_forward_hook(lambda module, args, out: shapes.append(tuple(args[0].shape)))
    one, other, a, b = prompts_of(6, 4, 3, 5, seed=3)
    prompts, groups = [one + a, other + a, one + b, other + b, one + a], ["x", "y", "x", "y", "x"]
    with torch.no_grad():
        _, logits = prefill(exact, prompts, 1, groups=groups)
        assert shapes == [(2, 6), (4, 5)]
        for row, prompt in enumerate(prompts):
            assert (logits[row] - exact(torch.tensor([prompt]))[0, -1]).abs().max() < 1e-12
        prefill(exact, [one, other + a], 1, groups=["x", "y"])      # a short rest behind a long prefix
    continuations = prompts_of(4, 1, 6, 3, 2, seed=14)
    for ours, theirs in zip(score(exact, prompts, continuations, groups=groups),
                            score(exact, prompts, continuations), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_the_place_of_a_row_that_has_ended_goes_to_the_next_prompt(exact, monkeypatch):
    """12 prompts of 2 to 9 tokens, some of whose answers end early, in a batch of 4: each answer is that of
    the naive loop, and the batch stays full while prompts wait, a quarter of its places apart."""
    prompts = prompts_of(5, 2, 9, 3, 4, 8, 2, 6, 7, 3, 5, 4, seed=23)
    sampling, decoding = Sampling(temperature=0.9, max_new_tokens=15, seed=5, repetition_penalty=1.2), []
    free = [generate_naive(exact, p, (), sampling, i).ids for i, p in enumerate(prompts)]
    stops = {free[0][1], free[2][3], free[5][0], free[9][6]}
    expected = [generate_naive(exact, p, stops, sampling, i) for i, p in enumerate(prompts)]
    lengths = [len(c.ids) for c in expected]
    assert len(set(lengths)) > 4 and 15 in lengths
    fill = Queue.fill

    def filled(self, most):
        goes_on = fill(self, most)
        decoding.append((len(self.rows), self.begun < len(self.prompts)))
        return goes_on

    monkeypatch.setattr(Queue, "fill", filled)
    assert generate(exact, prompts, stops, sampling, rows=4) == expected
    while_waiting = [rows for rows, waiting in decoding if waiting]
    assert set(while_waiting) == {4} and len(while_waiting) > 10


@pytest.mark.parametrize("seed", range(4))
def test_a_row_that_has_ended_alone_leaves_before_its_room_is_full(exact, seed):
    """60 short prompts in a batch of 8: an ended row may stay while fewer than a quarter have ended, but it
    draws on, and rows that began later go on for longer than it has room."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(1, 90, int(rng.integers(2, 4))).tolist() for _ in range(60)]
    sampling, stops = Sampling(temperature=1.0, max_new_tokens=12, seed=seed), {3, 17, 29, 41}
    expected = [generate_naive(exact, prompt, stops, sampling, i) for i, prompt in enumerate(prompts)]
    assert generate(exact, prompts, stops, sampling, rows=8) == expected


# ---- refusals ----

def test_a_prompt_beyond_the_context_is_refused(tiny):
    model = tiny(max_position_embeddings=16)
    fits, too_long = prompts_of(13, 17)
    two = Sampling(temperature=0.0, max_new_tokens=2)
    with pytest.raises(ValueError, match="context of 16"):
        generate(model, [too_long], (), two)
    with pytest.raises(ValueError, match="13 tokens and 4 new ones"):
        generate(model, [[1], fits], (), short(two, 4))     # one row is enough
    with pytest.raises(ValueError, match="13 tokens and 4 new ones"):
        score(model, [[1], fits], [[1], [1, 2, 3, 4]])
    assert len(generate(model, [fits], (), short(two, 3))[0].ids) == 3      # 16 in all


@pytest.mark.parametrize("prompts", [[[]], [[1, 2], []], []], ids=str)
def test_an_empty_prompt_is_refused(tiny, prompts):
    model = tiny()
    with pytest.raises(ValueError, match="empty prompt"):
        generate(model, prompts, (), Sampling(max_new_tokens=2))
    with pytest.raises(ValueError, match="empty prompt"):
        score(model, prompts, [[1]] * max(1, len(prompts)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_refused(tiny, value):
    """Drawing from NaN would give some token or other, and nobody would know."""
    model = tiny()
    with torch.no_grad():
        model.model.norm.weight[3] = value
    with pytest.raises(ValueError, match="not finite"):
        generate(model, [[1, 2], [3]], (), Sampling(max_new_tokens=2))
