"""What a run came to, pair by pair: the rewards of each at the run's end."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from curate.training.build import EVALUATED, Built
from curate.training.curve import SIDES
from curate.training.pairs import PairDataset, draw
from curate.training.plan import Plan
from curate.training.trainer import METRICS

REWARDS_FILE = "rewards.parquet"


def rewards(plan: Plan, built: Built, step: int) -> pl.DataFrame:
    """A row a pair that the run is measured on: pair_id, side (train or heldout), loss, and METRICS but the accuracy.

    Those are `train.end_pairs` of each side, at least the pairs of the evaluations. What the last evaluation found is
    taken as it is where it was of these pairs and of the weights that are kept; else they are run once more.

    Args:
        step: of the weights that are kept, and that the trainer holds.
    """
    params, found = plan.params, []
    for side in SIDES:
        everything = plan.pairs.training if side == "train" else plan.pairs.heldout
        rows = draw(everything, params.measured_pairs, EVALUATED)
        at, values = built.trainer.measured.get(f"eval_{side}", (-1, np.empty((0, 0))))
        if at != step or len(values) != rows.height:
            dataset = PairDataset(built.tokenizer, rows, built.measuring, measured=True)
            values = built.trainer.predict(dataset).predictions
        found.append(_frame(rows, side, np.asarray(values, dtype=np.float64)))
    return pl.concat(found)


def _frame(rows: pl.DataFrame, side: str, values: np.ndarray) -> pl.DataFrame:
    """`values`: loss and METRICS [pairs, 7], in the order of `rows`."""
    named = dict(zip(("loss", *METRICS), values.T, strict=True))
    return rows.select("pair_id", side=pl.lit(side)).with_columns(
        **{_column(name): pl.Series(column) for name, column in named.items() if name != "rewards/accuracies"}
    )


def means(frame: pl.DataFrame, side: str) -> dict[str, Any]:
    """`frame` (of `rewards`) as an evaluation has it: the mean loss and METRICS of a side."""
    rows = frame.filter(side=side)
    found = {name: rows[_column(name)].mean() for name in ("loss", *METRICS) if name != "rewards/accuracies"}
    return found | {"rewards/accuracies": (rows["margin"] > 0).mean()}


def _column(metric: str) -> str:
    """rewards/chosen -> chosen_reward, logps/rejected -> rejected_logps."""
    kind, _, name = metric.partition("/")
    if name == "margins":
        return "margin"
    return f"{name}_{kind.removesuffix('s') if kind == 'rewards' else kind}" if name else metric
