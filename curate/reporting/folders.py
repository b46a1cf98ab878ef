"""What a folder of many runs or evaluations, or a whole project, holds: tables for `curate show`."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from pyarrow import parquet

from curate.evaluation import compare, record
from curate.reporting.arms import arm_table, arms_of
from curate.reporting.evaluations import MOST_COLUMNS, estimate_tables
from curate.reporting.inputs import Material, read_runs
from curate.reporting.road import road
from curate.reporting.table import Cell, Table

ARTEFACTS = ("pairs", "scores", "splits", "weights")


def of_runs(folder: Path) -> list[Table]:
    """Every arm of the runs in `folder`, its seeds together.

    Raises:
        InputError: none there, or one that is broken.
    """
    material = Material(pl.DataFrame(schema={"split": pl.String}), {}, runs=read_runs(folder))
    arms = arms_of(material, None)
    found = arm_table(arms)
    once = "; one seed an arm: no interval over seeds" if all(len(arm.runs) == 1 for arm in arms) else ""
    return [found._replace(title=f"{found.title} (↑ higher is better, ↓ lower; margins and KL in nats{once})")]


def of_evaluations(folder: Path, most: int | None = MOST_COLUMNS) -> list[Table]:
    """Every arm in every headline metric of the evaluations in `folder`; of suites without one, the others. `most` as
    in estimate_tables.

    Raises:
        InputError: none there, or one that is broken.
    """
    arms = compare.arms(record.read([folder]))
    return list(estimate_tables(arms, most=most)) or list(estimate_tables(arms, headline=False, most=most))


def of_project(folder: Path) -> list[Table]:
    """What a project has made so far, its stages, and its runs."""
    rows: list[list[Cell]] = []
    for name in ARTEFACTS:
        path = folder / "data" / f"{name}.parquet"
        made = f"{parquet.read_metadata(path).num_rows:,} pairs" if path.is_file() else None
        rows.append([name, made, f"data/{name}.parquet" if made else None])
    runs = sorted({path.parent.parent.name for path in folder.glob("runs/*/seed-*/metrics.json")})
    models = len(list(folder.glob("evaluations/**/values.parquet")))
    page = folder / "report" / "index.html"
    rows += [
        [
            "runs",
            f"{len(runs)} arm{'s' * (len(runs) != 1)}: {', '.join(runs)}" if runs else None,
            "runs" if runs else None,
        ],
        ["evaluations", f"{models} models" if models else None, "evaluations" if models else None],
        ["report", "made" if page.is_file() else None, "report/index.html" if page.is_file() else None],
    ]
    found = [Table("What is there (– not made yet: `dvc repro` makes what is missing or stale)", ["", "", "in"], rows)]
    stages = road(folder)
    return [*found, *([stages] if stages else []), *(of_runs(folder / "runs") if runs else [])]
