"""What a report is made from, all of it read from files; whatever is optional may be missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base import limits
from curate.base.errors import InputError, first_line
from curate.base.files import existing, read_json_object, real
from curate.evaluation import record
from curate.evaluation.record import BASE, Evaluation
from curate.pairs.artefact import check_values, read_artefact, read_with_provenance
from curate.pairs.belonging import check_of_these_pairs
from curate.pairs.schema import SUBSETS, check_columns
from curate.selection.seeds import made

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
CURVE = ("step", "epoch", "side", *MEASURES, "kl")
"""`kl`, the KL to the reference in nats, is the held-out side's alone, and null where it was not estimated."""
DOCUMENTS: dict[str, tuple[str, ...]] = {
    "prepare": ("read", "kept", "rules"),
    "reference": ("name", "digest"),
    "score": ("model", "null_prompt"),
    "weigh": ("scheme", "chosen_weight"),
}
"""The JSON summaries that the stages write, and keys that tell each."""


class Run(NamedTuple):
    """One arm trained with one seed. `curve` has the columns CURVE; `metrics` has `train` and `heldout`."""

    arm: str
    seed: int
    curve: pl.DataFrame
    metrics: dict[str, Any]
    record: dict[str, Any]  # how it was made, of model/curate.json; empty where the model is not there
    rewards: pl.DataFrame | None = None  # pair_id, side and margin of each pair at the end; None in older runs

    @property
    def turned(self) -> bool:
        """Whether its objective turned training pairs round: their margins are of its labels, those of held-out pairs
        of the pairs' own, and the gap between the two is not overfitting."""
        return bool(self.metrics.get("swapped"))

    @property
    def beta(self) -> float | None:
        """The unit of its rewards, where its record says."""
        train = self.record.get("train")
        return train.get("beta") if isinstance(train, dict) else None

    def final(self, part: str, measure: str) -> float | None:
        """A measure at the run's end, of the part `train`, `heldout` or `overfitting`; None where it is not there."""
        if part == "overfitting" and self.turned:
            return None  # runs of before have one
        value = (self.metrics.get(part) or {}).get(measure)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Material:
    """Everything that the report shows."""

    frame: pl.DataFrame  # pairs, scores, weights and, where they were split, splits
    provenance: dict[str, Any]
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)  # those of DOCUMENTS that are given
    runs: list[Run] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    def fact(self, name: str) -> Any:
        """The first plain value called `name` in the stages' summaries or the provenance of the weights."""
        for document in (*(self.documents.get(name) for name in ("score", "reference", "weigh")), self.provenance):
            found = _find(document or {}, name)
            if found is not None:
                return found
        return None


def read_material(
    weights: Path,
    documents: dict[str, Path],
    runs: Path | None,
    arms: Sequence[str] | None = None,
    seeds: Seeds = (),
    evaluations: Path | None = None,
) -> Material:
    """Read the files given; `runs`, `arms` and `seeds` as in `read_runs`.

    Args:
        evaluations: a folder of evaluations: those of `arms` and `seeds` and of the model before training; without
            `arms` every one in it.

    Raises:
        InputError: a file that was named is missing or is not what it should be, or is of other pairs.
    """
    frame, provenance = read_with_provenance(weights, "pairs", "scores", "weights")
    if set(SUBSETS) & set(frame.columns):  # pairs may be weighed without being split
        check_columns(frame, "splits", file=weights)
        check_values(frame, "splits", file=weights)
    summaries = {name: _document(name, path) for name, path in documents.items()}
    _check_of_these_pairs(summaries, documents, frame)
    trained = [] if runs is None else read_runs(runs, arms, seeds)
    for run in trained:
        _check_of_these(run, frame, runs)
    return Material(
        frame=frame,
        provenance=provenance,
        documents=summaries,
        runs=trained,
        evaluations=[] if evaluations is None else read_evaluations(evaluations, arms, seeds),
    )


def _document(name: str, path: Path) -> dict[str, Any]:
    """A summary of DOCUMENTS. Raises `InputError` where it is another's, or none."""
    document = read_json_object(path)
    if lacking := [key for key in DOCUMENTS[name] if key not in document]:
        kind = next((f"that of {other}" for other, keys in DOCUMENTS.items() if set(keys) <= document.keys()), None)
        raise InputError(
            f"not the summary of {name}",
            file=path,
            found=kind or f"no {', no '.join(lacking)}",
            expected=f"what the step {name} wrote, as --{name}",
        )
    return document


def _check_of_these_pairs(
    summaries: Mapping[str, dict[str, Any]], documents: Mapping[str, Path], frame: pl.DataFrame
) -> None:
    """Raise `InputError` where a summary is of other pairs than `frame`, as its counts or its digest say."""
    if "prepare" in summaries:
        check_of_these_pairs(summaries["prepare"], frame, documents["prepare"])
    for name in summaries.keys() & {"score", "weigh"}:
        count = summaries[name].get("pairs")
        if isinstance(count, int) and count != frame.height:
            raise InputError(
                "the summary is of other pairs",
                file=documents[name],
                field="pairs",
                found=f"{count:,}",
                expected=f"the {frame.height:,} that are weighted",
                remedy=f"give the {name}.json that was written with these pairs, or none",
            )


def _check_of_these(run: Run, frame: pl.DataFrame, folder: Path | None) -> None:
    """Raise `InputError` where the run was measured on pairs that are not in `frame`."""
    if run.rewards is None:
        return
    others = run.rewards.join(frame, on="pair_id", how="anti").height
    if others:
        raise InputError(
            "the run is of other pairs",
            file=folder,
            field=f"{run.arm}, seed {run.seed}",
            found=f"{others:,} of the {run.rewards.height:,} pairs that it was measured on",
            expected="pairs that are in the weights file",
            remedy="give the weights that it was trained on, or move the run away",
        )


def read_evaluations(folder: Path, arms: Sequence[str] | None = None, seeds: Seeds = ()) -> list[Evaluation]:
    """The evaluations in `folder`, as `read_runs` reads runs; with `arms` that of the model before training too."""
    if arms is None:
        return record.read([folder])
    return record.read([folder / BASE, *(folder / path for path in _paths(arms, seeds))])


def read_runs(folder: Path, arms: Sequence[str] | None = None, seeds: Seeds = ()) -> list[Run]:
    """The runs ARM/seed-SEED of `arms` and `seeds`, in that order; without `arms` every run in `folder`, by name.

    Without `arms`, `folder` may hold folders of `curate train` too (or be one). Runs of one arm that differ in
    more than their seed are told apart by their folders' names, beside their arm where the name is of another.

    Raises:
        InputError: none there, one that is wanted is missing or broken, or two have one name and seed.
    """
    existing(folder)
    if arms is not None:
        return [read_run(folder / path) for path in _paths(arms, seeds)]
    found = {path.parent for pattern in RUNS for path in folder.glob(pattern)}
    if not found:
        raise InputError("no runs in this folder", file=folder, expected="folders with metrics.json and curve.csv")
    read = {path: read_run(path) for path in sorted(found)}
    runs: dict[tuple[str, int], tuple[Path, Run]] = {}
    for path, run in read.items():
        alike = [other for other in read.values() if other.arm == run.arm]
        ways, seeds_of = {made(other.record) for other in alike}, {other.seed for other in alike}
        if len(ways) > 1 or len(seeds_of) < len(alike):
            beside = {made(read[other].record) for other in read if other.parent == path.parent != folder}
            whole = path.parent in read or len(beside) > 1
            run = run._replace(arm=_name(folder, path, run.arm, whole=whole))
        if (run.arm, run.seed) in runs:
            raise _two_of_one(runs[run.arm, run.seed][0], path, run)
        runs[run.arm, run.seed] = path, run
    return [runs[key][1] for key in sorted(runs)]


def _name(folder: Path, run: Path, arm: str, *, whole: bool) -> str:
    """What a run is called by its folder, or its `whole` path, where that folder has another run or one made another
    way; with its arm where the name does not begin with that."""
    path = run.relative_to(folder).as_posix()
    name = path if whole else path.partition("/seed-")[0]
    name = real(folder).name if name == "." else name
    return name if re.match(rf"{re.escape(arm)}(?![^\W_])", name) else f"{name} ({arm})"


def _two_of_one(one: Path, other: Path, run: Run) -> InputError:
    return InputError(
        "two runs have one name and seed",
        file=other,
        found=f"{run.arm}, seed {run.seed}, as in {one}",
        expected="each seed of an arm once",
        remedy="give the folder of one of them another name, or move it away",
    )


Seeds = Sequence[int] | Mapping[str, Sequence[int]]
"""Of every arm, or by arm."""


def _paths(arms: Sequence[str], seeds: Seeds) -> list[Path]:
    of = seeds if isinstance(seeds, Mapping) else dict.fromkeys(arms, seeds)
    return [Path(arm) / f"seed-{seed}" for arm in arms for seed in of[arm]]


RUNS = ("metrics.json", "*/metrics.json", "*/seed-*/metrics.json")
"""Where runs may lie in a folder: itself, one of `curate train`, one of the pipeline."""


def read_run(folder: Path) -> Run:
    """A run folder as `curate train` writes it.

    Raises:
        InputError: a file, a column or a part of the metrics is missing.
    """
    remedy = "train this arm with this seed (`curate train`, `dvc repro`)"
    metrics = read_json_object(existing(folder / "metrics.json", remedy))
    absent = [side for side in SIDES if not isinstance(metrics.get(side), dict)]
    absent += [name for name, kind in (("arm", str), ("seed", int)) if not isinstance(metrics.get(name), kind)]
    if absent:
        raise InputError(
            "not the metrics of a run", file=folder / "metrics.json", field=", ".join(absent), remedy=remedy
        )
    path = existing(folder / "curve.csv", remedy)
    try:
        curve = pl.read_csv(limits.read_bytes(path), infer_schema_length=None, schema_overrides={"kl": pl.Float64})
    except pl.exceptions.PolarsError as error:
        raise InputError("not a readable CSV file", file=path, found=first_line(error)) from error
    if "kl" not in curve.columns:  # older than its estimate
        curve = curve.with_columns(kl=pl.lit(None, pl.Float64))
    missing = [name for name in CURVE if name not in curve.columns]
    if missing:
        raise InputError("not the curve of a run", file=path, field=", ".join(missing), expected=", ".join(CURVE))
    made = folder / "model" / "curate.json"
    record = read_json_object(made) if made.is_file() else {}
    return Run(metrics["arm"], metrics["seed"], curve, metrics, record, _rewards(folder / REWARDS_FILE))


REWARDS_FILE = "rewards.parquet"


def _rewards(path: Path) -> pl.DataFrame | None:
    """Raises `InputError` where it is no such file."""
    if not path.is_file():
        return None
    rewards = read_artefact(path)
    if wrong := [name for name, dtype in REWARDS.items() if rewards.schema.get(name) != dtype]:
        raise InputError("not the rewards of a run", file=path, field=", ".join(wrong))
    rewards = rewards.select(*REWARDS)
    if sum(rewards.null_count().row(0)) or not rewards["margin"].is_finite().all():
        raise InputError(
            "not the rewards of a run", file=path, found="nulls, NaN or infinity", expected="a number a pair"
        )
    return rewards


REWARDS = {"pair_id": pl.String, "side": pl.String, "margin": pl.Float64}


def _find(document: dict[str, Any], name: str) -> Any:
    if name in document and not isinstance(document[name], dict):
        return document[name]
    for value in document.values():
        if isinstance(value, dict):
            found = _find(value, name)
            if found is not None:
                return found
    return None
