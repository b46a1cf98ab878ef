"""The record of an evaluation: the files that `curate evaluate` writes, read again and checked. No suite, no model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.base import files
from curate.base.errors import InputError
from curate.evaluation import statistics
from curate.evaluation.items import VALUES
from curate.pairs.artefact import read_artefact

METRICS_FILE = "metrics.json"
ITEMS_FILE = "items.parquet"
VALUES_FILE = "values.parquet"  # what tells an evaluation from other folders with metrics: a run, a report
EVALUATION = files.Folder((METRICS_FILE, ITEMS_FILE, VALUES_FILE))
BASE = "base"
"""What the model before training is called among the arms."""
ROUNDING = 1e-9  # of a mean, which two sums in other orders give


class Evaluation(NamedTuple):
    """One model's evaluation."""

    name: str  # of the arm, or `base`
    seed: int | None
    values: pl.DataFrame  # items.VALUES
    metrics: dict[str, Any]  # metrics.json

    @property
    def called(self) -> str:
        """As messages name it."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


class Key(NamedTuple):
    """A metric of a suite."""

    suite: str
    metric: str

    def __str__(self) -> str:
        return f"{self.suite}: {self.metric}"


def read(folders: Iterable[Path]) -> list[Evaluation]:
    """The evaluations in `folders`: each an evaluation itself, or one that holds NAME or NAME/seed-N folders. One that
    is named twice is read once.

    Raises:
        InputError: a folder holds none, or one that is broken; two of one name and seed.
    """
    found: dict[tuple[str, int | None], tuple[Path, Evaluation]] = {}
    seen: set[Path] = set()
    for folder in folders:
        paths = {path.parent for path in files.existing(folder).glob(METRICS_FILE)}
        for pattern in (f"*/{METRICS_FILE}", f"*/seed-*/{METRICS_FILE}"):
            paths |= {path.parent for path in folder.glob(pattern)}
        paths = {path for path in paths if (path / VALUES_FILE).is_file()}
        if not paths:
            raise InputError("no evaluation in this folder", file=folder, remedy="make one with `curate evaluate`")
        for path in sorted(paths):
            if files.real(path) in seen:
                continue
            seen.add(files.real(path))
            one = read_one(path)
            if (one.name, one.seed) in found:
                raise _two_of_one(found[one.name, one.seed][0], path, one)
            found[one.name, one.seed] = path, one
    return [one for _, one in found.values()]


def _two_of_one(one: Path, other: Path, evaluation: Evaluation) -> InputError:
    return InputError(
        f"two evaluations have one name{'' if evaluation.seed is None else ' and seed'}",
        file=other,
        found=f"{evaluation.called}, as in {one}",
        remedy="give `curate evaluate` another --name, or name fewer folders",
    )


def read_one(folder: Path) -> Evaluation:
    """An evaluation as `evaluate` writes it.

    Raises:
        InputError: a file is missing or is not what `evaluate` wrote, or the two are not of one evaluation.
    """
    metrics = files.read_json_object(folder / METRICS_FILE)
    values = read_artefact(folder / VALUES_FILE)
    wrong = [name for name, dtype in VALUES.items() if values.schema.get(name) != dtype]
    remedy = "run `curate evaluate` again"
    if wrong or not _is_whole(metrics):
        raise InputError("not an evaluation of ours", file=folder, field=", ".join(wrong) or None, remedy=remedy)
    described = {(suite, metric) for suite, found in metrics["suites"].items() for metric in found.get("metrics", {})}
    if strange := set(values.select("suite", "metric").unique().rows()) - described:
        raise InputError(
            f"{METRICS_FILE} and {VALUES_FILE} are not of one evaluation",
            file=folder,
            found=f"no {Key(*min(strange))} in {METRICS_FILE}",
            remedy=remedy,
        )
    _check_of_one(folder, metrics, values, remedy)
    if not values["value"].is_between(0, 1).fill_null(False).all():
        raise InputError("a value is not between 0 and 1", file=folder / VALUES_FILE, remedy=remedy)
    return Evaluation(str(metrics["name"]), metrics["seed"], values, metrics)


def _check_of_one(folder: Path, metrics: dict[str, Any], values: pl.DataFrame, remedy: str) -> None:
    """Raise `InputError` where a metric's record is not of these values, as where one of the files was replaced."""
    found = values.group_by("suite", "metric", maintain_order=True).agg(pl.col("value").mean(), pl.len())
    for suite, metric, mean, n in found.iter_rows():
        said = metrics["suites"][suite]["metrics"][metric]
        if mean is not None and (said["n"] != n or abs(said["value"] - mean) > ROUNDING):
            raise InputError(
                f"{METRICS_FILE} and {VALUES_FILE} are not of one evaluation",
                file=folder,
                field=str(Key(suite, metric)),
                found=f"{said['value']:.6g} of {said['n']:,} in {METRICS_FILE}, {mean:.6g} of {n:,} in {VALUES_FILE}",
                remedy=remedy,
            )


def _is_whole(metrics: dict[str, Any]) -> bool:
    """Whether metrics.json has its parts, each of its kind."""
    suites = metrics.get("suites")
    if not isinstance(metrics.get("name"), str) or not isinstance(metrics.get("seed", ""), int | None):
        return False
    if not all(isinstance(metrics.get(part, {}), dict) for part in ("made", "model", "params", "with")):
        return False
    if not isinstance(suites, dict) or not all(isinstance(found, dict) for found in suites.values()):
        return False
    named = [found.get("metrics", {}) for found in suites.values()]
    return all(isinstance(some, dict) and all(map(_is_described, some.values())) for some in named)


def _is_described(metric: object) -> bool:
    """Whether this is what metrics.json says of a metric."""
    if not isinstance(metric, dict) or metric.get("better") not in ("higher", "lower", "neither"):
        return False
    kinds = {"headline": bool, "about": str, "value": float | int, "n": int}
    return all(isinstance(metric.get(name), kind) for name, kind in kinds.items())


def of_prompts(values: pl.DataFrame) -> pl.DataFrame:
    """Of one metric's values the mean of each prompt's items and their number: cluster, value, items, by cluster."""
    return values.group_by("cluster").agg(pl.col("value").mean(), items=pl.len()).sort("cluster")


def of_table(table: np.ndarray, items: np.ndarray) -> statistics.Estimate:
    """A rate where all values [prompts, seeds] are 0 or 1, and each of as many items, else a mean.

    Args:
        items: [prompts], how many each value is the mean of.
    """
    is_rate = bool(((table == 0) | (table == 1)).all()) and len(np.unique(items)) == 1
    found = statistics.rate(table) if is_rate else statistics.mean(table, items)
    return found._replace(n=int(items.sum()) * table.shape[1])
