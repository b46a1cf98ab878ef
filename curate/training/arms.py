"""An arm's objective, settings and pairs: all that can be refused is refused here, before anything loads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import polars as pl

from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.objectives.registry import OBJECTIVES, Objective
from curate.pairs import heldout as draws
from curate.pairs.schema import QueryType, Split
from curate.project.params import WEIGHTED, ArmParams, TrainParams, WeighParams
from curate.selection import relabelling
from curate.selection.weights import weigh

DATA_SETTINGS: dict[str, dict[str, float]] = {
    "cdpo": {"lambda": 1.0, "cost_limit": math.inf, "eta": 0.1, "rounds": 200.0},
    "door": {"longest": 100.0},
    "w-door": {"longest": 100.0, "tau": 5.0},
}
"""Settings of an objective that act on its data, not in its loss, and their defaults.

cdpo: lambda of r - lambda c; with a finite cost_limit dual ascent finds it, by steps of eta, at most `rounds`.
door, w-door: the longest harmful beginning, tokens. w-door: the temperature of the token weights.
"""


class Bound(NamedTuple):
    """What a setting may be."""

    holds: Callable[[float], bool]
    says: str


POSITIVE = Bound(lambda value: value > 0, "above 0")
NOT_NEGATIVE = Bound(lambda value: value >= 0, "0 or above")
WHOLE = Bound(lambda value: value >= 1 and value == int(value), "a whole number, 1 or above")
BOUNDS: dict[str, Bound] = {
    "beta": POSITIVE,
    "alpha": NOT_NEGATIVE,
    "gamma_beta_ratio": NOT_NEGATIVE,
    "delta": NOT_NEGATIVE,
    "tau": POSITIVE,
    "a": Bound(lambda value: 0 < value < 1, "between 0 and 1"),
    "b": POSITIVE,
    "longest": WHOLE,
    "lambda": NOT_NEGATIVE,
    "cost_limit": Bound(math.isfinite, "a finite number"),
    "eta": POSITIVE,
    "rounds": WHOLE,
}
"""Of every setting that an arm may have, by its name: it means the same in each objective."""


class Settings(NamedTuple):
    """An objective with every setting of it, checked."""

    objective: Objective
    loss: dict[str, float]  # the loss's settings, all of them
    data: dict[str, float]  # the data's

    def record(self) -> dict[str, float | None]:
        """All settings; None for one that is switched off."""
        return {name: value if math.isfinite(value) else None for name, value in (self.loss | self.data).items()}


class Pairs(NamedTuple):
    """An arm's pairs: columns of the weights file and `harmful` (DOOR), weights that are not used set to one."""

    training: pl.DataFrame
    heldout: pl.DataFrame
    record: dict[str, Any]  # what was done to the training pairs, for the metrics


def settings(arm: ArmParams, params: TrainParams) -> Settings:
    """The objective of an arm and every setting of it.

    Raises:
        UsageError: the objective has no such setting, or not with this value, or not beside the others.
    """
    objective = OBJECTIVES[arm.objective]
    data = dict(DATA_SETTINGS.get(arm.objective, {}))
    known = set(objective.settings) | set(data)
    for name, value in arm.settings.items():
        if name not in known:
            raise UsageError(
                "the objective has no such setting",
                field=f"settings.{name}",
                found=f"objective {arm.objective}",
                expected=", ".join(sorted(known)) or "none",
            )
        if not (math.isfinite(value) and BOUNDS[name].holds(value)):
            raise UsageError(
                "a setting of the objective is out of bounds",
                field=f"settings.{name}",
                found=f"{value:g}",
                expected=BOUNDS[name].says,
            )
    _check_price(arm)
    loss = {name: params.beta if default is None else default for name, default in objective.settings.items()}
    return Settings(
        objective,
        loss | {name: arm.settings[name] for name in loss if name in arm.settings},
        data | {name: arm.settings[name] for name in data if name in arm.settings},
    )


def _check_price(arm: ArmParams) -> None:
    """cdpo's lambda is given or found: what says the other thing would go unread."""
    given = arm.settings
    unread = ("lambda",) if "cost_limit" in given else ("eta", "rounds")
    for name in unread if arm.objective == "cdpo" else ():
        if name in given:
            raise UsageError(
                "a setting of the objective would change nothing",
                field=f"settings.{name}",
                found="a cost_limit, which finds lambda" if name == "lambda" else "no cost_limit to find lambda for",
                remedy="take one of the two away" if name == "lambda" else f"set cost_limit, or take {name} away",
            )


DOORS = ("door", "w-door")
HARMFUL = (pl.col("query_type") == QueryType.UNSAFE.value) & ~pl.col("rejected_safe").fill_null(False)
"""DOOR's y_h: the rejected response to an unsafe query, unless it is known to be safe. [ours]"""

VALIDATION = 0  # seed of the draw of validation prompts: the same for every arm and seed


def select(
    weights: pl.DataFrame,
    arm: ArmParams,
    settings: Settings,
    weigh_params: WeighParams,
    validation: float = 0.0,
) -> Pairs:
    """The arm's training and held-out pairs.

    The training pairs are of its subset, relabelled where the objective relabels (SafeDPO and DOOR by the labels, C-DPO
    by reward and cost); the held-out ones are the same for every arm, as they came. `DPO + SF` (scaling factor without
    balance weights) keeps the factor of the would-be weights (docs/method.md, Scaling factor).

    Args:
        validation: this share of the training prompts takes the place of the held-out ones, which are not read.

    Raises:
        InputError: no pair on one of the sides, or no labels or ratings that the objective needs.
    """
    if arm.weigh:
        weights = weigh(weights, arm.weighing(weigh_params), {"balance_gap": weigh_params.normalisation})
    one = pl.lit(1.0)
    uses = arm.objective in WEIGHTED
    frame = weights.with_columns(
        chosen_weight=pl.col("chosen_weight") if uses and arm.balance_weight else one,
        rejected_weight=pl.col("rejected_weight") if uses and arm.balance_weight else one,
        pair_scale=pl.col("pair_scale") if uses and arm.scaling_factor else one,
    )
    side = pl.col("split") == Split.TRAIN.value
    if validation:
        frame = frame.filter(side)
        frame = frame.with_columns(split=draws.draw(frame, validation, VALIDATION))
    training = frame.filter(side & (pl.lit(True) if arm.subset == "all" else pl.col(arm.subset)))
    heldout = frame.filter(~side)
    if training.is_empty():
        raise InputError(
            "no training pairs", field=f"subset {arm.subset}", remedy="prepare with more pairs, or another subset"
        )
    if heldout.is_empty():
        raise InputError(
            "no held-out pairs", field="split", remedy="prepare more prompts, or both sides (hub_split train+test)"
        )
    training, record = _relabelled(training, heldout, arm.objective, settings)
    if training.is_empty():
        raise InputError("relabelling left no training pair", field=f"objective {arm.objective}", found=str(record))
    training, heldout = (rows.with_columns(harmful=HARMFUL.cast(pl.Float64)) for rows in (training, heldout))
    if arm.objective in DOORS and not training["harmful"].sum():
        raise InputError(
            f"{arm.objective} trains refusals, and no training pair has a response known to be harmful",
            field="query_type, rejected_safe",
            found=f"query types {', '.join(map(str, training['query_type'].unique().sort()))}",
            remedy="use pairs with safety labels, or another objective",
        )
    return Pairs(training, heldout, record)


def _relabelled(
    training: pl.DataFrame, heldout: pl.DataFrame, objective: str, settings: Settings
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The training pairs as the objective has them, and what was done to them.

    Raises:
        InputError: no labels or ratings that the objective needs; SafeDPO's loss reads the labels of held-out pairs.
    """
    if objective == "cdpo":
        return _by_cost(training, settings)
    if objective == "safedpo":
        relabelling.check_labels(heldout)
        found = relabelling.safedpo(training)
    elif objective in DOORS:
        found = relabelling.door(training)
        if not found.swapped + found.dropped:
            return training, {}
        done = f"{found.swapped:,} pairs whose chosen response is unsafe are turned round, {found.dropped:,} left out"
        say(f"train: {objective}: {done}")
    else:
        return training, {}
    return found.frame, {"swapped": found.swapped, "dropped": found.dropped}


def _by_cost(training: pl.DataFrame, settings: Settings) -> tuple[pl.DataFrame, dict[str, Any]]:
    """C-DPO's pairs: chosen by r - lambda c, lambda given or found (docs/training.md, Objectives)."""
    data = settings.data
    lambda_, limit = data["lambda"], data["cost_limit"]
    record: dict[str, Any] = {}
    if math.isfinite(limit):
        lambda_, history = relabelling.dual_ascent(training, limit, data["eta"], int(data["rounds"]))
        last = history.row(-1, named=True)
        say(f"train: cost limit {limit:g}: lambda {lambda_:.3f}, expected cost {last['expected_cost']:.3f}")
        record = {"cost_limit": limit, "expected_cost": last["expected_cost"], "rounds": history.height}
    training, swapped, dropped = relabelling.cdpo(training, lambda_)
    return training, record | {"lambda": lambda_, "swapped": swapped, "dropped": dropped}
