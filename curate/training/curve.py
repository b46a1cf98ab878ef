"""The learning curve and the metrics of a run, from what the trainer logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from curate.base.files import Folder
from curate.training.trainer import METRICS

SIDES = ("train", "heldout")
METRICS_FILE = "metrics.json"
CURVE_FILE = "curve.csv"  # what tells a run from other folders with metrics: an evaluation, a report
RUN = Folder((CURVE_FILE, METRICS_FILE, "model"), ("rewards.parquet",))


def curve_of(history: list[dict[str, Any]], steps: int, steps_an_epoch: int) -> pl.DataFrame:
    """One row an evaluation and side: step, epoch, side, loss, METRICS, and the held-out side's kl where it was
    estimated, else null."""
    rows = {
        (entry["step"], side): {
            "step": entry["step"],
            "epoch": entry["step"] / steps_an_epoch,
            "side": side,
            "loss": entry[f"eval_{side}_loss"],
            **{name: entry[f"eval_{side}_{name}"] for name in METRICS},
            "kl": entry.get(f"eval_{side}_kl"),
        }
        for entry in history
        for side in SIDES
        if f"eval_{side}_loss" in entry
    }
    assert (0, "heldout") in rows, "no evaluation before the first step"
    curve = pl.DataFrame(list(rows.values()), schema_overrides={"kl": pl.Float64})
    return curve.sort("step", "side").filter(pl.col("step") <= steps)


def metrics_of(
    curve: pl.DataFrame, kept: int, known: Mapping[str, Any], ends: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """metrics.json: `known` of the run, each side at the step that was kept, the held-out one before the first step,
    the overfitting gap.

    There is no gap (null) where training pairs were turned round (`swapped` of `known`): the training side is then of
    the arm's labels and the held-out one of the pairs' own, and their difference is not overfitting. [ours]

    Args:
        ends: loss and METRICS by side where more pairs than the curve's were measured at the end, else empty.
    """

    def at(step: Any, side: str) -> dict[str, Any]:
        row = curve.filter((pl.col("step") == step) & (pl.col("side") == side)).row(0, named=True)
        return {key: row[key] for key in ("loss", *METRICS, *(["kl"] if side == "heldout" else []))}

    metrics = (
        dict(known) | {side: at(kept, side) | dict(ends.get(side, {})) for side in SIDES} | {"start": at(0, "heldout")}
    )
    # How much better the arm does on what it saw.
    metrics["overfitting"] = {
        key: None if known.get("swapped") else metrics["train"][f"rewards/{key}"] - metrics["heldout"][f"rewards/{key}"]
        for key in ("margins", "accuracies")
    }
    return metrics
