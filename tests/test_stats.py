"""Intervals: against scipy and against the formulas written out.

t_quantile   scipy's, to 1e-6
share        Wilson's interval at an effective size worked out by hand; one cluster, none, clusters that
             agree; one more right answer moves it a little
crossed      the variances of news and seeds written out, for paired and ratio too
paired       scipy's t-test and permutation test over clusters
mcnemar, holm, smallest_effect     scipy's binomial test; by hand; the power of the noncentral t distribution
ratio        Fieller's interval: the ratios that a t-test does not reject; none where the denominator may be
             zero

Coverage, simulated: test_stats_coverage.py.
"""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, nct, norm, permutation_test, t, ttest_1samp

from newnews.studies import stats
from newnews.studies.stats import (cluster_sums, crossed, effective_size, holm, mcnemar, paired, ratio, share,
                                    sign_flips, smallest_effect, t_quantile, wilson)

NOTHING = {"mean": None, "low": None, "high": None}


def bounds(found):
    return found["low"], found["high"]


@pytest.mark.parametrize("df", [1, 2, 3, 5, 14, 24, 74, 500])
@pytest.mark.parametrize("p", [0.6, 0.95, 0.975, 0.995])
def test_t_quantile_is_that_of_scipy(p, df):
    assert t_quantile(p, df) == pytest.approx(t.ppf(p, df), rel=1e-6)


def test_cluster_sums_are_in_order_of_appearance():
    sums, counts = cluster_sums([1, 0, 1, 1, 5], ["b", "a", "b", "c", "a"])
    assert sums.tolist() == [2, 5, 1] and counts.tolist() == [2, 2, 1]


# ---- share ----

def wilson_by_roots(p, n, z):
    """Both p0 for which |p - p0| = z sqrt(p0 (1 - p0) / n)."""
    a, b, c = 1 + z * z / n, -2 * p - z * z / n, p * p
    return sorted(np.roots([a, b, c]).real)


@pytest.mark.parametrize("right, n", [(3, 10), (1, 40), (20, 40), (37, 40), (150, 300)])
def test_single_observations_give_wilsons_interval_with_students_quantile(right, n):
    """One answer a news item: nothing can correlate, and the size is at most one short of n."""
    found = share([1] * right + [0] * (n - right), range(n))
    q = right * (n - right) / n                             # n p (1 - p)
    size = n / max(1, (q * n / (n - 1) + 4) / (q + 4))
    assert (found["mean"], found["n"]) == (right / n, n) and n - 1 <= size <= n
    assert bounds(found) == pytest.approx(wilson_by_roots(right / n, size, t.ppf(0.975, n)), abs=1e-7)


@pytest.mark.parametrize("right, n", [(0, 12), (3, 10), (150, 300)])
def test_wilson_is_that_of_scipy(right, n):
    scipy = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n, norm.ppf(0.975)) == pytest.approx((scipy.low, scipy.high), abs=1e-9)


def test_the_design_effect_by_hand():
    """Three clusters: 4 of 4, 1 of 4, 1 of 2; p = .6, deviations of the sums 1.6, -1.4, -.2. Mean cluster
    size, weighted by answers, 3.6. Four answers' worth of a correlation of .7 is mixed in."""
    found = share([1, 1, 1, 1, 1, 0, 0, 0, 1, 0], list("aaaabbbbcc"))
    squares = 3 / 2 * (1.6 ** 2 + 1.4 ** 2 + 0.2 ** 2)
    size = 10 / ((squares + 4 * (1 + 2.6 * 0.7)) / (2.4 + 4))
    assert bounds(found) == pytest.approx(wilson_by_roots(0.6, size, t.ppf(0.975, 3)), abs=1e-7)


def test_much_data_outweighs_the_prior():
    """2000 clusters: the interval is that of the clustered variance, as statistics packages give it."""
    values, clusters = answers(np.random.default_rng(5), 2000, 0.4, 0.3)
    found = share(values, clusters)
    sums, counts = cluster_sums(values, clusters)
    error = np.sqrt(2000 / 1999 * ((sums - values.mean() * counts) ** 2).sum()) / len(values)
    low, high = values.mean() - 1.96 * error, values.mean() + 1.96 * error
    assert bounds(found) == pytest.approx((low, high), abs=1e-3)


def test_order_and_names_of_clusters_do_not_matter_but_clustering_does():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), 6)
    values = (rng.random(72) < np.repeat(rng.random(12), 6)).astype(int)
    found, order = share(values, clusters), rng.permutation(72)
    assert share(values[order], [f"news {c}" for c in clusters[order]]) == pytest.approx(found)
    single = share(values, range(72))
    assert found["high"] - found["low"] > 1.3 * (single["high"] - single["low"])
    turned = share(1 - values, clusters)                    # right and wrong change places
    assert (1 - turned["high"], 1 - turned["low"]) == pytest.approx(bounds(found))


def one_each(right, clusters, size):
    """`right` clusters with one right answer, the others without."""
    values = np.zeros((clusters, size), int)
    values[:right, 0] = 1
    return values.ravel(), np.repeat(np.arange(clusters), size)


def test_one_more_right_answer_moves_the_limits_a_little():
    """Its faults before: 0 of 150 had the upper limit .146 and 1 of 150 .040; 15 clusters of 5 of 10 had
    +-.24, and one answer flipped +-.09."""
    upper = [share(*one_each(right, 25, 6))["high"] for right in range(9)]
    assert upper[0] == pytest.approx(0.113, abs=1e-3)
    assert max(np.abs(np.diff(upper))) < 0.007
    assert upper == pytest.approx(np.maximum.accumulate(upper), abs=0.005)

    values, clusters = np.tile([0, 1], 75), np.repeat(np.arange(15), 10)
    even = share(values, clusters)
    values[0] = 1
    flipped = share(values, clusters)
    assert bounds(even) == pytest.approx((0.414, 0.586), abs=1e-3)
    assert bounds(flipped) == pytest.approx((0.421, 0.592), abs=1e-3)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("clusters", [2, 3, 5, 15, 25, 75])
def test_when_all_agree_the_prior_says_what_they_are_worth(value, clusters):
    found = share([value] * 7 * clusters, np.repeat(np.arange(clusters), 7))
    low, high = wilson_by_roots(value, 7 * clusters / (1 + 6 * 0.7), t.ppf(0.975, clusters))
    assert bounds(found) == pytest.approx((low, high), abs=1e-7)
    assert found["low"] <= found["mean"] <= found["high"]   # or a bar's error would be negative


def test_one_cluster_says_nothing_and_none_even_less():
    assert share([1, 0, 1, 1], ["a"] * 4) == {"mean": 0.75, "low": 0.0, "high": 1.0, "n": 4}
    assert share([True], ["a"]) == {"mean": 1.0, "low": 0.0, "high": 1.0, "n": 1}
    assert share([], []) == {**NOTHING, "n": 0}
    assert share([0] * 6, "aaabbb")["high"] < 0.9           # two say something


def answers(rng, clusters, mean, correlation):
    """Right or wrong, (values, clusters): each news item has its own difficulty, Beta-distributed."""
    easy = np.full(clusters, mean)
    if correlation:
        strength = 1 / correlation - 1
        easy = rng.beta(mean * strength, (1 - mean) * strength, clusters)
    place = np.repeat(np.arange(clusters), rng.integers(5, 11, clusters))
    return (rng.random(len(place)) < easy[place]).astype(float), place


# ---- news and seeds ----

def cochran(by_news, df, by_seed, S):
    """Error and quantile of two variances with few degrees of freedom."""
    total = by_news + by_seed
    return math.sqrt(total), (by_news * t.ppf(0.975, df) + by_seed * t.ppf(0.975, S - 1)) / total


def test_crossed_without_an_effect_of_seeds_is_share():
    """The same answers under every seed: the news are all that varies. One seed knows of no other."""
    values = (np.random.default_rng(1).random(60) < 0.4).astype(float)
    clusters = np.repeat(np.arange(12), 5)
    assert crossed(np.tile(values, (4, 1)), clusters) == pytest.approx(share(values, clusters))
    assert crossed([values], clusters) == share(values, clusters)


def test_seeds_that_differ_widen_the_interval_by_their_variance():
    """Seed 0 is always right, seed 1 half the time, seed 2 never; the news are all alike."""
    found = crossed([[1, 1] * 10, [0, 1] * 10, [0, 0] * 10], np.repeat(np.arange(10), 2))
    news = 0.25 / effective_size(np.full(10, 1.0), np.full(10, 2.0))
    error, quantile = cochran(news, 10, np.var([1, 0.5, 0], ddof=1) / 3, 3)
    assert (found["mean"], found["n"]) == (0.5, 20)
    assert bounds(found) == pytest.approx(wilson_by_roots(0.5, 0.25 / error ** 2, quantile), abs=1e-6)


def test_paired_over_seeds_by_the_formula():
    rng = np.random.default_rng(2)
    a = rng.normal(0, 2, (1, 9)) + rng.normal(0, 3, (4, 1)) + rng.normal(0, 1, (4, 9))
    found, single = paired(a, np.zeros((4, 9)), range(9)), paired(a.mean(0), np.zeros(9), range(9))
    error, quantile = cochran(a.mean(0).var(ddof=1) / 9, 8, a.mean(1).var(ddof=1) / 4, 4)
    assert bounds(found) == pytest.approx(
        (a.mean() - quantile * error, a.mean() + quantile * error), abs=1e-5)
    assert found["p"] == single["p"] and found["mean"] == pytest.approx(single["mean"])
    assert found["sd"] == pytest.approx(3 * error) and found["quantile"] == pytest.approx(quantile)
    assert paired(a, np.zeros(9), range(9)) == found        # one base for all seeds
    assert smallest_effect(9, found["sd"], quantile) == pytest.approx(
        (quantile + t.ppf(0.8, 8)) * error)


@pytest.fixture
def as_seen(monkeypatch):
    """No changed answers beyond those seen: what the formulas of books say."""
    monkeypatch.setattr(stats, "two_changes", lambda counts: 0)


def test_ratio_over_seeds_holds_what_the_two_variances_do_not_reject(as_seen):
    rng = np.random.default_rng(7)
    below, above = rng.normal(1, 0.2, 20), rng.normal(0.6, 0.2, (1, 20)) + rng.normal(0, 0.1, (3, 20))
    above += np.array([[-0.1], [0], [0.1]])
    found = ratio(above, below, range(20))
    r = above.mean() / below.mean()
    by_seed = above.mean(1).var(ddof=1) / 3
    quantile = cochran((above.mean(0) - r * below).var(ddof=1) / 20, 19, by_seed, 3)[1]
    assert found["mean"] == pytest.approx(r)
    for end in bounds(found):
        rest = above.mean(0) - end * below
        assert abs(rest.mean()) == pytest.approx(
            quantile * math.sqrt(rest.var(ddof=1) / 20 + by_seed), rel=1e-5)
    assert ratio(np.tile(above[0], (3, 1)), below, range(20)) == pytest.approx(
        ratio(above[0], below, range(20)))


def test_crossed_at_its_edges():
    assert crossed([[], []], []) == {**NOTHING, "n": 0}
    assert crossed([[1, 0], [0, 0]], "aa") == {"mean": 0.25, "low": 0.0, "high": 1.0, "n": 2}  # one news item
    sure = crossed(np.ones((3, 20)), np.repeat(np.arange(10), 2))
    assert sure["mean"] == sure["high"] == 1 and 0.7 < sure["low"] < 0.9 and sure["n"] == 20


# ---- differences ----

def test_paired_of_real_values_is_a_t_test_over_clusters():
    rng = np.random.default_rng(6)
    a, b, clusters = rng.normal(5, 2, 60), rng.normal(4, 2, 60), np.repeat(np.arange(12), 5)
    found = paired(a, b, clusters)
    per_news = (a - b).reshape(12, 5).mean(1)
    interval = ttest_1samp(per_news, 0).confidence_interval(0.95)
    if per_news.var(ddof=1) * 5 > (a - b).var():            # else the floor of independent answers holds
        assert bounds(found) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert found["mean"] == pytest.approx(per_news.mean()) and (found["n"], found["clusters"]) == (60, 12)


def test_paired_shares_count_two_changed_answers_more():
    a, b = [1, 1, 0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0, 1, 1]
    found = paired(a, b, [0, 0, 1, 1, 2, 2, 3, 3])
    squares = 4 / 3 * (1.25 ** 2 + 0.75 ** 2 + 0.25 ** 2 + 0.75 ** 2) + 2 * (1 + 0.7)
    half = t.ppf(0.975, 3) * math.sqrt(squares) / 8
    assert found["mean"] == 0.375 and found["sd"] == pytest.approx(math.sqrt(squares) / 4)
    assert bounds(found) == pytest.approx((0.375 - half, 1.0), abs=1e-6)     # no difference is above 1
    same = paired(a, a, [0, 0, 1, 1, 2, 2, 3, 3])
    assert same["p"] == 1 and same["low"] < 0 < same["high"]
    alike = paired([1, 0] * 20, [0, 0] * 20, [i // 4 for i in range(40)])   # each cluster changes by 2 of 4
    assert alike["sd"] > math.sqrt(10) * math.sqrt(40 * 0.25) / 40          # no less than independent answers


def test_paired_at_its_edges():
    assert paired([], [], [])["mean"] is None
    one = paired([1, 1], [0, 1], "aa")
    assert one["mean"] == 0.5 and one["low"] is one["p"] is None and one["clusters"] == 1
    with pytest.raises(ValueError, match="vectors of one length, found 2, 1, 2"):
        paired([1, 0], [1], "ab")


@pytest.mark.parametrize("clusters", [2, 5, 9])
def test_all_sign_flips_are_those_of_scipy(clusters):
    sums = np.random.default_rng(clusters).integers(-3, 5, clusters).astype(float)
    scipy = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flips(sums) == pytest.approx(scipy.pvalue)


def test_random_sign_flips_come_close_to_all_of_them(monkeypatch):
    sums = np.random.default_rng(8).normal(0.6, 1, 14)
    exact = sign_flips(sums)
    monkeypatch.setattr(stats, "EXACT", 13)
    assert sign_flips(sums) == sign_flips(sums) == pytest.approx(exact, abs=0.006) and 0.01 < exact < 0.5
    assert sign_flips(np.ones(40)) == pytest.approx(1 / 20001)      # never 0


@pytest.mark.parametrize("b, c", [(0, 0), (1, 0), (3, 3), (1, 8), (8, 1), (20, 45)])
def test_mcnemar_is_the_binomial_test(b, c):
    assert mcnemar(b, c) == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)


def test_holm():
    """By hand, and never less strict than a step before; with one comparison nothing changes."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.02]) == pytest.approx([1.0, 1.0, 0.06])
    assert holm([0.03]) == [0.03] and holm([]) == []


@pytest.mark.parametrize("clusters", [8, 15, 25, 75])
def test_the_smallest_effect_has_the_power_it_promises(clusters):
    """By the noncentral t distribution: the two-sided test finds it in 80% of studies."""
    limit = t.ppf(0.975, clusters - 1)
    effect = smallest_effect(clusters, 0.3, limit)
    shift = effect / 0.3 * math.sqrt(clusters)
    power = nct.sf(limit, clusters - 1, shift) + nct.cdf(-limit, clusters - 1, shift)
    assert power == pytest.approx(0.8, abs=0.02)
    assert effect > smallest_effect(clusters, 0.3, t.ppf(0.95, clusters - 1))
    assert smallest_effect(clusters, 0.6, limit) == pytest.approx(2 * effect)


# ---- ratio ----

def two_gaps(rng, clusters, true, gap):
    """Numerators, denominators (differences of 0/1 answers) and clusters; the expected ratio is `true`."""
    place = np.repeat(np.arange(clusters), 8)
    base = rng.random(len(place)) < 0.1
    level = np.clip(0.1 + gap + 0.1 * rng.standard_normal(clusters), 0, 1)[place]
    context = rng.random(len(place)) < level
    tuned = rng.random(len(place)) < 0.1 + true * (level - 0.1)
    return tuned * 1.0 - base, context * 1.0 - base, place


def test_ratio_holds_what_a_t_test_does_not_reject(as_seen):
    numerators, denominators, place = two_gaps(np.random.default_rng(3), 15, 0.6, 0.7)
    found = ratio(numerators, denominators, place)
    N, D = (cluster_sums(v, place)[0] for v in (numerators, denominators))
    assert found["mean"] == pytest.approx(N.sum() / D.sum())
    for end in (found["low"], found["high"]):
        assert ttest_1samp(N - end * D, 0).pvalue == pytest.approx(0.05, abs=1e-5)
    assert found["low"] < found["mean"] < found["high"]


def test_ratio_equals_fiellers_formula(as_seen):
    """Fieller's bounds with g, as textbooks give them."""
    numerators, denominators, place = two_gaps(np.random.default_rng(4), 25, 0.3, 0.5)
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
    assert ratio([-0.3, -0.2, -0.4], [-0.5, -0.4, -0.5], "abc") == NOTHING       # worse in context: no gap


def test_ratio_counts_two_changed_answers_more_than_were_seen():
    """25 news of six questions: a model that answers as the base does, and one that answers as in context."""
    place, gap = np.repeat(np.arange(25), 6), np.tile([1, 1, 1, 1, 0, 1], 25)
    two = 2 * (1 + 5 * 0.7) / 25 ** 2                       # of 25 sums of six that correlate by .7
    half = t.ppf(0.975, 24) * math.sqrt(two) / 5            # the gap is 5 in each
    assert ratio([0] * 150, gap, place) == pytest.approx({"mean": 0, "low": -half, "high": half})
    assert ratio(gap, gap, place) == pytest.approx({"mean": 1, "low": 1 - half, "high": 1 + half})
    assert ratio([gap] * 3, gap, place) == pytest.approx(ratio(gap, gap, place))


def test_ratio_of_nothing():
    assert ratio([], [], []) == NOTHING


