"""Arms compared pair by pair: held-out accuracy and margin, and overfitting, over seeds and prompts together.

From each run's rewards.parquet. Prompts are drawn (of the training and of the held-out side apart), with all their
pairs, and seeds, independently of the prompts and jointly for both arms: the pigeonhole bootstrap (Owen 2007), as in
`curate.evaluation.statistics.compare`, which knows neither two sides nor arms that train on different pairs. [ours]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from curate.base.errors import InputError
from curate.base.files import read_provenance
from curate.evaluation.statistics import DRAWS, TAILS, Array, Difference, Interval, holm
from curate.pairs.schema import Split

Measure = Literal["accuracy", "margin", "gap"]
MEASURES: dict[Measure, str] = {
    "accuracy": "held-out accuracy",
    "margin": "held-out margin",
    "gap": "train − held-out margin",
}
REWARDS_FILE = "rewards.parquet"
SIDES = (Split.TRAIN.value, Split.HELDOUT.value)


class Side(NamedTuple):
    """One side of an arm: sums over each prompt's pairs [prompts, seeds], and how many pairs those are [prompts]."""

    margins: Array
    right: Array  # pairs of margin above zero
    pairs: Array


class Rewards(NamedTuple):
    """What an arm's runs came to, pair by pair."""

    seeds: tuple[int, ...]
    sides: dict[str, Side]  # the same prompts in the same order for every arm; one without pairs counts 0


class Compared(NamedTuple):
    """`arm` minus `other`; `corrected` is the p-value after Holm's correction over all that was compared."""

    arm: str
    other: str
    measure: Measure
    difference: Difference
    corrected: float


def read(folder: Path, frame: pl.DataFrame, arms: Sequence[str] | None = None) -> dict[str, Rewards]:
    """The rewards of the runs ARM/seed-SEED in `folder`, by arm in the order of `arms`, else of their names.

    Runs that were measured on validation prompts are left out: their held-out side is another.

    Args:
        frame: has pair_id and prompt_key of every pair.

    Raises:
        InputError: no run has any, or a pair of one is not in `frame`.
    """
    found: dict[str, dict[int, pl.DataFrame]] = {}
    for path in sorted(folder.glob(f"*/seed-*/{REWARDS_FILE}")):
        name, seed = path.parent.parent.name, int(path.parent.name.removeprefix("seed-"))
        trained = read_provenance(path).get("train") or {}
        if (arms is not None and name not in arms) or trained.get("validation_fraction"):
            continue
        rewards = pl.read_parquet(path).select("pair_id", "side", "margin")
        found.setdefault(name, {})[seed] = rewards.join(frame.select("pair_id", "prompt_key"), on="pair_id", how="left")
        if found[name][seed]["prompt_key"].null_count():
            raise InputError("a run is of other pairs", file=path, remedy="give the weights that it was trained from")
    if not found:
        raise InputError(f"no run here has {REWARDS_FILE}", file=folder, remedy="train the arms with this version")
    everything = pl.concat([rewards for runs in found.values() for rewards in runs.values()])
    prompts = {side: everything.filter(side=side).select("prompt_key").unique().sort("prompt_key") for side in SIDES}
    names = [name for name in arms if name in found] if arms is not None else list(found)
    return {name: _of(found[name], prompts) for name in names}


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
        margins, right = (np.stack([c[name].to_numpy() for c in columns], axis=1) for name in ("margin", "right"))
        sides[side] = Side(margins.astype(float), right.astype(float), columns[0]["pairs"].to_numpy().astype(float))
    return Rewards(seeds, sides)


def value(rewards: Rewards, measure: Measure) -> float:
    """A measure over all seeds and pairs."""
    ones = {side: np.ones((1, len(rewards.sides[side].pairs))) for side in SIDES}
    return float(_resampled(rewards, measure, ones, np.ones((1, len(rewards.seeds))))[0])


def compare(ours: Rewards, theirs: Rewards, measure: Measure, *, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Ours minus theirs over the seeds that both have, its 95% interval, and p (as `statistics.compare` has it).

    Raises:
        ValueError: no seed in common.
    """
    seeds = [one for one in ours.seeds if one in theirs.seeds]
    if not seeds:
        raise ValueError("the arms have no seed in common")
    both = [_only(one, seeds) for one in (ours, theirs)]
    resampled, at = _differences(both, measure, draws, seed)
    tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum())) + 1
    low, high = map(float, np.quantile(resampled, TAILS))
    prompts = len(ours.sides[Split.HELDOUT.value].pairs)
    return Difference(at, low, high, min(1.0, 2 * tail / (draws + 1)), prompts, len(seeds))


def error(ours: Rewards, theirs: Rewards, measure: Measure, *, draws: int = DRAWS, seed: int = 0) -> float:
    """The standard error of `compare`'s difference: the standard deviation of its resamples."""
    seeds = [one for one in ours.seeds if one in theirs.seeds]
    return float(_differences([_only(one, seeds) for one in (ours, theirs)], measure, draws, seed)[0].std(ddof=1))


def family(rewards: Mapping[str, Rewards], wanted: Sequence[tuple[str, str, Measure]]) -> list[Compared]:
    """Every comparison (arm, other, measure) whose arms are there, corrected for all of them together (Holm)."""
    there = [one for one in wanted if one[0] in rewards and one[1] in rewards]
    found = [compare(rewards[arm], rewards[other], measure) for arm, other, measure in there]
    corrected = holm([one.p for one in found])
    return [Compared(*names, one, float(p)) for names, one, p in zip(there, found, corrected, strict=True)]


def interval(rewards: Rewards, measure: Measure, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The 95% interval of a measure of one arm, over seeds and prompts."""
    return Interval(*map(float, np.quantile(_resampled(rewards, measure, *_draws(rewards, draws, seed)), TAILS)))


def _differences(both: Sequence[Rewards], measure: Measure, draws: int, seed: int) -> tuple[Array, float]:
    drawn = _draws(both[0], draws, seed)
    ours, theirs = (_resampled(one, measure, *drawn) for one in both)
    return ours - theirs, value(both[0], measure) - value(both[1], measure)


def _draws(rewards: Rewards, draws: int, seed: int) -> tuple[dict[str, Array], Array]:
    """How often each prompt of each side and each seed is drawn: [draws, prompts] and [draws, seeds]."""
    rng = np.random.default_rng(seed)

    def counts(size: int) -> Array:
        return rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)

    return {side: counts(len(rewards.sides[side].pairs)) for side in SIDES}, counts(len(rewards.seeds))


def _resampled(rewards: Rewards, measure: Measure, prompts: Mapping[str, Array], seeds: Array) -> Array:
    """The measure in each draw: [draws]."""

    def mean(side: str, sums: Array) -> Array:
        return np.asarray(
            ((prompts[side] @ sums) * seeds).sum(1) / ((prompts[side] @ found[side].pairs) * seeds.sum(1))
        )

    found = rewards.sides
    if measure == "accuracy":
        return mean(Split.HELDOUT.value, found[Split.HELDOUT.value].right)
    heldout = mean(Split.HELDOUT.value, found[Split.HELDOUT.value].margins)
    return heldout if measure == "margin" else mean(Split.TRAIN.value, found[Split.TRAIN.value].margins) - heldout


def _only(rewards: Rewards, seeds: Sequence[int]) -> Rewards:
    at = [rewards.seeds.index(seed) for seed in seeds]
    sides = {side: Side(one.margins[:, at], one.right[:, at], one.pairs) for side, one in rewards.sides.items()}
    return Rewards(tuple(seeds), sides)
