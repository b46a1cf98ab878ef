"""What a file or folder of ours is and holds: the content of `curate show`. No text of a pair is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base.errors import InputError
from curate.base.files import existing, read_json_object
from curate.evaluation import compare
from curate.evaluation.items import RESULTS, VALUES
from curate.evaluation.record import METRICS_FILE, VALUES_FILE, read_one
from curate.pairs.artefact import read_with_provenance
from curate.pairs.schema import PAIRS, RAW, REJECTS, STAGES, check_columns
from curate.reporting import faults, folders, tables
from curate.reporting.evaluations import MOST_COLUMNS, estimate_tables
from curate.reporting.inputs import MEASURES, SIDES, read_run
from curate.reporting.table import Cell, Table, from_json
from curate.reporting.verdict import imbalance, sentences
from curate.selection import measure
from curate.selection.gap import used
from curate.selection.length import explained
from curate.selection.weights import at_bound, params_of

KINDS = (
    "pairs, scores, splits, weights, rejects, items or values (Parquet), a folder: a project, runs, evaluations, one "
    "of them, a reference; a JSON summary"
)


class Summary(NamedTuple):
    """`faults` is None where nothing was checked; `frame` is the Parquet file's content, for its texts; `warnings` say
    what is no fault of the file and matters to who uses it; `verdict` is what weights amount to, two sentences."""

    kind: str
    path: Path
    tables: list[Table]
    faults: list[str] | None
    provenance: dict[str, Any]
    frame: pl.DataFrame | None = None
    warnings: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()
    whole: list[Table] | None = None  # `tables` for JSON, each under a title of its own, where a screen wants parts

    def record(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "provenance": self.provenance,
            "tables": {table.title: table.records() for table in self.whole or self.tables},
            "faults": self.faults,
            "warnings": list(self.warnings),
            "verdict": list(self.verdict),
        }


def summarise(path: Path) -> Summary:
    """Find out by its columns or files what `path` is, and summarise it.

    Raises:
        InputError: nothing there, or nothing of ours.
    """
    existing(path)
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".json":
        return Summary("summary", path, from_json("", read_json_object(path)), None, {})
    if path.suffix != ".parquet":
        raise InputError("cannot tell what this is", file=path, expected=KINDS, remedy=RAW)
    frame, provenance = read_with_provenance(path)
    if set(REJECTS) <= set(frame.columns):
        return Summary("rejects", path, _rejects(frame), None, provenance, frame)
    for kind, columns in (("items", RESULTS), ("values", VALUES)):
        if all(frame.schema.get(name) == dtype for name, dtype in columns.items()):
            found, wrong = _TABLES[kind](frame), faults.CHECKS[kind](frame)
            return Summary(kind, path, found, wrong, provenance, frame if kind == "items" else None)
    return of_frame(path, frame, provenance)


def _rejects(frame: pl.DataFrame) -> list[Table]:
    return [Table("Rows", ["", "value"], [["refused rows", frame.height]]), tables.reject_rules(frame)]


def of_frame(path: Path, frame: pl.DataFrame, provenance: dict[str, Any]) -> Summary:
    """`summarise`, of pairs that were read from `path` already."""
    if not set(PAIRS) <= set(frame.columns):
        raise InputError(
            "no artefact of ours", file=path, found=f"columns {', '.join(frame.columns)}", expected=KINDS, remedy=RAW
        )
    present = [stage for stage, columns in STAGES.items() if set(columns) <= set(frame.columns)]
    if "scores" not in present:  # what later stages add is told in terms of them
        present = ["pairs"]
    check_columns(frame, *present, file=path)  # (not the values: what is wrong with them is told)
    found = [table for stage in present for table in _TABLES[stage](frame)]
    wrong = [fault for stage in present for fault in faults.CHECKS[stage](frame)]
    weighed = params_of(provenance)
    if present[-1] == "weights" and weighed:
        share = at_bound(frame, weighed)
        found.append(Table("Clipping", ["", "share of pairs"], [["weights at the scheme's bound", share]]))
    warnings: list[str] = []
    if "scores" in present:
        shares = explained(frame, used(frame, "balance_gap", "subset_gap"))
        warnings = measure.warnings(provenance, {"length_explains": shares._asdict()})
    known = imbalance(frame, provenance) if present[-1] == "weights" else None
    verdict = tuple(sentences(known)) if known else ()
    return Summary(present[-1], path, found, wrong, provenance, frame, tuple(warnings), verdict)


_TABLES = {
    "pairs": lambda frame: [tables.pair_counts(frame), tables.sources(frame), tables.lengths(frame)],
    "scores": lambda frame: [tables.gap_signs(frame), tables.pmi_quantiles(frame), tables.length_shares(frame)],
    "splits": lambda frame: [tables.subset_sizes(frame)],
    "weights": lambda frame: [tables.weight_quantiles(frame)],
    "items": lambda frame: [tables.answers(frame)],
    "values": lambda frame: [tables.metric_values(frame)],
}


def _folder(path: Path) -> Summary:
    if (path / METRICS_FILE).is_file() and (path / "curve.csv").is_file():
        return _run(path)
    if (path / METRICS_FILE).is_file() and (path / VALUES_FILE).is_file():
        return _evaluation(path)
    if (path / "reference.json").is_file():
        return Summary("reference", path, from_json("", read_json_object(path / "reference.json")), None, {})
    if (path / "dvc.yaml").is_file() and (path / "params.yaml").is_file():
        return Summary("project", path, folders.of_project(path), None, {})
    if any(path.glob("*/seed-*/curve.csv")) or any(path.glob("*/curve.csv")):
        return Summary("runs", path, folders.of_runs(path), None, {})
    if any(path.glob(f"*/{VALUES_FILE}")) or any(path.glob(f"*/seed-*/{VALUES_FILE}")):
        found, whole = (folders.of_evaluations(path, most) for most in (MOST_COLUMNS, None))
        return Summary("evaluations", path, found, None, {}, whole=whole)
    raise InputError("cannot tell what this folder is", file=path, expected=KINDS)


def _evaluation(path: Path) -> Summary:
    one = read_one(path)
    arms = compare.arms([one])
    rows: list[list[Cell]] = []
    counted: dict[str, Any] = {}  # by the suite itself: "harness: beginning cut off"
    for name, suite in one.metrics["suites"].items():
        counted |= {f"{name}: {what}": count for what, count in suite.get("counts", {}).items()}
        counts = (suite.get(count) for count in ("items", "left_out", "cut_at_max_tokens"))
        unjudged = ", ".join(f"{why} ({count:,})" for why, count in suite.get("unjudged", {}).items())
        lengths = ", ".join(f"{group} {mean:.1f}" for group, mean in suite.get("tokens", {}).items())
        rows.append([name, *counts, lengths or None, unjudged or None])
    facts = {"name": one.name, "seed": one.seed, "version": one.metrics.get("version")}
    first = [
        *from_json("Evaluation", {**facts, "model": (one.metrics.get("model") or {}).get("name"), **counted}),
        Table("Answers", ["suite", "items", "left out", "cut at max_tokens", "mean tokens", "without a verdict"], rows),
    ]
    found, whole = ([*first, *_estimates(arms, most)] for most in (MOST_COLUMNS, None))
    return Summary("evaluation", path, found, faults.of_values(one.values), {}, whole=whole)


def _estimates(arms: list[compare.Arm], most: int | None) -> list[Table]:
    """Every suite's metrics, the secondary ones last; `most` as in estimate_tables."""
    secondary = estimate_tables(arms, headline=False, most=most)
    return [
        *estimate_tables(arms, most=most),
        *(table._replace(title=f"{table.title}, secondary") for table in secondary),
    ]


def _run(path: Path) -> Summary:
    run = read_run(path)
    plain = {key: value for key, value in run.metrics.items() if not isinstance(value, dict)}
    rows: list[list[Cell]] = [[name, *(run.metrics[side].get(name) for side in SIDES)] for name in (*MEASURES, "kl")]
    if run.rewards is not None:
        rows.insert(0, ["pairs measured", *(run.rewards.filter(side=side).height for side in SIDES)])
    validated = "; heldout: validation pairs" if (run.record.get("train") or {}).get("validation_fraction") else ""
    wrong = [
        f"{name} is no finite number in {bad:,} of {run.curve.height:,} rows of curve.csv"
        for name in MEASURES
        if (bad := run.curve.select((~pl.col(name).cast(pl.Float64).is_finite()).fill_null(True).sum()).item())
    ]
    gaps = {f"train - heldout {name}": run.final("overfitting", name) for name in ("margins", "accuracies")}
    found = [
        *from_json("Run", {**plain, "evaluations": run.curve["step"].n_unique(), **gaps}),
        Table(
            f"Metrics (rewards, logps and kl in nats; held out, margins and accuracies ↑, loss and kl ↓{validated})",
            ["", *SIDES],
            rows,
        ),
    ]
    return Summary("run", path, found, wrong, {})
