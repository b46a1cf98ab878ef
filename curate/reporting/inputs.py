"""What a report is made from, all of it read from files; whatever is optional may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.errors import InputError
from curate.files import existing, read_artefact, read_json, read_provenance

SIDES = ("train", "heldout")
MEASURES = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)
CURVE = ("step", "epoch", "side", *MEASURES)
DOCUMENTS = ("prepare", "reference", "score", "split", "weigh")
"""The JSON summaries that the stages write."""


class Run(NamedTuple):
    """One training arm. `curve` has the columns CURVE; `metrics` has `train` and `heldout`."""

    arm: str
    curve: pl.DataFrame
    metrics: dict[str, Any]

    def final(self, side: str, measure: str) -> float | None:
        """A measure at the run's end; None where the side was not evaluated."""
        value = self.metrics[side].get(measure)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Material:
    """Everything that the report shows."""

    frame: pl.DataFrame  # pairs, scores, splits and weights
    provenance: dict[str, Any]
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)  # those of DOCUMENTS that are given
    runs: list[Run] = field(default_factory=list)

    def fact(self, name: str) -> Any:
        """The first plain value called `name` in the stages' summaries or the provenance of the weights."""
        for document in (*(self.documents.get(name) for name in ("score", "reference", "weigh")), self.provenance):
            found = _find(document or {}, name)
            if found is not None:
                return found
        return None


def read_material(
    weights: Path, documents: dict[str, Path], runs: Path | None, arms: Sequence[str] | None = None
) -> Material:
    """Read the files given. `arms` names the runs wanted, in order; None takes every run folder under `runs`.

    Raises:
        InputError: a file that was named is missing or is not what it should be.
    """
    return Material(
        frame=read_artefact(weights, "pairs", "scores", "splits", "weights"),
        provenance=read_provenance(weights),
        documents={name: read_object(path) for name, path in documents.items()},
        runs=[] if runs is None else read_runs(runs, arms),
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError("not a summary of ours", file=path, found=type(value).__name__, expected="a JSON object")
    return value


def read_runs(folder: Path, arms: Sequence[str] | None = None) -> list[Run]:
    existing(folder)
    names = arms if arms is not None else sorted(p.parent.name for p in folder.glob("*/metrics.json"))
    if not names:
        raise InputError("no runs in this folder", file=folder, expected="folders with metrics.json and curve.csv")
    return [read_run(folder / name) for name in names]


def read_run(folder: Path) -> Run:
    """A run folder as `curate train` writes it.

    Raises:
        InputError: a file, a column or a side of the metrics is missing.
    """
    remedy = f"run `curate train` for the arm {folder.name} first"
    metrics = read_object(existing(folder / "metrics.json", remedy))
    absent = [side for side in SIDES if not isinstance(metrics.get(side), dict)]
    if absent:
        raise InputError("no metrics of a run", file=folder / "metrics.json", field=", ".join(absent), remedy=remedy)
    path = existing(folder / "curve.csv", remedy)
    try:
        curve = pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise InputError("not a readable CSV file", file=path, found=str(error).splitlines()[0]) from error
    missing = [name for name in CURVE if name not in curve.columns]
    if missing:
        raise InputError("no curve of a run", file=path, field=", ".join(missing), expected=", ".join(CURVE))
    return Run(str(metrics.get("arm", folder.name)), curve, metrics)


def _find(document: dict[str, Any], name: str) -> Any:
    if name in document and not isinstance(document[name], dict):
        return document[name]
    for value in document.values():
        if isinstance(value, dict):
            found = _find(value, name)
            if found is not None:
                return found
    return None
