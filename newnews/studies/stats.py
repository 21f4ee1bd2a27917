"""Means, differences and ratios with 95% intervals, clustered by news item: questions about one news item
stand or fall together.

    share       mean of 0/1 values                          crossed     the same, for other news and seeds
    paired      difference of two answer vectors, p value   mcnemar     exact test on single answers
    ratio       of two paired sums                          holm        p values of several comparisons
    smallest_effect     what so many news can show

crossed, paired and ratio take answers under S seeds, one row each, (S, n): the same n questions under every
seed. Coverage of every interval is simulated in tests/test_stats_coverage.py; docs/log.md has the table.
"""

import functools
import math

import numpy as np

# What `share` assumes before it has seen an answer: questions about one news item correlate by .7. That
# weighs as much as the sight of about 4 exceptions (right answers among wrong ones, or the reverse), so that
# 1 of 150 is not read as proof that they come singly. Chosen by simulation: with .6
# coverage falls under .93; with a weight of 2 the upper limit of 1 of 150 lies .015 below that of 0 of 150.
CORRELATION, WEIGHT = 0.7, 4
EXACT = 14              # clusters up to which all sign flips are counted: 2^14 = 16,384
FLIPS = 20_000          # random ones beyond: a p value of .05 is then known to +-.003


@functools.cache
def t_quantile(p, df):
    """Quantile of Student's t, p > .5: bisection on the distribution function,
    Simpson's rule on the density."""
    norm = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)

    def cdf(t):
        x = np.linspace(0, t, 2001)
        y = norm * (1 + x * x / df) ** (-(df + 1) / 2)
        return 0.5 + (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum()) * (x[1] - x[0]) / 3

    low, high = 0.0, 1.0
    while cdf(high) < p:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < p else (low, middle)
    return (low + high) / 2


def cluster_sums(values, clusters):
    """Sum and count of each cluster, two arrays (C,), in order of first appearance."""
    index = {}
    place = np.array([index.setdefault(key, len(index)) for key in clusters], int)
    return np.bincount(place, np.asarray(values, float)), np.bincount(place)


def wilson(p, size, quantile):
    """Wilson's score interval (low, high) of a share p of `size` observations. It holds p itself."""
    z2 = quantile ** 2
    centre = (p + z2 / (2 * size)) / (1 + z2 / size)
    half = quantile / (1 + z2 / size) * math.sqrt(p * (1 - p) / size + z2 / (4 * size * size))
    return float(max(0.0, min(p, centre - half))), float(min(1.0, max(p, centre + half)))


def squared_deviations(sums, counts):
    """The sum over G clusters of (sum - mean * count)^2, times G / (G - 1). Divided by the squared number of
    values it is the clustered variance of the mean (linearised ratio)."""
    G, mean = len(sums), sums.sum() / counts.sum()
    return G / (G - 1) * float(((sums - mean * counts) ** 2).sum())


def effective_size(sums, counts):
    """How many independent answers the 0/1 answers of C > 1 clusters are worth.

    n / deff. The design effect deff is the squared deviations of the clusters over the n p (1 - p) of
    independent answers, with WEIGHT answers' worth of CORRELATION mixed in. It is never under 1: clusters
    that happen to be all alike are no proof that answers about one news item repel each other.
    """
    n, p = counts.sum(), sums.sum() / counts.sum()
    before = 1 + ((counts ** 2).sum() / n - 1) * CORRELATION
    return n / max(1.0, (squared_deviations(sums, counts) + WEIGHT * before) / (n * p * (1 - p) + WEIGHT))


def share(values, clusters):
    """Mean of 0/1 values with its 95% interval: {"mean", "low", "high", "n"}.

    Wilson's score interval at the effective sample size (Korn & Graubard 1998; Dean & Pagano 2015), whose
    design effect is drawn towards a prior, with Student's quantile at as many degrees of freedom as clusters:
    C - 1, and one for the prior. One more right answer moves the limits a little, never by a jump.

    Simulated for 8 to 75 clusters of 5 to 10 questions, correlation 0 to .8, p from .01 to .99: coverage .933
    to 1.000. Over .98, so too wide, mostly with 8 clusters or independent answers: where exceptions are few,
    nobody can tell whether they come singly.
    """
    return crossed([values], clusters)


def crossed(values, clusters):
    """Mean of 0/1 values under S seeds, (S, n), with the 95% interval that holds for other news and other
    seeds: {"mean", "low", "high", "n" questions}.

    Averaged over the seeds, a question is one answer, and `share` says how far the news carry it; the
    variance of the seeds' means comes on top (`with_seeds`). With one seed this is `share`, which knows of no
    other.

    Simulated for 15 to 75 news, three seeds, means .03 to .97, seeds alike to very unlike (their means
    scatter by up to .25): coverage .93 to 1.00. Over .98, so too wide, unless seeds differ much.
    """
    values = np.array(values, float)                         # (S, n)
    n = values.shape[1]
    if n == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    each = values.mean(0)
    sums, counts = cluster_sums(each, clusters)
    C, mean = len(sums), float(each.mean())
    if C == 1:
        return {"mean": mean, "low": 0.0, "high": 1.0, "n": n}  # one news item says nothing about the next
    size = effective_size(sums, counts)
    variance, quantile = with_seeds(mean * (1 - mean) / size, C, values.mean(1))
    low, high = wilson(mean, mean * (1 - mean) / variance if variance else size, quantile)
    return {"mean": mean, "low": low, "high": high, "n": n}


def with_seeds(by_news, df, seed_means):
    """(variance, quantile of its 95% interval) of a mean that varies by news, with `df` degrees of freedom,
    and by seed. seed_means: its values under each of S seeds.

    The variances add up (what both share, the noise of single answers, counts twice: it is small, and with
    three seeds the variance between them is often underestimated). The quantile is the mean of both Student's
    quantiles, weighted by the variances (Cochran & Cox 1950): three seeds cost t = 4.3 as far as they
    differ, no further.
    """
    S = len(seed_means)
    by_seed = float(np.var(seed_means, ddof=1)) / S if S > 1 else 0.0
    if by_seed == 0:
        return by_news, t_quantile(0.975, df)
    total = by_news + by_seed
    return total, (by_news * t_quantile(0.975, df) + by_seed * t_quantile(0.975, S - 1)) / total


def paired(a, b, clusters, shares=True):
    """Difference of two answer vectors to the same questions, mean of a - b:
    {"mean", "low", "high", "p", "sd", "quantile", "n", "clusters"}. a, b: (n,), or (S, n) under S seeds.

    low, high   95% interval, Student's t over clusters, and over seeds (`with_seeds`). Where all answers lie
                between 0 and 1, and are shares, the variance counts two changed answers more than were seen,
                at CORRELATION: two vectors that agree everywhere are no proof that they always would
    p           sign-flip permutation test over clusters, two-sided: the share of all ways to swap a and b
                within whole clusters that give a difference as large; all 2^C for C <= EXACT, else FLIPS
                seeded ones and the one seen (Phipson & Smyth 2010). It is about other news, under these seeds
    sd, quantile    standard deviation of a cluster's difference and Student's quantile, for `smallest_effect`

    Simulated for 8 to 75 clusters of 5 to 10 questions, .01 to .3 of the answers changed: coverage at least
    .92 at correlations up to .3; at .6 down to .87 where at most a tenth changes, all in one direction. Over
    three seeds .96 to 1.00; down to .85 where their means scatter by .1 or more near 0 or 1.
    """
    a, b = np.atleast_2d(np.asarray(a, float)), np.atleast_2d(np.asarray(b, float))
    n = len(clusters)
    if not a.shape[1] == b.shape[1] == n:
        raise ValueError(f"paired: expected vectors of one length, found {a.shape[1]}, {b.shape[1]}, {n}")
    nothing = {"mean": None, "low": None, "high": None, "p": None, "sd": None, "quantile": None, "n": n,
               "clusters": 0}
    if n == 0:
        return nothing
    change = a - b                                          # (S, n)
    each = change.mean(0)
    sums, counts = cluster_sums(each, clusters)
    C, mean = len(sums), float(sums.sum() / n)
    if C == 1:
        return {**nothing, "mean": mean, "clusters": 1}
    squares = max(squared_deviations(sums, counts), float(((each - mean) ** 2).sum()))  # news do not repel
    both = np.concatenate([a.ravel(), b.ravel()])
    is_share = shares and bool(both.min() >= 0 and both.max() <= 1)
    if is_share:
        squares += two_changes(counts)
    variance, quantile = with_seeds(squares / n ** 2, C - 1, change.mean(1))
    half = float(quantile * math.sqrt(variance))
    low, high = (max(-1.0, mean - half), min(1.0, mean + half)) if is_share else (mean - half, mean + half)
    return {"mean": mean, "low": low, "high": high, "p": sign_flips(sums), "sd": math.sqrt(variance * C),
            "quantile": float(quantile), "n": n, "clusters": C}


def two_changes(counts):
    """What two answers that changed, at CORRELATION, add to the squared deviations of clusters."""
    return 2 * (1 + ((counts ** 2).sum() / counts.sum() - 1) * CORRELATION)


def sign_flips(sums):
    """Two-sided p value of the sum of C cluster sums under independent flips of their signs."""
    C, seen = len(sums), abs(sums.sum()) - 1e-9 * abs(sums).sum()       # equal but for rounding is as large
    if C <= EXACT:
        signs = 1 - 2 * (np.arange(2 ** C)[:, None] >> np.arange(C) & 1)
        return float((abs(signs @ sums) >= seen).mean())
    signs = 1 - 2 * np.random.default_rng(0).integers(0, 2, (FLIPS, C), dtype=np.int8)
    return float((1 + (abs(signs @ sums) >= seen).sum()) / (1 + FLIPS))


def mcnemar(b, c):
    """Exact two-sided p value of McNemar's test: of b + c questions that changed, b one way and c the other.
    It takes the questions for independent; use paired's p where several ask about one news item."""
    n = b + c
    tail = sum(math.comb(n, i) for i in range(min(b, c) + 1))
    return min(1.0, 2 * tail / 2 ** n)


def holm(p_values):
    """Holm's (1979) adjusted p values, in the given order: all under .05 hold together at 5%."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        adjusted[i] = min(1.0, float(largest))
    return adjusted


def smallest_effect(n_clusters, sd, quantile):
    """The smallest true difference that the interval of `paired` tells from zero in four of five studies.
    sd, quantile: paired's."""
    return (quantile + t_quantile(0.8, n_clusters - 1)) * sd / math.sqrt(n_clusters)


def ratio(numerators, denominators, clusters):
    """Ratio of two paired sums with Fieller's 95% interval over clusters: {"mean", "low", "high"}.
    numerators: (n,), or (S, n) under S seeds; denominators (n,) are the same under all.

    Fieller (1954): all r for which the mean of numerator - r * denominator does not differ from zero. Where
    the denominator itself may be zero that set is unbounded, and low and high are None. Seeds add the
    variance of the numerators' means, and their part of the quantile (`with_seeds`, at the ratio found).
    Numerators are changes of answers: their variance counts two more than were seen, as `paired`'s does. A
    model that answers everything as the base does, or as it does in context, may still change an answer.

    Simulated for 15 to 75 news and three seeds: coverage .93 to 1.00; down to .85 where the seeds' means
    scatter by .1 or more near 0 or 1. Where at most a tenth of the answers differs from the base's, or from
    those in context, .94 to 1.00, mostly too wide (without the two changes .47 to .96).
    """
    numerators = np.atleast_2d(np.asarray(numerators, float))                       # (S, n)
    sums, counts = cluster_sums(numerators.mean(0), clusters)
    below, _ = cluster_sums(denominators, clusters)
    C = len(sums)
    if C < 2 or below.sum() <= 0:               # there is no gap to recover
        return {"mean": None, "low": None, "high": None}
    (vnn, vnd), (_, vdd) = np.cov(sums, below) / C
    vnn += two_changes(counts) / C ** 2
    N, D = sums.mean(), below.mean()
    mean = float(N / D)
    by_news = max(0.0, vnn - 2 * mean * vnd + mean * mean * vdd)        # the variance of N - mean * D
    total, quantile = with_seeds(by_news, C - 1, numerators.sum(1) / C)
    z2, vnn = quantile ** 2, vnn + total - by_news
    a, b, c = D * D - z2 * vdd, N * D - z2 * vnd, N * N - z2 * vnn
    root = b * b - a * c
    if a <= 0 or root < 0:
        return {"mean": mean, "low": None, "high": None}
    return {"mean": mean, "low": float((b - math.sqrt(root)) / a), "high": float((b + math.sqrt(root)) / a)}
