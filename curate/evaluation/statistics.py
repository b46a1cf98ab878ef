"""Rates, means, differences between arms and agreement between judges, each with its uncertainty at 95%.

Pure functions on arrays. `[prompts, seeds]` is one arm on one suite: a row is a prompt, a column a training run of
another seed, a value what the judge made of that run's response.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curate.base import memory
from curate.base.errors import InputError

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

CONFIDENCE = 0.95
DRAWS = 10_000
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
CHUNK = 2_000_000  # weights drawn at a time: 16 MB as integers, 16 MB as floats
ROUNDING = 1e-12  # of the largest value: a resampled difference below it is none


class Interval(NamedTuple):
    low: float
    high: float


class Estimate(NamedTuple):
    """A rate or a mean with its 95% interval."""

    value: float
    low: float
    high: float
    n: int  # responses, of all prompts and seeds
    prompts: int
    seeds: int
    unjudged: int = 0  # of the responses, without a verdict; only the caller knows


class Difference(NamedTuple):
    """Ours minus theirs, with its 95% interval and two two-sided p-values of no difference.

    `p` is by resampling, of these prompts and runs. `p_seeds` is of other training runs on the same prompts: a t-test
    of the seeds' own differences (`over_seeds`). A claim about a method needs both to be small. [ours]
    """

    mean: float
    low: float  # NaN like `high`: there is no interval (`bounds`)
    high: float
    p: float
    p_seeds: float  # NaN: an arm was trained once
    prompts: int
    seeds: int  # of the arm with fewer


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """The score interval of a binomial proportion (Wilson 1927), statsmodels'; (0, 1) where n is 0.

    Args:
        successes: from 0 to n; like n it may be fractional, of an effective sample size.

    Raises:
        ValueError: successes, n or confidence out of range.
        InputError: statsmodels is not installed.
    """
    if not (0 <= successes <= n < np.inf and 0 < confidence < 1):
        raise ValueError(f"no proportion: {successes} of {n} at confidence {confidence}")
    if n == 0:
        return Interval(0.0, 1.0)
    check_installed()
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    # Rounding must not push a bound past the rate: that of 0 or n successes off 0 or 1.
    return Interval(min(successes / n, float(low)), max(successes / n, float(high)))


def rate(values: npt.ArrayLike) -> Estimate:
    """The share of ones among values that are 0 or 1, with a Wilson interval.

    Responses of several seeds to one prompt are alike and tell less than as many prompts would. The interval is
    Wilson's at the effective size n / deff; deff is the variance of the mean with the prompt as cluster over the
    binomial one (Kish 1965; Rao and Scott 1992). The combination is ours:

        deff = [sum_i (p_i - p)^2 / (P (P - 1))] / [p (1 - p) / n],  p_i the rate of prompt i of P

    n / deff is kept within P (seeds agree on every prompt) and n (they are independent), and is P where p is 0 or 1.
    One seed: the plain Wilson interval. The prompts are the sample here; that other training runs would give
    other rates is not in the interval (in `compare` it is).

    Args:
        values: [prompts, seeds], 0 or 1.

    Raises:
        ValueError: no table of two dimensions, an empty one, or a value other than 0 and 1.
    """
    table = _table(values)
    if not ((table == 0) | (table == 1)).all():
        raise ValueError("a rate is of values 0 and 1")
    prompts, seeds = table.shape
    p = float(table.sum()) / table.size
    effective = float(prompts)
    if 0 < p < 1 and prompts > 1:
        variance = float(((table.mean(axis=1) - p) ** 2).sum()) / (prompts * (prompts - 1))
        effective = min(max(p * (1 - p) / variance, prompts), table.size) if variance else table.size
    return Estimate(p, *wilson(p * effective, effective), table.size, prompts, seeds)


def mean(
    values: npt.ArrayLike, responses: npt.ArrayLike | None = None, *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """The mean of scores from 0 to 1 with a percentile bootstrap interval over prompts and seeds, as in `compare`.

    Where all scores are the same, resampling shows no spread and would claim certainty. The interval is then Wilson's
    with the prompts as n: no scores from 0 to 1 vary more around their mean than zeros and ones do. [ours]

    Args:
        values: [prompts, seeds], 0 to 1.
        responses: [prompts], how many each value is the mean of; None: one. Every response counts the same.

    Raises:
        ValueError: no table of two dimensions, an empty one, a value outside [0, 1], or no such counts.
    """
    table = _table(values)
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError("a mean is of scores from 0 to 1")
    prompts, seeds = table.shape
    weights = _weights(responses, prompts)
    value = float((weights @ table).sum() / (weights.sum() * seeds))
    n = int(weights.sum()) * seeds
    if table.min() == table.max():
        return Estimate(value, *wilson(value * prompts, prompts), n, prompts, seeds)
    low, high = map(float, np.quantile(_resampled_means([table], weights, draws, seed)[0], TAILS))
    return Estimate(value, low, high, n, prompts, seeds)


def compare(
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    responses: npt.ArrayLike | None = None,
    *,
    paired_seeds: bool,
    trained: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """The difference of two arms' means on the same prompts, by a bootstrap paired by prompt.

    Prompts are drawn jointly for both arms. Of several seeds the seeds are drawn too, independently of the prompts
    (the pigeonhole bootstrap, Owen 2007): jointly where `paired_seeds`, else on each side by itself. The interval is
    that of percentiles, and

        p = min(1, 2 min(#(d* <= 0) + 1, #(d* >= 0) + 1) / (draws + 1))

    but never below 2^(1 - k), where k prompts differ: the least that a test of signs can give, since a resample of
    a few prompts that all agree would never cross zero. [ours] The interval has no such guard.

    One seed tells nothing of other training runs, and three tell little: where only the runs differ, simulated
    intervals of 3 seeds cover 75%, of 5 seeds 83%, and p, which no number of seeds bounds, is as much too small:
    `p_seeds` stands beside it. Where only the combination of prompt and run matters, the variance is up to three times
    too large: they cover 99%. With one seed and 20 prompts they cover 93%, with 100 95%.

    Args:
        ours, theirs: [prompts, seeds] each, rows in the same order; columns too where `paired_seeds`.
        trained: theirs were trained, each column with a seed; else (`base`) they are one fixed model.
        responses: as for `mean`; of both arms.

    Raises:
        ValueError: no table of two dimensions, an empty one, a value that is no finite number, or shapes that differ
            where they must not.
        InputError: several seeds, and statsmodels is not installed.
    """
    a, b = _table(ours), _table(theirs)
    weights = _weights(responses, len(a))
    if len(a) != len(b) or (paired_seeds and a.shape != b.shape):
        raise ValueError(f"arms of shapes {a.shape} and {b.shape} cannot be paired")
    if paired_seeds:
        resampled = _resampled_means([a - b], weights, draws, seed)[0]
    else:
        resampled = np.subtract(*_resampled_means([a, b], weights, draws, seed))
    per_prompt = a.mean(axis=1) - b.mean(axis=1)
    mean = float(weights @ per_prompt / weights.sum())
    largest = float(max(abs(a).max(), abs(b).max()))
    low, high, p = summed_up(resampled, per_prompt, largest)
    by_seed = [weights @ table / weights.sum() for table in (a, b)]
    if not trained:
        by_seed[1] = np.full(a.shape[1], by_seed[1].mean())
    p_seeds = over_seeds(*by_seed, paired=paired_seeds or not trained, largest=largest)
    return Difference(mean, low, high, p, p_seeds, len(a), min(a.shape[1], b.shape[1]))


def over_seeds(ours: Array, theirs: Array, *, paired: bool, largest: float) -> float:
    """The two-sided p-value of no difference between two arms, of other training runs: Student's t-test of the seeds'
    differences where they are `paired`, else Welch's (1947) of the two sides.

        t = mean / sqrt(sum_i e_i),  freedom (sum_i e_i)^2 / sum_i e_i^2 / (n_i - 1),  e_i = var_i / n_i

    over the differences (one i) or the sides (two). NaN where a side has one seed. Seeds without any spread leave no
    doubt: p is 0 where the means differ, else 1. [ours]

    Args:
        ours, theirs: [seeds] each, a run's mean.
        largest: magnitude of what the means are of, beside which rounding is told from a difference.
    """
    if min(len(ours), len(theirs)) < 2:
        return math.nan
    mean, rounding = abs(ours.mean() - theirs.mean()), ROUNDING * largest
    sides = [ours - theirs] if paired else [ours, theirs]
    if all(np.ptp(side) <= rounding for side in sides):
        return float(mean <= rounding)
    check_installed()
    from scipy.stats import t  # statsmodels needs it

    errors = np.array([side.var(ddof=1) / len(side) for side in sides])
    freedom = errors.sum() ** 2 / (errors**2 / [len(side) - 1 for side in sides]).sum()
    return float(2 * t.sf(mean / np.sqrt(errors.sum()), freedom))


def summed_up(resampled: Array, per_prompt: Array, largest: float) -> tuple[float, float, float]:
    """The 95% interval of resampled differences (`bounds`), and the two-sided p-value of no difference.

    A draw in which the difference is not defined (NaN) counts against one, whichever its sign. [ours]

    Args:
        resampled: [draws].
        per_prompt: [prompts], each prompt's own difference: of n that differ at all p is no less than 2^(1 - n).
        largest: magnitude of what was subtracted, beside which rounding is told from a difference.
    """
    rounding = ROUNDING * largest
    resampled = np.where(abs(resampled) <= rounding, 0.0, resampled)
    tail = min(int((~(resampled > 0)).sum()), int((~(resampled < 0)).sum())) + 1
    least = 2.0 ** (1 - int((abs(per_prompt) > rounding).sum()))
    return *bounds(resampled), min(1.0, max(2 * tail / (len(resampled) + 1), least))


def bounds(resampled: Array) -> Interval:
    """The 95% interval of percentiles. Draws that are not defined (NaN) count as below all others for its lower bound
    and as above all for its upper one; there is none (NaN) where they reach into it. [ours]"""
    undefined = np.isnan(resampled)
    if undefined.mean() >= TAILS[0]:
        return Interval(math.nan, math.nan)
    low, high = (
        np.quantile(np.where(undefined, end, resampled), tail)
        for end, tail in zip((-np.inf, np.inf), TAILS, strict=True)
    )
    return Interval(float(low), float(high))


def holm(p_values: npt.ArrayLike) -> Array:
    """The p-values of one family of hypotheses, adjusted by the step-down procedure of Holm (1979), in their order:
    statsmodels'.

    Raises:
        ValueError: a value outside [0, 1], or no list.
        InputError: statsmodels is not installed.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values are a list of numbers from 0 to 1")
    if not p.size:
        return p
    check_installed()
    from statsmodels.stats.multitest import multipletests

    with memory.passing_over():  # it collects garbage in each call
        return np.asarray(multipletests(p, method="holm")[1], dtype=np.float64)


def check_installed() -> None:
    """Raise `InputError` where statsmodels is not installed: asked before hours of work, not after."""
    if find_spec("statsmodels") is None:
        raise InputError("intervals and tests need statsmodels", remedy="pip install 'curate-preferences[evaluate]'")


def confusion(truth: Sequence[Hashable], predicted: Sequence[Hashable], labels: Sequence[Hashable]) -> Counts:
    """How often each label (row) was called each (column), in the order of `labels`: [labels, labels].

    Raises:
        ValueError: lists of unequal length, a label twice in `labels`, or one that is not there.
    """
    number = {label: row for row, label in enumerate(labels)}
    if len(number) != len(labels) or not {*truth, *predicted} <= number.keys():
        raise ValueError(f"labels are not distinct or not all of them: {list(labels)}")
    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for true, guess in zip(truth, predicted, strict=True):
        matrix[number[true], number[guess]] += 1
    return matrix


def accuracy(matrix: Counts) -> float | None:
    """The share of a confusion matrix on its diagonal; None where it counts nothing."""
    total = int(matrix.sum())
    return int(matrix.trace()) / total if total else None


def kappa(matrix: Counts) -> float | None:
    """Agreement beyond chance of a confusion matrix (Cohen 1960); None where chance alone agrees on everything.

        kappa = (p_o - p_e) / (1 - p_e),  p_o the diagonal's share, p_e = sum_k row share_k * column share_k

    [[45, 5], [15, 35]]: p_o = 80/100; rows hold 50, 50, columns 60, 40: p_e = 0.5*0.6 + 0.5*0.4 = 0.5; so
    kappa = (0.8 - 0.5) / (1 - 0.5) = 0.6.
    """
    total = int(matrix.sum())
    # Counts stay integers, so that an expected agreement of 1 is met exactly.
    chance = int(matrix.sum(axis=0) @ matrix.sum(axis=1))
    return (total * int(matrix.trace()) - chance) / (total**2 - chance) if chance < total**2 else None


def _table(values: npt.ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError(f"expected finite numbers [prompts, seeds], not empty; found shape {table.shape}")
    return table


def _weights(responses: npt.ArrayLike | None, prompts: int) -> Array:
    weights = np.ones(prompts) if responses is None else np.asarray(responses, dtype=np.float64)
    if weights.shape != (prompts,) or not ((weights >= 1) & (weights < np.inf)).all():
        raise ValueError(f"expected the number of responses to each of {prompts} prompts; found shape {weights.shape}")
    return weights


def _resampled_means(arms: Sequence[Array], weights: Array, draws: int, seed: int) -> Array:
    """Means of resampled tables: [arms, draws]. Rows are drawn jointly for all arms, columns for each arm.

    scipy.stats.bootstrap draws neither rows and columns at once nor prompts that stand for several responses. Totals
    are weighted by counts and divided last: of zeros and ones they are exact, and so are ties.
    """
    rng = np.random.default_rng(seed)
    prompts = len(arms[0])
    columns = [counts(rng, arm.shape[1], draws) for arm in arms]
    means = np.empty((len(arms), draws))
    step = max(1, CHUNK // prompts)
    for start in range(0, draws, step):
        chunk = slice(start, min(start + step, draws))
        rows = counts(rng, prompts, chunk.stop - chunk.start) * weights
        drawn = rows.sum(axis=1)
        for out, arm, drawn_columns in zip(means, arms, columns, strict=True):
            out[chunk] = ((rows @ arm) * drawn_columns[chunk]).sum(axis=1) / (drawn * arm.shape[1])
    return means


def counts(rng: np.random.Generator, size: int, draws: int) -> Array:
    """How often each of `size` things is drawn in `size` draws with replacement: [draws, size]."""
    return rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)
