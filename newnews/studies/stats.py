"""Means and ratios with 95% intervals, clustered by news item:
questions about one news item stand or fall together."""

import math

import numpy as np


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
    index = {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    place = np.array([index[c] for c in clusters], int)
    return np.bincount(place, np.asarray(values, float)), np.bincount(place)


def share(values, clusters):
    """Mean of 0/1 values with its 95% interval: {"mean", "low", "high", "n"}.

    Wilson's score interval at the effective sample size p (1 - p) / var, where var is the clustered variance
    of the mean (linearised ratio), with Student's quantile at clusters - 1 degrees of freedom (Korn &
    Graubard 1998; Dean & Pagano 2015). When all values agree the variance says nothing, and every cluster
    counts as one observation. Its coverage is simulated in tests/test_stats.py.
    """
    n = len(values)
    if n == 0:
        return {"mean": None, "low": None, "high": None, "n": 0}
    sums, counts = cluster_sums(values, clusters)
    C, p = len(sums), float(np.mean(values))
    if C == 1:
        return {"mean": p, "low": 0.0, "high": 1.0, "n": n}      # one news item says nothing about the next
    variance = C / (C - 1) * float(((sums - p * counts) ** 2).sum()) / n ** 2
    size = C if variance <= 0 else min(n, p * (1 - p) / variance)
    z = t_quantile(0.975, C - 1)
    centre = (p + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(p * (1 - p) / size + z * z / (4 * size * size))
    low, high = max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))
    return {"mean": p, "low": low, "high": high, "n": n}


def ratio(numerators, denominators, clusters):
    """Ratio of two paired sums with Fieller's 95% interval over clusters: {"mean", "low", "high"}.

    Fieller (1954): all r for which the mean of numerator - r * denominator does not differ from zero. Where
    the denominator itself may be zero that set is unbounded, and low and high are None.
    """
    sums, _ = cluster_sums(numerators, clusters)
    below, _ = cluster_sums(denominators, clusters)
    C = len(sums)
    if C < 2 or below.sum() == 0:
        return {"mean": None, "low": None, "high": None}
    z2 = t_quantile(0.975, C - 1) ** 2
    (vnn, vnd), (_, vdd) = np.cov(sums, below) / C
    N, D = sums.mean(), below.mean()
    a, b, c = D * D - z2 * vdd, N * D - z2 * vnd, N * N - z2 * vnn
    mean = float(N / D)
    root = b * b - a * c
    if a <= 0 or root < 0:
        return {"mean": mean, "low": None, "high": None}
    return {"mean": mean, "low": float((b - math.sqrt(root)) / a), "high": float((b + math.sqrt(root)) / a)}
