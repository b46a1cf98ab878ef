"""Intervals, tests and agreement by hand, against scipy and statsmodels, and by what they promise on simulated data."""

import math
import sys
from statistics import NormalDist

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from curate.base.errors import InputError
from curate.evaluation import statistics
from curate.evaluation.statistics import accuracy, compare, confusion, holm, kappa, mean, rate, wilson

COVERS = (0.92, 0.98)  # what a 95% interval may cover on finite samples


def rng(seed=0):
    return np.random.default_rng(seed)


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_its_formula(confidence):
    """(p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), also of sizes that are no whole numbers."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    for n in (1, 2, 7, 33.5, 100, 12345):
        for p in (0, 0.1, 1 / 3, 0.5, 1):
            half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
            expected = [(p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
            assert wilson(p * n, n, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_by_hand():
    """z = 1.959964: (5 + 1.9207) / 13.8415 -+ 1.959964 / 13.8415 sqrt(2.5 + 0.9604)."""
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=5e-5)


def test_wilson_at_the_edges():
    assert wilson(0, 0) == (0, 1)
    assert wilson(0, 37).low == 0
    assert wilson(37, 37).high == 1


@given(st.floats(0, 1), st.floats(1e-3, 1e6), st.floats(1.01, 10))
def test_wilson_holds_the_rate_and_shrinks_as_n_grows(p, n, more):
    interval = wilson(p * n, n)
    assert 0 <= interval.low <= p * n / n <= interval.high <= 1
    assert width(wilson(p * n * more, n * more)) < width(interval)
    assert wilson(p * n / more, n).high <= interval.high  # and with the successes it moves


def test_rate_of_one_seed_is_wilson():
    ones = rng().integers(0, 2, (50, 1))
    estimate = rate(ones)
    assert estimate[1:3] == pytest.approx(wilson(ones.sum(), 50))
    assert (estimate.value, estimate.n, estimate.prompts, estimate.seeds) == (ones.mean(), 50, 50, 1)


def test_rate_of_several_seeds_by_hand():
    """p = 1/2, sum (p_i - p)^2 = 1/2: variance 1/24; binomial (1/4)/8 = 1/32: deff 4/3, n_eff 8 / (4/3) = 6."""
    estimate = rate([[1, 1], [1, 0], [0, 1], [0, 0]])
    assert estimate[:3] == pytest.approx((0.5, *wilson(3, 6)))
    assert estimate[3:] == (8, 4, 2, 0)


@pytest.mark.parametrize(
    ("pattern", "successes", "effective"),
    [
        ([[1, 1, 1], [0, 0, 0]], 10, 20),  # seeds that agree: as many as prompts
        ([[1, 0], [0, 1]], 20, 40),  # prompts that agree: all responses count
        ([[1, 1], [1, 1]], 20, 20),
        ([[0, 0], [0, 0]], 0, 20),
    ],
)
def test_the_effective_size_of_a_rate_is_bounded(pattern, successes, effective):
    assert rate(pattern * 10)[1:3] == pytest.approx(wilson(successes, effective))


@pytest.mark.parametrize(("prompts", "seeds", "spread"), [(100, 1, 0.5), (100, 3, 0.5), (40, 5, 4)])
def test_a_rate_covers(prompts, seeds, spread):
    draw, covered = rng(1), 0
    for _ in range(1000):
        chance = draw.beta(spread, 1.5 * spread, (prompts, 1))  # of mean 0.4
        estimate = rate(draw.random((prompts, seeds)) < chance)
        covered += estimate.low <= 0.4 <= estimate.high
    assert COVERS[0] <= covered / 1000 <= COVERS[1]


def test_mean_is_scipys_bootstrap():
    """A bound is a quantile of 10,000 draws: its error is 0.027 standard errors; 0.15 is four of two such."""
    scores = rng().beta(0.5, 2, (200, 1))
    expected = scipy.stats.bootstrap((scores[:, 0],), np.mean, n_resamples=10_000, method="percentile", rng=rng(1))
    estimate = mean(scores)
    assert estimate.value == pytest.approx(scores.mean())
    assert estimate[1:3] == pytest.approx(expected.confidence_interval, abs=0.15 * scipy.stats.sem(scores[:, 0]))


def test_a_mean_of_equal_scores_is_not_certain():
    assert mean(np.zeros((20, 3))) == rate(np.zeros((20, 3)))
    assert mean(np.full((20, 3), 0.5))[1:3] == pytest.approx(wilson(10, 20))


def test_prompts_of_several_responses_count_by_their_number():
    """Means 1 of 3 responses and 0 of 1: 3/4; a draw of both prompts has 3/4, of one alone 1 or 0."""
    table = np.array([[1.0], [0.0]])
    found = mean(table, [3, 1])
    assert found == (0.75, 0.0, 1.0, 4, 2, 1, 0)
    assert compare(table, 1 - table, [3, 1], paired_seeds=True).mean == 0.5
    scores, others = rng().random((2, 40, 2))
    assert mean(scores, np.full(40, 3))._replace(n=80) == pytest.approx(mean(scores), rel=1e-12)
    assert compare(scores, others, np.full(40, 3), paired_seeds=False) == pytest.approx(
        compare(scores, others, paired_seeds=False), rel=1e-9
    )
    # As many rows of one response each, where the rows of a prompt are alike: the same mean, a wider interval.
    counts = np.repeat([1, 5], 20)
    clustered, apart = mean(scores[:, :1], counts), mean(np.repeat(scores[:, :1], counts, axis=0))
    assert clustered.value == pytest.approx(apart.value) and clustered.n == apart.n == 120
    assert width(clustered) > 1.5 * width(apart)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_mean_covers(seeds):
    draw, covered = rng(2), 0
    for _ in range(500):
        estimate = mean(0.6 * draw.random((100, 1)) + 0.4 * draw.random((100, seeds)), draws=500)
        covered += estimate.low <= 0.5 <= estimate.high
    assert COVERS[0] <= covered / 500 <= COVERS[1]


def test_p_by_hand():
    """Of 0.2, 0.1, -0.1 drawn thrice the sum is below 0 in 1 + 3 of 27 cases and 0 in 3, though not in floats."""
    difference = compare([[0.5], [0.3], [0.2]], [[0.3], [0.2], [0.3]], paired_seeds=True)
    assert difference.mean == pytest.approx(0.2 / 3)
    assert difference.p == pytest.approx(2 * 7 / 27, abs=0.03)  # three standard errors of 10,000 draws


@pytest.mark.parametrize("paired_seeds", [True, False])
def test_p_without_a_difference_or_with_few_is_not_small(paired_seeds):
    arm = rng().random((30, 2)).round(1)
    assert compare(arm, arm, paired_seeds=True)[:4] == (0, 0, 0, 1)
    for prompts, least in ((1, 1), (5, 1 / 16), (100, 2 / 10_001)):
        assert compare(np.ones((prompts, 2)), np.zeros((prompts, 2)), paired_seeds=paired_seeds).p == least


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.06])
def test_p_is_the_paired_t_tests_for_many_prompts(shift):
    """p from 10,000 draws has an error of 2 sqrt(p/2 (1 - p/2) / 10,000) <= 0.01 (0.003 at p = 0.05); four of them,
    and no skewness to add, as both arms have the same.
    """
    common, draw = rng(3).random(500), rng(4)
    ours = common + shift + draw.exponential(0.4, 500)
    theirs = common + draw.exponential(0.4, 500)
    expected = scipy.stats.ttest_rel(ours, theirs).pvalue
    half = expected / 2
    difference = compare(ours[:, None], theirs[:, None], paired_seeds=True)
    assert difference.p == pytest.approx(expected, abs=8 * (half * (1 - half) / 10_000) ** 0.5)


def variances(table):
    """A doubly centred table's sums of squares over the squared sizes: rows, columns, residual."""
    rows, columns = (table.mean(axis=axis, keepdims=True) - table.mean() for axis in (1, 0))
    residual = table - table.mean() - rows - columns
    return [(part**2).sum() / part.size**2 for part in (rows, columns, residual)]


@pytest.mark.parametrize("paired_seeds", [True, False])
def test_prompts_and_seeds_are_resampled_crossed(paired_seeds):
    """Resampling rows and columns apart has the variance sum a^2/R^2 + sum b^2/C^2 + sum e^2/(RC)^2 (Owen 2007).

    Unpaired seeds share the rows alone. With 40 seeds the interval is close to normal.
    """
    draw = rng(5)
    prompt, seed = draw.normal(0, 3, (200, 1)), draw.normal(0, 1, (1, 40))
    a, b = (
        prompt + seed + draw.normal(0, 1, (200, 1)) + draw.normal(0, 0.2, (1, 40)) + draw.normal(0, 5, (200, 40))
        for _ in range(2)
    )
    paired = variances(a - b)
    variance = sum(paired) if paired_seeds else paired[0] + sum(variances(a)[1:]) + sum(variances(b)[1:])
    difference = compare(a, b, paired_seeds=paired_seeds)
    assert width(difference) == pytest.approx(2 * 1.96 * variance**0.5, rel=0.04)


@pytest.mark.parametrize(("seeds", "paired_seeds"), [((1, 1), True), ((3, 3), True), ((3, 2), False)])
def test_a_difference_covers(seeds, paired_seeds):
    draw, covered = rng(6), 0
    for _ in range(500):
        common = draw.random((80, 1))
        ours, theirs = (common + draw.random((80, 1)) + 0.3 * draw.random((80, arm)) for arm in seeds)
        difference = compare(ours + 0.1, theirs, paired_seeds=paired_seeds, draws=500)
        covered += difference.low <= 0.1 <= difference.high
    assert COVERS[0] <= covered / 500 <= COVERS[1]


def test_p_is_uniform_under_the_null():
    draw, p_values = rng(7), []
    for _ in range(500):
        common = draw.random((100, 1))
        ours, theirs = common + draw.random((100, 1)), common + draw.random((100, 1))
        p_values.append(compare(ours, theirs, paired_seeds=True, draws=500).p)
    low, high = scipy.stats.binom(500, 0.05).interval(0.99)
    assert low <= sum(p < 0.05 for p in p_values) <= high
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_pairing_narrows_the_interval_of_arms_that_correlate():
    prompt = rng(8).random((200, 1))
    ours, theirs = prompt + 0.1 * rng(9).random((200, 3)), prompt + 0.1 * rng(10).random((200, 3))
    paired = compare(ours, theirs, paired_seeds=False)
    shuffled = compare(ours, rng(11).permutation(theirs), paired_seeds=False)
    assert width(paired) < width(shuffled) / 4
    assert paired.mean == pytest.approx(shuffled.mean)


def test_p_over_seeds_is_the_t_tests():
    """Three runs that gain .01, .02 and .03: t = .02 / (.01 / sqrt 3) = 3.46 with 2 degrees of freedom, p = .074. By
    the prompts alone, 60 of 1,000 that turn the same way, chance is as good as excluded."""
    theirs = np.zeros((1000, 3))
    ours = theirs.copy()
    for seed in range(3):
        ours[: 10 * (seed + 1), seed] = 1
    found = compare(ours, theirs, paired_seeds=True)
    assert found.p == 2 / 10_001
    expected = scipy.stats.ttest_1samp([0.01, 0.02, 0.03], 0).pvalue
    assert found.p_seeds == pytest.approx(expected) and round(expected, 3) == 0.074
    fixed = compare(ours, theirs[:, :1], paired_seeds=False, trained=False)
    assert fixed.p_seeds == pytest.approx(found.p_seeds) and fixed.p == pytest.approx(found.p)
    draw = rng(18)
    a, b, weights = draw.random((40, 4)), draw.random((40, 4)), draw.integers(1, 5, 40)
    means = [np.average(table, axis=0, weights=weights) for table in (a, b)]
    paired = compare(a, b, weights, paired_seeds=True, draws=10).p_seeds
    assert paired == pytest.approx(scipy.stats.ttest_rel(*means).pvalue)
    apart = compare(a, b[:, :3], weights, paired_seeds=False, draws=10).p_seeds
    assert apart == pytest.approx(scipy.stats.ttest_ind(means[0], means[1][:3], equal_var=False).pvalue)


@pytest.mark.parametrize(("paired_seeds", "theirs"), [(True, 3), (False, 3), (False, 2)])
def test_seeds_without_spread_leave_no_doubt(paired_seeds, theirs):
    """Whatever the rounding: .1 + .2 is not .3."""
    a, b = np.full((20, 3), 0.1 + 0.2), np.full((20, theirs), 0.3)
    assert compare(a, b, paired_seeds=paired_seeds).p_seeds == 1
    assert compare(a, b + 0.1, paired_seeds=paired_seeds).p_seeds == 0


def test_one_seed_says_nothing_of_other_runs():
    three, one = rng().random((20, 3)), rng(1).random((20, 1))
    assert math.isnan(compare(three, one, paired_seeds=False).p_seeds)  # of an arm that was trained once
    assert math.isnan(compare(one, one + 0.1, paired_seeds=True).p_seeds)
    assert math.isnan(compare(one, one + 0.1, paired_seeds=False, trained=False).p_seeds)
    assert compare(three, one, paired_seeds=False, trained=False).p_seeds < 1


def runs_of(prompts, seeds, draw):
    """An arm's runs: each has a rate of its own, .7 with a deviation of .05. In four of five answers the prompt decides
    which rate is enough, in the fifth chance does."""
    rates = np.clip(0.7 + draw.normal(0, 0.05, seeds), 0, 1)
    by_chance = draw.random((len(prompts), seeds)) < 0.2
    return (np.where(by_chance, draw.random((len(prompts), seeds)), prompts) < rates).astype(float)


@pytest.mark.parametrize(("seeds", "of_runs", "of_methods"), [(3, 0.21, 0.043), (5, 0.15, 0.063)])
def test_runs_differ_where_methods_do_not(seeds, of_runs, of_methods):
    """How often two arms of one method come out as different at 5%: docs/evaluation.md, Statistics."""
    draw, found = rng(16), []
    for _ in range(300):
        prompts = draw.random((1000, 1))
        found.append(compare(*(runs_of(prompts, seeds, draw) for _ in range(2)), paired_seeds=True, draws=200))
    shown = np.array([[one.p < 0.05, one.p_seeds < 0.05] for one in found])
    assert shown[:, 0].mean() == pytest.approx(of_runs, abs=0.005)
    assert shown.all(axis=1).mean() == pytest.approx(of_methods, abs=0.005)


@pytest.mark.slow
def test_runs_of_ten_arms_differ_where_methods_do_not():
    """How often one of ten arms, all of one method, comes out as different from an eleventh, after Holm's correction:
    docs/evaluation.md, Statistics."""
    draw, shown, claimed = rng(17), 0, 0
    for _ in range(60):
        prompts = draw.random((300, 1))
        other = runs_of(prompts, 3, draw)
        found = [compare(runs_of(prompts, 3, draw), other, paired_seeds=True, draws=500) for _ in range(10)]
        small = holm([one.p for one in found]) < 0.05
        shown += small.any()
        claimed += (small & [one.p_seeds < 0.05 for one in found]).any()
    assert (shown, claimed) == (11, 6)


def test_p_of_few_prompts_that_differ_is_smaller_than_an_exact_one():
    """9 prompts one way, 1 the other: McNemar's exact test has 2 (1 + 10) / 2^10 = .021. Docs/evaluation.md says so."""
    ours, theirs = np.zeros((2, 300, 1))
    ours[:9], theirs[9] = 1, 1
    exact = scipy.stats.binomtest(9, 10).pvalue
    assert exact == pytest.approx(22 / 1024) and compare(ours, theirs, paired_seeds=True).p == pytest.approx(
        0.008, abs=0.002
    )


def test_draws_that_are_not_defined_count_against_a_difference():
    """Of 100 draws above zero 2 are not defined: p is 2 (2 + 1) / 101, and the lower bound the least that there is."""
    resampled = np.arange(1.0, 101)
    apart = np.ones(20)
    assert statistics.summed_up(resampled, apart, 1)[2] == 2 / 101
    resampled[-2:] = np.nan
    low, high, p = statistics.summed_up(resampled, apart, 1)
    assert p == 6 / 101 and (low, high) == pytest.approx((1.475, 97.525))


def test_the_seed_alone_decides_and_chunks_do_not(monkeypatch):
    ours, theirs = rng(12).random((50, 3)), rng(13).random((50, 2))
    first = compare(ours, theirs, paired_seeds=False)
    assert first == compare(ours, theirs, paired_seeds=False)
    assert first[1:3] != compare(ours, theirs, paired_seeds=False, seed=1)[1:3]
    assert first.seeds == 2
    monkeypatch.setattr(statistics, "CHUNK", 50 * 333)
    assert compare(ours, theirs, paired_seeds=False) == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 * 0.01; then 2 * 0.03, and 0.04 is no less than that
        ([0.04, 0.04, 0.001, 0.9], [0.12, 0.12, 0.004, 0.9]),
        ([0.6, 0.7], [1, 1]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, expected):
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_lowers_nothing_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()


def test_holm_is_its_formula():
    """The k-th smallest of m times m - k + 1, no less than the one before and no more than 1."""
    p_values = rng(14).random((5, 12)) ** 4
    p_values[:, 3] = p_values[:, 7]
    for row in p_values:
        order = np.argsort(row)
        steps = np.minimum(1, np.maximum.accumulate(row[order] * np.arange(len(row), 0, -1)))
        assert holm(row)[order] == pytest.approx(steps, rel=1e-12)


@pytest.mark.parametrize("call", [lambda: wilson(1, 2), lambda: holm([0.5]), statistics.check_installed])
def test_without_statsmodels_the_remedy_is_said(call, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.delitem(sys.modules, "statsmodels")
    with pytest.raises(InputError, match="need statsmodels") as caught:
        call()
    assert "curate-preferences[evaluate]" in caught.value.details["remedy"]


def test_confusion_by_hand():
    matrix = confusion(["a", "b", "b", "c"], ["a", "a", "b", "b"], ["c", "b", "a"])
    assert matrix.tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert accuracy(matrix) == 0.5


def test_kappa_by_hand():
    """p_o = 80/100, p_e = 0.5*0.6 + 0.5*0.4 = 0.5, kappa = 0.3/0.5."""
    assert kappa(np.array([[45, 5], [15, 35]])) == 0.6


@pytest.mark.parametrize("labels", [2, 3, 7])
def test_kappa_is_statsmodels(labels):
    matrix = rng(labels).integers(0, 50, (labels, labels)) + 30 * np.eye(labels, dtype=np.int64)
    assert kappa(matrix) == pytest.approx(cohens_kappa(matrix).kappa, abs=1e-12)


def test_agreement_of_nothing_is_none():
    nothing, one_label = np.zeros((2, 2), dtype=np.int64), np.array([[9, 0], [0, 0]])
    assert (accuracy(nothing), kappa(nothing)) == (None, None)
    assert (accuracy(one_label), kappa(one_label)) == (1, None)


@pytest.mark.parametrize(
    "fault",
    [
        lambda: wilson(5, 4),
        lambda: wilson(-1, 4),
        lambda: wilson(float("nan"), 4),
        lambda: wilson(1, 4, confidence=95),
        lambda: rate([[0.5]]),
        lambda: rate([[float("nan")]]),
        lambda: rate([0, 1]),
        lambda: rate(np.empty((0, 3))),
        lambda: mean([[1.01]]),
        lambda: mean([[1], [0]], [2]),
        lambda: mean([[1], [0]], [2, 0]),
        lambda: compare([[1], [0]], [[1]], paired_seeds=False),
        lambda: compare([[1, 0]], [[1]], paired_seeds=True),
        lambda: compare([[np.nan]], [[1]], paired_seeds=True),
        lambda: holm([0.5, np.nan]),
        lambda: holm([1.5]),
        lambda: confusion(["a"], ["z"], ["a", "b"]),
        lambda: confusion(["a"], [], ["a"]),
        lambda: confusion(["a"], ["a"], ["a", "a"]),
    ],
)
def test_what_makes_no_sense_is_refused(fault):
    with pytest.raises(ValueError):
        fault()
