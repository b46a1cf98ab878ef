"""Runs gathered by arm: what each arm is, its measures over the seeds, and two arms compared over the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from pydantic import ValidationError

from curate.project.params import ArmParams, Params, WeighParams
from curate.reporting.inputs import Material, Run
from curate.reporting.table import Cell, Spread, Table, written
from curate.selection.weights import params_of

OUTCOMES = {
    "heldout_accuracy": ("held-out accuracy", "heldout", "rewards/accuracies"),
    "train_accuracy": ("train accuracy", "train", "rewards/accuracies"),
    "accuracy_gap": ("accuracy gap", "overfitting", "accuracies"),
    "heldout_margin": ("held-out margin", "heldout", "rewards/margins"),
    "train_margin": ("train margin", "train", "rewards/margins"),
    "margin_gap": ("margin gap", "overfitting", "margins"),
    "heldout_chosen_reward": ("β·Δ(y_w)", "heldout", "rewards/chosen"),
    "heldout_rejected_reward": ("β·Δ(y_l)", "heldout", "rewards/rejected"),
    "heldout_kl": ("KL", "heldout", "kl"),
}
"""Measures of a run at its end (METHOD 6): name in files, name for people, part and key of metrics.json.

`margin_gap` is the training margin minus the held-out one, `accuracy_gap` the same of accuracies: overfitting.
`heldout_kl` is the KL divergence to the reference on held-out prompts, nats.
"""
WHAT = {"objective": "objective", "subset": "subset", "alpha": "α"}
"""What an arm is, in the table of runs; α only of B-DPO."""
KNOWN = ("arm", "seed", "objective", "pairs", "steps")


class Arm(NamedTuple):
    """An arm and its runs, by seed."""

    name: str
    params: ArmParams | None  # None: neither the runs' records nor params.yaml say
    weigh: WeighParams | None  # of B-DPO: what its weights were made with, where it is known
    runs: list[Run]

    @property
    def objective(self) -> str | None:
        return self.params.objective if self.params else self.runs[0].metrics.get("objective")

    @property
    def subset(self) -> str | None:
        return self.params.subset if self.params else None

    @property
    def alpha(self) -> float | None:
        return self.weigh.alpha if self.weigh else None

    def values(self, outcome: str) -> dict[int, float]:
        """A measure of OUTCOMES by seed."""
        _, part, measure = OUTCOMES[outcome]
        found = {run.seed: run.final(part, measure) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}

    def spread(self, outcome: str) -> Spread | None:
        return spread(list(self.values(outcome).values()))


class Difference(NamedTuple):
    """Mean of `arm` minus `other` over the seeds both have, its standard error, and the number of seeds."""

    arm: str
    other: str
    mean: float
    error: float
    n: int

    @property
    def within_noise(self) -> bool:
        """[ours] Less than two standard errors."""
        return self.mean == 0 or abs(self.mean) < 2 * self.error

    def __str__(self) -> str:
        verdict = "within noise (less than two standard errors)" if self.within_noise else "two standard errors or more"
        mean = f"{self.mean:+.4f}".replace("-", "−")
        return f"{self.arm} minus {self.other}: {mean} ± {self.error:.4f} (n = {self.n} seeds), {verdict}"


def arms_of(material: Material, params: Params | None) -> list[Arm]:
    """The arms in the order of train.arms; those that are not in it follow, in the order of their runs."""
    names = list(dict.fromkeys(run.arm for run in material.runs))
    order = {name: place for place, name in enumerate(params.train.arms)} if params else {}
    names.sort(key=lambda name: order.get(name, len(order)))
    return [_arm(name, [run for run in material.runs if run.arm == name], material, params) for name in names]


def _arm(name: str, runs: list[Run], material: Material, params: Params | None) -> Arm:
    known = _recorded(runs[0].record.get("settings")) or (params.arms.get(name) if params else None)
    weigh = None
    if known and known.objective == "bdpo":
        shared = params_of(runs[0].record.get("from")) or params_of(material.provenance)
        shared = shared or (params.weigh if params else None)
        weigh = known.weighing(shared) if shared else None
    return Arm(name, known, weigh, sorted(runs, key=lambda run: run.seed))


def _recorded(settings: Any) -> ArmParams | None:
    """The arm in a run's record, where a setting may be null; None where it is not one of this version."""
    if not isinstance(settings, dict):
        return None
    given = {key: value for key, value in (settings.get("settings") or {}).items() if value is not None}
    try:
        return ArmParams.model_validate(settings | {"settings": given})
    except ValidationError:
        return None


def spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), sd, len(values))


def compare(arm: Arm, other: Arm, outcome: str = "heldout_accuracy") -> Difference | None:
    """`arm` minus `other`, seed by seed; None below two seeds that both have."""
    ours, theirs = arm.values(outcome), other.values(outcome)
    seeds = [seed for seed in ours if seed in theirs]
    found = spread([ours[seed] - theirs[seed] for seed in seeds])
    if found is None or found.sd is None:
        return None
    return Difference(arm.name, other.name, found.mean, found.sd / math.sqrt(found.n), found.n)


def evaluated(arms: Sequence[Arm], heldout: int, params: Params | None) -> list[int]:
    """How many of `heldout` pairs the measures are of: each count that occurs among the arms, where it is known."""
    counts = set()
    for arm in arms:
        train = arm.runs[0].record.get("train")
        drawn = train.get("eval_pairs") if isinstance(train, dict) else None
        if drawn is None and params:
            drawn = (arm.params.training(params.train) if arm.params else params.train).eval_pairs
        if isinstance(drawn, int):
            counts.add(min(drawn, heldout))
    return sorted(counts)


def arm_table(arms: Sequence[Arm]) -> Table:
    """Every arm: what it is, and mean and standard deviation of each measure over its seeds."""
    columns = ["arm", "objective", "subset", "seeds", "pairs", "steps", *(label for label, _, _ in OUTCOMES.values())]
    rows: list[list[Cell]] = [
        [arm.name, arm.objective, arm.subset, len(arm.runs), _all(arm, "pairs"), _all(arm, "steps")]
        + [arm.spread(outcome) for outcome in OUTCOMES]
        for arm in arms
    ]
    return Table("Every arm at its end", columns, rows)


def _all(arm: Arm, name: str) -> Cell:
    """A count that its runs share; the lowest and the highest where they differ (early stopping)."""
    found = sorted({run.metrics[name] for run in arm.runs if name in run.metrics})
    if len(found) < 2:
        return found[0] if found else None
    return f"{written(found[0])}–{written(found[-1])}"


def run_frame(arms: Sequence[Arm]) -> pl.DataFrame:
    """A row an arm and seed: what it is, KNOWN, OUTCOMES, and whatever else metrics.json counts (swapped, lambda)."""
    rows = [
        {"arm": arm.name, "seed": run.seed}
        | {name: getattr(arm, name) for name in WHAT}
        | {name: run.metrics.get(name) for name in ("pairs", "steps")}
        | {name: arm.values(name).get(run.seed) for name in OUTCOMES}
        | {
            name: value
            for name, value in run.metrics.items()
            if name not in KNOWN and isinstance(value, int | float | str)
        }
        for arm in arms
        for run in arm.runs
    ]
    return pl.from_dicts(rows, infer_schema_length=None) if rows else pl.DataFrame()


def run_table(arms: Sequence[Arm]) -> Table:
    frame = run_frame(arms)
    labels = WHAT | {name: label for name, (label, _, _) in OUTCOMES.items()}
    return Table("Every run", [labels.get(name, name) for name in frame.columns], [list(row) for row in frame.rows()])


def arm_metrics(arm: Arm) -> dict[str, Any]:
    """An arm for `dvc metrics`: mean, sd and n of each measure over its seeds."""
    about = {"objective": arm.objective, "subset": arm.subset, "alpha": arm.alpha, "seeds": len(arm.runs)}
    counts = {name: _all(arm, name) for name in ("pairs", "steps")}
    spreads = {outcome: arm.spread(outcome) for outcome in OUTCOMES}
    return about | counts | {name: found._asdict() if found else None for name, found in spreads.items()}
