"""One draw of a token, against transformers and against probability itself.

Filters  penalty, temperature, top-k, top-p equal transformers' processors to the bit, ties included
Chance   frequencies of draws (chi-square), uniforms (Kolmogorov-Smirnov, a published splitmix64 vector)
Values   out of range, at its edge, and temperatures that fp32 cannot divide by
"""

import functools

import numpy as np
import pytest
import torch

from model import drawing
from model.drawing import COLDEST, Sampling, inverse_cdf, pick, token_probabilities, uniforms

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- filters, against transformers ----

def transformers_probabilities(logits, sampling, ids):
    from transformers import generation as g
    scores = logits.float()
    if sampling.repetition_penalty != 1:
        scores = g.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(ids, scores)
    scores = g.TemperatureLogitsWarper(sampling.temperature)(ids, scores)
    if sampling.top_k:
        scores = g.TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1:
        scores = g.TopPLogitsWarper(sampling.top_p)(ids, scores)
    return scores.softmax(-1)


FILTERS = [dict(repetition_penalty=1.3), dict(repetition_penalty=0.7), dict(temperature=0.3),
           dict(temperature=2.5), dict(top_k=1), dict(top_k=5), dict(top_k=500), dict(top_p=0.01),
           dict(top_p=0.5), dict(top_p=0.9), dict(top_p=0.999),
           dict(temperature=0.7, top_k=10, top_p=0.6, repetition_penalty=1.1),
           dict(temperature=1.8, top_k=40, top_p=0.95, repetition_penalty=1.3)]


@pytest.mark.parametrize("settings", FILTERS, ids=str)
@pytest.mark.parametrize("kind", ["smooth", "ties", "bf16"])
def test_filters_are_those_of_transformers(settings, kind, monkeypatch):
    """Of equal logits astride top-p's edge, transformers keeps what its unstable sort happens to put last. We
    sort stably, so for the comparison with ties it must do so too; nothing else differs."""
    pytest.importorskip("transformers")
    generator = torch.Generator().manual_seed(40)
    logits = 3 * torch.randn(50, 83, generator=generator)
    if kind == "ties":
        logits = (logits / 2).round() * 2                   # about ten values for 83 tokens
    if kind == "bf16":
        logits = logits.bfloat16()                          # what a bf16 head gives: some ties
    if kind != "smooth":
        monkeypatch.setattr(torch, "sort", functools.partial(torch.sort, stable=True))
    ids = torch.randint(83, (50, 12), generator=generator)
    seen = torch.zeros(50, 83, dtype=torch.bool).scatter_(1, ids, True)
    sampling = Sampling(**settings)
    ours = token_probabilities(logits, sampling, seen)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, transformers_probabilities(logits, sampling, ids))
    if settings != dict(top_k=500):
        assert not torch.equal(ours, token_probabilities(logits, Sampling(), seen))
    assert (ours.sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("wrong", [
    dict(top_p=0.5, temperature=0.7), dict(top_p=0.52, temperature=0.8),
    dict(top_p=0.5, temperature=0.8, top_k=3),
    dict(top_p=0.5, temperature=0.8, repetition_penalty=1.01)], ids=str)
def test_the_filter_check_can_fail(wrong):
    pytest.importorskip("transformers")
    generator = torch.Generator().manual_seed(41)
    logits = 3 * torch.randn(50, 83, generator=generator)
    ids = torch.randint(83, (50, 12), generator=generator)
    seen = torch.zeros(50, 83, dtype=torch.bool).scatter_(1, ids, True)
    right = dict(top_p=0.5, temperature=0.8)
    expected = transformers_probabilities(logits, Sampling(**right), ids)
    assert torch.equal(token_probabilities(logits, Sampling(**right), seen), expected)
    assert not torch.equal(token_probabilities(logits, Sampling(**wrong), seen), expected)


def test_filters_by_hand():
    logits = torch.tensor([[4.0, 2.0, 1.0, 0.5, 0.25]]).log()
    assert kept(logits, top_k=2) == [0, 1]
    assert kept(logits, top_p=0.5) == [0]               # masses .516 .258 .129 .065 .032
    assert kept(logits, top_p=0.6) == [0, 1]            # the token that crosses p stays
    assert kept(logits, top_p=0.92) == [0, 1, 2, 3]
    assert kept(torch.tensor([[1.0, 3.0, 3.0, 3.0, 0.0]]), top_k=2) == [1, 2, 3]    # ties with the last stay
    assert kept(logits, top_p=1e-9) == [0]              # never none, though 1 - p is 1 in fp32
    assert kept(torch.zeros(1, 4), top_p=0.5) == [2, 3]     # a mass of exactly 1 - p may go
    # temperature comes before top-p: cooled to 1/2, the masses are squared: .749 .187 .047 .012 .003
    assert kept(logits, top_p=0.6, temperature=0.5) == [0]
    seen = torch.tensor([[True, False, False, False, True]])
    signed = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]])
    penalised = token_probabilities(signed, Sampling(repetition_penalty=4.0), seen)
    assert torch.equal(penalised, torch.tensor([[0.5, 1.0, 0.0, -1.0, -8.0]]).softmax(-1))
    assert pick(signed, Sampling(temperature=0.0, repetition_penalty=4.0), [0], 0, seen).tolist() == [1]


def kept(logits, **settings):
    return token_probabilities(logits, Sampling(**settings))[0].nonzero()[:, 0].tolist()


# ---- chance ----

def frequencies_fit(counts, probabilities):
    """p-value of counts under probabilities; a token of probability 0 must not occur at all."""
    stats = pytest.importorskip("scipy.stats")
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = probabilities[possible].double()
    expected = expected / expected.sum() * counts.sum()
    return stats.chisquare(counts[possible].numpy(), expected.numpy()).pvalue


@pytest.mark.parametrize("settings", [
    dict(), dict(temperature=0.5), dict(temperature=2.0, top_k=6), dict(top_p=0.7),
    dict(temperature=1.3, top_k=9, top_p=0.9, repetition_penalty=1.5)], ids=str)
def test_frequencies_are_the_probabilities(settings):
    """40,000 draws, over streams and over steps. The same draws do not fit a temperature that is 10% off."""
    sampling = Sampling(**settings, seed=11)
    logits = 1.5 * torch.randn(1, 12, generator=torch.Generator().manual_seed(42))
    seen = torch.zeros(1, 12, dtype=torch.bool)
    seen[0, :5] = True
    counts = torch.zeros(12)
    for step in range(8):
        tokens = pick(logits.expand(5000, 12), sampling, np.arange(5000), step, seen.expand(5000, 12))
        counts += torch.bincount(tokens, minlength=12)
    assert frequencies_fit(counts, token_probabilities(logits, sampling, seen)[0]) > 0.01
    warmer = Sampling(**{**settings, "temperature": 1.1 * settings.get("temperature", 1.0)})
    other = token_probabilities(logits, warmer, seen)[0]
    assert frequencies_fit(counts * (other > 0), other) < 1e-6


def test_a_row_has_its_own_distribution():
    """Each row of a batch is drawn from its own logits with its own noise: two rows, one with certainty."""
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [-1e4, -1e4, 0.0, -1e4]]).repeat(2000, 1)
    tokens = pick(logits, Sampling(seed=12), np.arange(4000), 0)
    assert set(tokens[1::2].tolist()) == {2}
    assert frequencies_fit(torch.bincount(tokens[::2], minlength=4), torch.full((4,), 0.25)) > 0.01


@pytest.mark.parametrize("vocab", [1, 63, 64, 97, 5000])
def test_two_levels_are_the_one_running_sum(vocab):
    """The token of the plain inverse CDF in fp64, except within 1e-6 of a border; none of probability 0."""
    generator = torch.Generator().manual_seed(vocab)
    rows = torch.randn(400, vocab, generator=generator).mul(3).softmax(-1)
    rows[:, ::3] *= torch.rand(400, 1, generator=generator) < 0.5           # whole blocks, too:
    rows[200:, :vocab // 2] = 0
    rows[:, -1] += 1e-9
    u = torch.rand(400, generator=generator, dtype=torch.float64)
    u[:100], u[100:110], u[110:120] = u[:100] ** 30, 0, 1 - 2 ** -53
    tokens, cdf = inverse_cdf(rows, u), rows.double().cumsum(-1)
    u = u[:, None] * cdf[:, -1:]
    plain = torch.searchsorted(cdf, u, right=True)[:, 0]
    other = tokens != plain
    assert (rows.gather(1, tokens[:, None]) > 0).all() and other.float().mean() < 0.02
    border = (cdf - u).abs().min(1).values / cdf[:, -1]
    assert (border[other] < 1e-6).all()
    assert vocab == 1 or len(set(tokens.tolist())) > 20


def test_the_coldest_temperature_is_greedy_on_large_logits():
    logits = 1e4 * torch.randn(100, 97, generator=torch.Generator().manual_seed(46))
    cold = pick(logits, Sampling(temperature=COLDEST), np.arange(100), 0)
    assert torch.equal(cold, logits.argmax(-1))


def test_the_ends_of_the_unit_interval(monkeypatch):
    """A uniform of 0 must skip leading tokens of probability 0, the largest one must not run off the end."""
    logits = torch.tensor([[-1e4, -1e4, 0.0, 1.0, -1e4]])
    largest = 1 - 2.0 ** -53
    for u, token in ((0.0, 2), (largest, 3)):
        monkeypatch.setattr(drawing, "uniforms", lambda seed, streams, step: np.array([u]))
        assert pick(logits, Sampling(), [0], 0).tolist() == [token]
    many = 3 * torch.randn(300, 97, generator=torch.Generator().manual_seed(43))
    totals = token_probabilities(many, Sampling()).double().sum(-1)
    assert totals.min() < 1 - 1e-8 and totals.max() > 1 + 1e-8      # in fp32 they do not add up to 1
    monkeypatch.setattr(drawing, "uniforms", lambda seed, streams, step: np.full(300, largest))
    assert pick(many, Sampling(), range(300), 0).tolist() == [96] * 300


@pytest.mark.parametrize("axis", ["seed", "stream", "step"])
def test_uniforms_are_uniform(axis):
    """Along each of the three numbers, in near values as in far ones; neighbours do not correlate."""
    stats = pytest.importorskip("scipy.stats")
    n = 4000
    if axis == "stream":
        near = np.arange(n, dtype=np.uint64)
        samples = [uniforms(3, near, 5), uniforms(3, near << np.uint64(40), 5)]
    elif axis == "step":
        samples = [np.array([uniforms(3, [5], step)[0] for step in range(n)])]
    else:
        samples = [np.array([uniforms(seed, [5], 3)[0] for seed in range(n)])]
    for u in samples:
        assert u.dtype == np.float64 and u.min() >= 0 and u.max() < 1 and len(set(u)) == n
        assert stats.kstest(u, "uniform").pvalue > 0.01
        assert stats.kstest((u * 2 ** 20) % 1, "uniform").pvalue > 0.01         # the low bits too
        assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 3 / n ** 0.5


def test_uniforms_differ_by_seed_stream_and_step_and_by_their_order():
    triples = [(a, b, c) for a in range(6) for b in range(6) for c in range(6)]
    assert len({float(uniforms(a, [b], c)[0]) for a, b, c in triples}) == 6 ** 3
    assert uniforms(1, [4, 2, 4], 3).tolist() == [float(uniforms(1, [s], 3)[0]) for s in (4, 2, 4)]


def test_uniforms_are_splitmix64():
    """In Python's unbounded integers; the finaliser against its published first output for seed 1234567."""
    def mix(z):
        z = (z + 0x9E3779B97F4A7C15) % 2 ** 64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2 ** 64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2 ** 64
        return z ^ (z >> 31)

    assert mix(1234567) == 6457827717110365317
    for seed, stream, step in ((0, 0, 0), (1, 2, 3), (2 ** 64 - 1, 2 ** 64 - 1, 63), (-1, 7, 1)):
        z = mix((mix((mix(seed % 2 ** 64) + stream) % 2 ** 64) + step) % 2 ** 64)
        assert uniforms(seed, [stream], step)[0] == (z >> 11) / 2 ** 53


# ---- values ----

@pytest.mark.parametrize("name, value", [
    ("max_new_tokens", 0), ("temperature", -0.1), ("temperature", float("nan")), ("top_k", -1),
    ("top_p", 0.0), ("top_p", 1.1), ("top_p", -0.5), ("top_p", float("nan")), ("repetition_penalty", 0.0),
    ("repetition_penalty", -1.0), ("repetition_penalty", float("inf")), ("seed", -1), ("seed", 2 ** 63),
    ("repetition_penalty", float("nan"))])
def test_values_out_of_range(name, value):
    with pytest.raises(ValueError, match=name):
        Sampling(**{name: value})


def test_values_at_the_edge_of_the_range():
    Sampling(max_new_tokens=1, temperature=0.0, top_k=0, top_p=1.0, repetition_penalty=0.01)


@pytest.mark.parametrize("temperature", [1e-38, 1e-5, 9.9e-5, float("inf")])
def test_temperatures_that_fp32_cannot_divide_by_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature = .* expected 0 .greedy. or at least 0.0001"):
        Sampling(temperature=temperature)
