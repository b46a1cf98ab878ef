"""What a run will do, decided before anything loads: its settings, its pairs, where its checkpoints lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base.progress import say
from curate.models.resolve import Model
from curate.project.params import ArmParams, TrainParams, WeighParams
from curate.selection import measure
from curate.selection.weights import known_params
from curate.training import arms, checkpoints


class Plan(NamedTuple):
    """One arm with one seed."""

    weights: pl.DataFrame  # all pairs, as they were given
    model: Model  # the reference, and where the policy starts
    params: TrainParams  # the arm's own
    arm: ArmParams
    name: str  # of the arm, for the record
    out: Path
    state: Path
    provenance: dict[str, Any]  # of `weights`
    seed: int
    settings: arms.Settings
    pairs: arms.Pairs
    key: str  # digest of all that decides the result

    @property
    def steps_an_epoch(self) -> int:
        batches: int = math.ceil(self.pairs.training.height / self.params.batch_pairs)
        return math.ceil(batches / self.params.accumulation)

    @property
    def steps(self) -> int:
        return self.steps_an_epoch * self.params.epochs

    @property
    def evaluate_every(self) -> int:
        """Steps from one evaluation to the next. Rounded up: the last one is at the run's end, not just before it."""
        return math.ceil(self.steps / self.params.evaluations)

    @property
    def save_every(self) -> int:
        """Steps from one checkpoint to the next; an early stop needs one at each evaluation."""
        return self.evaluate_every if self.params.early_stop else math.ceil(self.steps / self.params.checkpoints)

    @property
    def checkpoints(self) -> Path:
        return self.state / "checkpoints" / self.key


def plan(
    weights: pl.DataFrame,
    model: Model,
    params: TrainParams,
    arm: ArmParams,
    name: str,
    out: Path,
    state: Path,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Plan:
    """The arguments are those of `curate.training.train.train`.

    Raises:
        UsageError: a setting that the objective does not have.
        InputError: no pairs, labels or ratings that the objective needs; or an arm has a `weigh` of its own, and how
            the others were weighed is not known.
    """
    provenance = dict(provenance or {})
    for warning in measure.warnings(provenance):
        say(f"train: warning: {warning}")
    params = arm.training(params)
    settings = arms.settings(arm, params)
    weighing = known_params(provenance) if arm.weigh else WeighParams()
    pairs = arms.select(weights, arm, settings, weighing, params.validation_fraction)
    key = checkpoints.key(pairs, model, params, arm, seed)
    return Plan(weights, model, params, arm, name, out, state, provenance, seed, settings, pairs, key)
