"""Intervals: against scipy, against the formulas written out, and against chance itself.

t_quantile   scipy's, to 1e-6
share        Wilson's interval when every cluster is one observation; one cluster, none, clusters that agree;
             coverage at the sizes of our studies: 15, 25, 75 news of 6 to 10 questions, easy, hard and even,
             answers correlated within a news item
ratio        Fieller's interval: the ratios that a t-test does not reject; none where the denominator may be
             zero; coverage

Coverage is simulated with a fixed seed; `pytest tests/test_stats.py -s -k coverage` prints it.
"""

import functools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm, t, ttest_1samp

from newnews.studies import stats
from newnews.studies.stats import cluster_sums, ratio, share, t_quantile

NOTHING = {"mean": None, "low": None, "high": None}


def bounds(found):
    return found["low"], found["high"]


@pytest.fixture
def quick(monkeypatch):
    """The quantile of each number of clusters computed once."""
    monkeypatch.setattr(stats, "t_quantile", functools.cache(t_quantile))


@pytest.mark.parametrize("df", [1, 2, 3, 5, 14, 24, 74, 500])
@pytest.mark.parametrize("p", [0.6, 0.95, 0.975, 0.995])
def test_t_quantile_is_that_of_scipy(p, df):
    assert t_quantile(p, df) == pytest.approx(t.ppf(p, df), rel=1e-6)


def test_cluster_sums_are_in_order_of_appearance():
    sums, counts = cluster_sums([1, 0, 1, 1, 5], ["b", "a", "b", "c", "a"])
    assert sums.tolist() == [2, 5, 1] and counts.tolist() == [2, 2, 1]


# ---- share ----

def wilson(p, n, z):
    """Both p0 for which |p - p0| = z sqrt(p0 (1 - p0) / n)."""
    a, b, c = 1 + z * z / n, -2 * p - z * z / n, p * p
    return sorted(np.roots([a, b, c]).real)


@pytest.mark.parametrize("right, n", [(3, 10), (1, 40), (20, 40), (37, 40), (150, 300)])
def test_single_observations_give_wilsons_interval_with_students_quantile(right, n, monkeypatch):
    """The clustered variance of single observations is p (1 - p) / (n - 1): one is spent on the mean."""
    values = [1] * right + [0] * (n - right)
    found = share(values, range(n))
    low, high = wilson(right / n, n - 1, t.ppf(0.975, n - 1))
    assert (found["mean"], found["n"]) == (right / n, n)
    assert bounds(found) == pytest.approx((low, high), abs=1e-7)
    if n == 300:                                            # and for many observations, scipy's
        monkeypatch.setattr(stats, "t_quantile", lambda p, df: norm.ppf(p))
        scipy = binomtest(right, n).proportion_ci(method="wilson")
        assert bounds(share(values, range(n))) == pytest.approx((scipy.low, scipy.high), abs=2e-4)


def test_the_variance_is_that_of_clusters():
    """Three clusters by hand: 4 of 4, 1 of 4, 1 of 2; p = .6, deviations of the sums 1.6, -1.4, -.2."""
    found = share([1, 1, 1, 1, 1, 0, 0, 0, 1, 0], list("aaaabbbbcc"))
    variance = 3 / 2 * (1.6 ** 2 + 1.4 ** 2 + 0.2 ** 2) / 100
    low, high = wilson(0.6, 0.24 / variance, t.ppf(0.975, 2))
    assert bounds(found) == pytest.approx((low, high), abs=1e-7)


def test_order_and_names_of_clusters_do_not_matter_but_clustering_does():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), 6)
    values = (rng.random(72) < np.repeat(rng.random(12), 6)).astype(int)
    found, order = share(values, clusters), rng.permutation(72)
    assert share(values[order], [f"news {c}" for c in clusters[order]]) == pytest.approx(found)
    single = share(values, range(72))
    assert found["high"] - found["low"] > 1.3 * (single["high"] - single["low"])


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("clusters", [2, 3, 5, 15, 25, 75])
def test_when_all_agree_every_cluster_counts_once(value, clusters):
    found = share([value] * 7 * clusters, np.repeat(np.arange(clusters), 7))
    low, high = wilson(value, clusters, t.ppf(0.975, clusters - 1))
    assert bounds(found) == pytest.approx((low, high), abs=1e-7)
    assert found["low"] <= found["mean"] <= found["high"]   # or a bar's error would be negative


def test_equal_clusters_do_not_make_certain():
    for right, size in [(5, 10), (1, 3), (1, 10), (7, 10), (2, 6)]:
        found = share([1] * right * 15 + [0] * (size - right) * 15, [*range(15)] * size)
        low, high = wilson(right / size, 15, t.ppf(0.975, 14))
        assert bounds(found) == pytest.approx((low, high), abs=1e-6)


def test_one_cluster_says_nothing_and_none_even_less():
    assert share([1, 0, 1, 1], ["a"] * 4) == {"mean": 0.75, "low": 0.0, "high": 1.0, "n": 4}
    assert share([True], ["a"]) == {"mean": 1.0, "low": 0.0, "high": 1.0, "n": 1}
    assert share([], []) == {**NOTHING, "n": 0}


def answers(rng, clusters, mean, correlation):
    """Right or wrong, (values, clusters): each news item has its own difficulty, Beta-distributed."""
    sizes = rng.integers(6, 11, clusters)
    strength = 1 / correlation - 1
    easy = rng.beta(mean * strength, (1 - mean) * strength, clusters)
    place = np.repeat(np.arange(clusters), sizes)
    return (rng.random(len(place)) < easy[place]).astype(float), place


@pytest.mark.parametrize("mean", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("clusters", [15, 25, 75])
def test_coverage_of_share(clusters, mean, quick):
    rng = np.random.default_rng([clusters, int(100 * mean)])
    found = [share(*answers(rng, clusters, mean, 0.2)) for _ in range(3000)]
    coverage = np.mean([s["low"] <= mean <= s["high"] for s in found])
    print(f"share, {clusters} news, mean {mean}: coverage {coverage:.3f}, "
          f"width {np.mean([s['high'] - s['low'] for s in found]):.3f}")
    assert 0.92 <= coverage <= 0.99


# ---- ratio ----

def paired(rng, clusters, true, gap):
    """Numerators, denominators (differences of 0/1 answers) and clusters; the expected ratio is `true`."""
    place = np.repeat(np.arange(clusters), 8)
    base = rng.random(len(place)) < 0.1
    level = np.clip(0.1 + gap + 0.1 * rng.standard_normal(clusters), 0, 1)[place]
    context = rng.random(len(place)) < level
    tuned = rng.random(len(place)) < 0.1 + true * (level - 0.1)
    return tuned * 1.0 - base, context * 1.0 - base, place


def test_ratio_holds_what_a_t_test_does_not_reject():
    numerators, denominators, place = paired(np.random.default_rng(3), 15, 0.6, 0.7)
    found = ratio(numerators, denominators, place)
    N, D = (cluster_sums(v, place)[0] for v in (numerators, denominators))
    assert found["mean"] == pytest.approx(N.sum() / D.sum())
    for end in (found["low"], found["high"]):
        assert ttest_1samp(N - end * D, 0).pvalue == pytest.approx(0.05, abs=1e-5)
    assert found["low"] < found["mean"] < found["high"]


def test_ratio_equals_fiellers_formula():
    """Fieller's bounds with g, as textbooks give them."""
    numerators, denominators, place = paired(np.random.default_rng(4), 25, 0.3, 0.5)
    N, D = (cluster_sums(v, place)[0] for v in (numerators, denominators))
    (v11, v12), (_, v22) = np.cov(N, D) / 25
    q, r, s = t.ppf(0.975, 24), N.mean() / D.mean(), D.mean()
    g = q * q * v22 / s ** 2
    centre = r - g * v12 / v22
    half = q / s * math.sqrt(v11 - 2 * r * v12 + r * r * v22 - g * (v11 - v12 ** 2 / v22))
    found = ratio(numerators, denominators, place)
    assert found["low"] == pytest.approx((centre - half) / (1 - g), abs=1e-6)
    assert found["high"] == pytest.approx((centre + half) / (1 - g), abs=1e-6)


def test_ratio_without_a_gap_has_no_interval():
    found = ratio([1, 0, 1, -1], [1, -1, 1, 0], "abcd")      # the denominators do not differ from zero
    assert found == {"mean": 1.0, "low": None, "high": None}
    found = ratio([5, 6, 5, 6], [1, -1, 1, 0], "abcd")       # nor here, where the numerators do
    assert found == {"mean": 22.0, "low": None, "high": None}
    assert ratio([1, 1], [0, 0], "ab") == ratio([1, -1], [1, -1], "ab") == NOTHING
    assert ratio([1, 1], [1, 1], "aa") == NOTHING            # one cluster
    assert ratio([0] * 5, [2, 3, 2, 2, 3], "abcde") == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_ratio_of_nothing():
    assert ratio([], [], []) == NOTHING


@pytest.mark.parametrize("clusters, true, gap", [(15, .6, .7), (25, .3, .6), (75, .9, .5), (25, 0, .6)])
def test_coverage_of_ratio(clusters, true, gap, quick):
    rng = np.random.default_rng([clusters, int(10 * true)])
    found = [ratio(*paired(rng, clusters, true, gap)) for _ in range(3000)]
    found = [r for r in found if r["low"] is not None]
    coverage = np.mean([r["low"] <= true <= r["high"] for r in found])
    print(f"ratio, {clusters} news, true {true}, gap {gap}: coverage {coverage:.3f}, {len(found)} bounded")
    assert len(found) > 2900 and 0.92 <= coverage <= 0.98
