"""The same data as CSV files for `dvc plots`, and the few numbers for `dvc metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.base.errors import InputError
from curate.base.files import Folder, write_json
from curate.evaluation import compare
from curate.pairs.schema import WEIGHTS
from curate.reporting.arms import Arm, arm_metrics, run_frame
from curate.reporting.canvas import limits
from curate.reporting.figures import BINS, drawn_points, finite
from curate.reporting.inputs import CURVE, Material, Run
from curate.reporting.tables import by_query_type

PAIRS_FILE = "pairs.json"
PLOTS = Folder(
    ("pmi.csv", "gap_histogram.csv", "weights_histogram.csv"), ("curves.csv", "kl.csv", "arms.csv", "evaluation.csv")
)
FIGURES = Folder(("mutual-information.svg",), ("*.svg", "*.png"))
METRICS = Folder((PAIRS_FILE,), ("*.json",))


def write_plots(material: Material, arms: Sequence[Arm], folder: Path, points: int) -> None:
    """pmi.csv, gap_histogram.csv, weights_histogram.csv and, where there are runs, curves.csv, kl.csv and arms.csv."""
    scored = finite(material.frame)
    pmi = drawn_points(scored, points).select("rejected_pmi", "chosen_pmi", "query_type")
    gap_edges = np.linspace(*limits(scored["pmi_gap"].to_numpy()), BINS + 1)
    gaps = [histogram(part["pmi_gap"], gap_edges, query_type=name) for name, part in by_query_type(scored)]
    every = material.frame.select(pl.concat_list(list(WEIGHTS)).explode()).to_series().drop_nulls().to_numpy()
    weight_edges = np.linspace(*limits(every, 0.0), BINS + 1)
    weights = [histogram(material.frame[name], weight_edges, weight=name) for name in WEIGHTS]
    pmi.write_csv(folder / "pmi.csv")
    pl.concat(gaps).write_csv(folder / "gap_histogram.csv")
    pl.concat(weights).write_csv(folder / "weights_histogram.csv")
    if arms:
        every_curve = curves([run for arm in arms for run in arm.runs])
        every_curve.write_csv(folder / "curves.csv")
        # Apart, for dvc plots draws an empty field as a zero.
        every_curve.drop_nulls("kl").select("arm", "seed", "side", "step", "kl").write_csv(folder / "kl.csv")
        run_frame(arms).write_csv(folder / "arms.csv")


def write_evaluations(arms: Sequence[compare.Arm], folder: Path) -> None:
    """evaluation.csv, where there are evaluations: every arm in every headline metric, with its interval."""
    rows = [
        {"arm": arm.name, "metric": str(key), **found._asdict()}
        for arm in arms
        for key, found in arm.estimates.items()
        if compare.about(arm.runs, key)["headline"]
    ]
    if rows:
        pl.from_dicts(rows).write_csv(folder / "evaluation.csv")


def histogram(values: pl.Series, edges: np.ndarray, **label: str) -> pl.DataFrame:
    """Columns: the label's, `value` (middle of the bin), `pairs`; values beyond the edges are in the last bins."""
    inside = np.clip(values.drop_nulls().to_numpy(), edges[0], edges[-1])
    middles = np.round((edges[:-1] + edges[1:]) / 2, 6)
    frame = pl.DataFrame({"value": middles, "pairs": np.histogram(inside, edges)[0]})
    return frame.select(*(pl.lit(text).alias(name) for name, text in label.items()), pl.all())


def curves(runs: Sequence[Run]) -> pl.DataFrame:
    """Every run's curve in one frame, with its arm and seed."""
    labelled = [
        run.curve.select(pl.lit(run.arm).alias("arm"), pl.lit(run.seed, pl.Int64).alias("seed"), *CURVE) for run in runs
    ]
    return pl.concat(labelled, how="vertical_relaxed")


def metrics(material: Material, arms: Sequence[Arm]) -> dict[str, Any]:
    """What `dvc metrics diff` compares. Shares lie in 0..1, gaps are in nats/token, margins in nats."""
    scored = finite(material.frame)
    parts = [("all", scored), *by_query_type(scored)]
    return {
        "pairs": material.frame.height,
        "positive_gap": {name: _number((part["pmi_gap"] > 0).mean()) for name, part in parts},
        "mean_abs_gap": {name: _number(part["pmi_gap"].abs().mean()) for name, part in parts},
        "arms": {arm.name: arm_metrics(arm) for arm in arms},
    }


SHOWN = {"accuracy": "heldout_accuracy", "margin": "heldout_margin", "margin_gap": "margin_gap", "kl": "heldout_kl"}


def write_metrics(metrics: dict[str, Any], folder: Path) -> None:
    """What `dvc metrics show` fits a screen with: pairs.json, and ARM.json for every trained arm, means over its seeds.

    Args:
        metrics: as `metrics` makes them.

    Raises:
        InputError: two would have one file.
    """
    write_json({"pairs": metrics["pairs"], "mean_abs_gap": metrics["mean_abs_gap"]["all"]}, folder / PAIRS_FILE)
    for name, arm in metrics["arms"].items():
        means = {short: arm[outcome]["mean"] for short, outcome in SHOWN.items() if arm[outcome]}
        file = folder / f"{name.replace('/', '-')}.json"
        if file.exists():
            raise InputError(
                "an arm's name is taken among the report's metrics",
                field=name,
                found=file.name,
                remedy="give the folder of its runs another name",
            )
        write_json(means, file)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
