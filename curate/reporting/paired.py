"""Arms compared pair by pair: held-out accuracy and margin, and overfitting, over seeds and prompts together.

From each run's rewards.parquet. Prompts are drawn (of the training and of the held-out side apart), with all their
pairs, and seeds, independently of the prompts and jointly for both arms: the pigeonhole bootstrap (Owen 2007), as in
`curate.evaluation.statistics.compare`, which knows neither two sides nor arms that train on different pairs. [ours]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from curate.evaluation.statistics import DRAWS, Array, Difference, Interval, bounds, counts, holm, over_seeds, summed_up
from curate.pairs.schema import Split
from curate.reporting.inputs import Run
from curate.reporting.table import Cell, Table, Within

Measure = Literal["accuracy", "margin", "gap"]
MEASURES: dict[Measure, str] = {
    "accuracy": "held-out accuracy",
    "margin": "held-out margin",
    "gap": "train − held-out margin",
}
SIDES = (Split.TRAIN.value, Split.HELDOUT.value)


class Side(NamedTuple):
    """One side of an arm: sums over each prompt's pairs, and how many pairs those are: [prompts, seeds]."""

    margins: Array
    right: Array  # pairs of margin above zero
    pairs: Array


class Rewards(NamedTuple):
    """What an arm's runs came to, pair by pair."""

    seeds: tuple[int, ...]
    sides: dict[str, Side]  # the same prompts in the same order for every arm; one without pairs counts 0
    turned: bool = False  # training pairs, by the objective: there is no gap (`Run.turned`)
    beta: float | None = None  # the margins' unit

    def has(self, measure: Measure) -> bool:
        return not (self.turned and measure == "gap")

    def compares(self, other: Rewards, measure: Measure) -> bool:
        """Whether both have the measure, of the same held-out prompts, in one unit, with a seed in common."""
        asked, theirs = (one.sides[Split.HELDOUT.value].pairs.any(axis=1) for one in (self, other))
        alike = np.array_equal(asked, theirs) and (measure == "accuracy" or self.beta == other.beta)
        return alike and self.has(measure) and other.has(measure) and bool(set(self.seeds) & set(other.seeds))


class Drawn(NamedTuple):
    """How often each prompt of each side and each seed is drawn."""

    prompts: dict[str, Array]  # [draws, prompts]
    seeds: Array  # [draws, seeds]


class Compared(NamedTuple):
    """`arm` minus `other`; `corrected` is the p-value after Holm's correction over all that was compared."""

    arm: str
    other: str
    measure: Measure
    difference: Difference
    corrected: float


def of(runs: Sequence[Run], frame: pl.DataFrame) -> dict[str, Rewards]:
    """The rewards of the runs that have them, by arm, in the order of `runs`.

    Left out are runs of pairs that are not in `frame`, and those that were measured on validation prompts: their
    held-out side is another.

    Args:
        frame: has pair_id and prompt_key of every pair.
    """
    found: dict[str, dict[int, pl.DataFrame]] = {}
    turned = {run.arm for run in runs if run.turned}
    betas = {run.arm: run.beta for run in runs}
    keys = frame.select("pair_id", "prompt_key")
    for run in runs:
        if run.rewards is None or (run.record.get("train") or {}).get("validation_fraction"):
            continue
        rewards = run.rewards.join(keys, on="pair_id", how="left")
        if not rewards["prompt_key"].null_count():
            found.setdefault(run.arm, {})[run.seed] = rewards
    if not found:
        return {}
    everything = pl.concat([rewards for by_seed in found.values() for rewards in by_seed.values()])
    prompts = {side: everything.filter(side=side).select("prompt_key").unique().sort("prompt_key") for side in SIDES}
    return {
        name: _of(by_seed, prompts)._replace(turned=name in turned, beta=betas[name]) for name, by_seed in found.items()
    }


def _of(runs: Mapping[int, pl.DataFrame], prompts: Mapping[str, pl.DataFrame]) -> Rewards:
    seeds = tuple(sorted(runs))
    sides = {}
    for side, keys in prompts.items():
        columns = []
        for seed in seeds:
            each = (
                runs[seed]
                .filter(side=side)
                .group_by("prompt_key")
                .agg(pl.col("margin").sum(), right=(pl.col("margin") > 0).sum(), pairs=pl.len())
            )
            columns.append(keys.join(each, on="prompt_key", how="left", maintain_order="left").fill_null(0))
        sums = (np.stack([c[name].to_numpy() for c in columns], axis=1) for name in ("margin", "right", "pairs"))
        sides[side] = Side(*(each.astype(float) for each in sums))
    return Rewards(seeds, sides)


def value(rewards: Rewards, measure: Measure) -> float:
    """A measure over all seeds and pairs."""
    return float(_resampled(rewards, measure, Drawn(_once(rewards), np.ones((1, len(rewards.seeds)))))[0])


def by_seed(rewards: Rewards, measure: Measure) -> Array:
    """A measure over all pairs: [seeds]."""
    return _resampled(rewards, measure, Drawn(_once(rewards), np.eye(len(rewards.seeds))))


def _once(rewards: Rewards) -> dict[str, Array]:
    """Every prompt of each side once: a draw."""
    return {side: np.ones((1, len(rewards.sides[side].pairs))) for side in SIDES}


def compare(ours: Rewards, theirs: Rewards, measure: Measure, *, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Ours minus theirs over the seeds that both have, its 95% interval, and both p (as `statistics.compare` has them).

    A draw may hold none of an arm's few prompts of a side: what it comes to is not defined, and counts as
    `statistics.summed_up` says.

    Raises:
        ValueError: no seed in common.
    """
    both = _shared(ours, theirs)
    return _compare(both, measure, _draws(both[0], draws, seed))


def _compare(both: Sequence[Rewards], measure: Measure, drawn: Drawn) -> Difference:
    resampled = np.subtract(*(_resampled(one, measure, drawn) for one in both))
    ours, theirs = (value(one, measure) for one in both)
    sums = [[_sums(one, measure, side) for one in both] for side in SIDES]
    apart = np.concatenate([np.subtract(*each).mean(1) for each in sums])
    largest = max(abs(table).max(initial=0) for each in sums for table in each)
    low, high, p = summed_up(resampled, apart, largest)
    p_seeds = over_seeds(*(by_seed(one, measure) for one in both), paired=True, largest=largest)
    prompts = len(both[0].sides[Split.HELDOUT.value].pairs)
    return Difference(ours - theirs, low, high, p, p_seeds, prompts, len(both[0].seeds))


def _sums(rewards: Rewards, measure: Measure, side: str) -> Array:
    """What the measure is the mean of, over each prompt's pairs of a side: [prompts, seeds]."""
    found = rewards.sides[side]
    if measure != "gap" and side != Split.HELDOUT.value:
        return np.zeros_like(found.margins)
    return found.right if measure == "accuracy" else found.margins


def _shared(ours: Rewards, theirs: Rewards) -> list[Rewards]:
    """Both with the seeds that both have."""
    seeds = [one for one in ours.seeds if one in theirs.seeds]
    if not seeds:
        raise ValueError("the arms have no seed in common")
    return [_only(one, seeds) for one in (ours, theirs)]


def error(ours: Rewards, theirs: Rewards, measure: Measure, *, draws: int = DRAWS, seed: int = 0) -> float:
    """The standard error of `compare`'s difference: the standard deviation of its resamples."""
    both = _shared(ours, theirs)
    drawn = _draws(both[0], draws, seed)
    return float(np.subtract(*(_resampled(one, measure, drawn) for one in both)).std(ddof=1))


def family(rewards: Mapping[str, Rewards], wanted: Sequence[tuple[str, str, Measure]]) -> list[Compared]:
    """Every comparison (arm, other, measure) whose arms are there and compare in it, corrected for all of them together
    (Holm)."""
    found: list[tuple[str, str, Measure, Difference]] = []
    drawn: dict[int, Drawn] = {}  # by the number of seeds: all arms have the same prompts
    for arm, other, measure in wanted:
        if arm not in rewards or other not in rewards:
            continue
        ours, theirs = rewards[arm], rewards[other]
        if ours.compares(theirs, measure):
            both = _shared(ours, theirs)
            seeds = len(both[0].seeds)
            if seeds not in drawn:
                drawn[seeds] = _draws(both[0], DRAWS, 0)
            found.append((arm, other, measure, _compare(both, measure, drawn[seeds])))
    corrected = holm([one[-1].p for one in found])
    return [Compared(*one, float(p)) for one, p in zip(found, corrected, strict=True)]


def interval(rewards: Rewards, measure: Measure, *, draws: int = DRAWS) -> Interval:
    """The 95% interval of a measure of one arm, over seeds and prompts; NaN where it has too few prompts for one
    (`statistics.bounds`)."""
    return bounds(_resampled(rewards, measure, _draws(rewards, draws, 0)))


def table(rewards: Mapping[str, Rewards], others: Sequence[str]) -> Table | None:
    """Every arm beside each of `others` that is there, in every measure; None where there is nothing to compare."""
    wanted = [(arm, other, measure) for other in others for arm in rewards if arm not in others for measure in MEASURES]
    found = family(rewards, wanted)
    if not found:
        return None
    rows: list[list[Cell]] = [
        [
            f"{one.arm} − {one.other}",
            MEASURES[one.measure],
            _cell(one.difference),
            one.difference.seeds,
            one.difference.p,
            one.corrected,
            None if np.isnan(one.difference.p_seeds) else one.difference.p_seeds,
        ]
        for one in found
    ]
    columns = ["arms", "measure", "difference [95%]", "seeds", "p", "p, corrected", "p over seeds"]
    return Table("Arms beside each other, pair by pair", columns, rows)


def _cell(found: Difference) -> Cell:
    """The difference with its interval, where it has one."""
    return found.mean if np.isnan(found.low) else Within(found.mean, found.low, found.high)


def _draws(rewards: Rewards, draws: int, seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    prompts = {side: counts(rng, len(rewards.sides[side].pairs), draws) for side in SIDES}
    return Drawn(prompts, counts(rng, len(rewards.seeds), draws))


def _resampled(rewards: Rewards, measure: Measure, drawn: Drawn) -> Array:
    """The measure in each draw: [draws]; NaN where none of the side's pairs is drawn."""
    prompts, seeds = drawn

    def mean(side: str, sums: Array) -> Array:
        pairs = ((prompts[side] @ found[side].pairs) * seeds).sum(1)
        return np.asarray(((prompts[side] @ sums) * seeds).sum(1) / np.where(pairs, pairs, np.nan))

    found = rewards.sides
    if measure == "accuracy":
        return mean(Split.HELDOUT.value, found[Split.HELDOUT.value].right)
    heldout = mean(Split.HELDOUT.value, found[Split.HELDOUT.value].margins)
    return heldout if measure == "margin" else mean(Split.TRAIN.value, found[Split.TRAIN.value].margins) - heldout


def _only(rewards: Rewards, seeds: Sequence[int]) -> Rewards:
    at = [rewards.seeds.index(seed) for seed in seeds]
    sides = {side: Side(*(each[:, at] for each in one)) for side, one in rewards.sides.items()}
    return rewards._replace(seeds=tuple(seeds), sides=sides)
