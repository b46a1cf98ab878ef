"""Which run of the pipeline made a file, as dvc.lock has it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from curate.base import files
from curate.base.errors import CurateError
from curate.project.params.reader import read_yaml

LOCK = "dvc.lock"
PARAMS = "params.yaml"


def lineage(path: Path, project: Path) -> dict[str, Any]:
    """Digests of the entries of dvc.lock that made `path`, and of params.yaml if it has not changed since.

    Only the stages that the file comes from count: what DVC appends later, publishing itself for one, does not
    change the digest. It is sha256 over their entries as JSON, keys sorted. [ours] Empty where no stage made it.

    Args:
        project: the folder of dvc.lock.
    """
    try:
        return _lineage(path, project)
    except _ODD:
        return {}


_ODD = (CurateError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError)
"""What a dvc.lock that DVC did not write may come to."""


def _lineage(path: Path, project: Path) -> dict[str, Any]:
    stages = yaml.safe_load(files.read_text(project / LOCK))["stages"]
    name = path.resolve().relative_to(project.resolve()).as_posix()
    made = {out["path"]: stage for stage, entry in stages.items() for out in entry.get("outs", [])}
    last = {out["path"]: out.get("md5") for out in stages[made[name]]["outs"]}
    with path.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != last[name]:
            return {}  # changed since, or by hand
    wanted, todo = set(), [made[name]]
    while todo:
        stage = todo.pop()
        if stage not in wanted:
            wanted.add(stage)
            todo += [made[dep["path"]] for dep in stages[stage].get("deps", []) if dep["path"] in made]
    entries = json.dumps({stage: stages[stage] for stage in sorted(wanted)}, sort_keys=True, default=str)
    found: dict[str, Any] = {"stages": sorted(wanted), LOCK: hashlib.sha256(entries.encode()).hexdigest()}
    if _made_with(project / PARAMS, (stages[stage] for stage in wanted)):
        found[PARAMS] = files.file_digest(project / PARAMS)
    return found


def _made_with(path: Path, entries: Iterable[dict[str, Any]]) -> bool:
    """Whether the params file has, today, the values that the entries were run with."""
    try:
        values = read_yaml(files.read_text(path), file=path)
        return all(
            _same(reduce(lambda value, key: value[key], name.split("."), values), value)
            for entry in entries
            for name, value in entry.get("params", {}).get(PARAMS, {}).items()
        )
    except _ODD:
        return False


def _same(here: Any, there: Any) -> bool:
    """Whether a value of the params file is that of dvc.lock: 12e-1 is a number to DVC, and a word in YAML 1.1."""
    if isinstance(here, dict) and isinstance(there, dict):
        return here.keys() == there.keys() and all(_same(here[key], there[key]) for key in here)
    if isinstance(here, list) and isinstance(there, list):
        return len(here) == len(there) and all(map(_same, here, there))
    if isinstance(here, str) and isinstance(there, int | float):
        return float(here) == there
    return bool(here == there)
