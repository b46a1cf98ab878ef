"""The road of a project's stages: what comes after what, and how often it runs. As `dvc dag`, and it fits a screen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from curate.base import files
from curate.base.errors import InputError
from curate.project.params.reader import read_yaml
from curate.reporting.table import Cell, Table

EVERYWHERE = "installed"
"""The stage that all others come after, in a project of `curate init`."""


def road(folder: Path) -> Table | None:
    """A row a stage that runs, in the order of dvc.yaml; None where that file has no stages.

    Raises:
        InputError: dvc.yaml or params.yaml cannot be read, or dvc.yaml is not in DVC's form.
        UsageError: one of them is not YAML.
    """
    pipeline, params = (_mapping(read_yaml(files.read_text(folder / name), file=folder / name))
                        for name in ("dvc.yaml", "params.yaml"))  # fmt: skip
    try:
        rows = _rows(pipeline, params)
    except (TypeError, AttributeError, StopIteration, RecursionError) as error:
        raise InputError("not in DVC's form", file=folder / "dvc.yaml", found=error) from error
    return Table("Stages (`dvc repro` runs what is out of date)", ["stage", "after", "runs"], rows) if rows else None


def _rows(pipeline: Mapping[str, Any], params: Mapping[str, Any]) -> list[list[Cell]]:
    stages = {name: stage for name, stage in _mapping(pipeline.get("stages")).items() if isinstance(stage, Mapping)}
    runs = {
        name: prod(len(_value(axis, params)) for axis in _mapping(stage.get("matrix")).values())
        for name, stage in stages.items()
        if name != EVERYWHERE
    }
    outs = {name: [_path(out, params) for out in stages[name].get("outs") or []] for name in runs if runs[name]}
    rows: list[list[Cell]] = []
    for name in outs:
        stage = stages[name]
        needs = [_path(dependency, params) for dependency in stage.get("deps") or []]
        after = [
            other
            for other, made in outs.items()
            if other != name and any(_meet(need, out) for need in needs for out in made)
        ]
        rows.append([name, ", ".join(after) or None, runs[name]])
    return rows


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _value(axis: Any, params: Mapping[str, Any]) -> list[Any]:
    """An axis of a matrix: a list, or ${its.name.in.params}."""
    value = axis
    if isinstance(axis, str) and (named := re.fullmatch(r"\$\{([^}]+)\}", axis)):
        value = _named(named[1], params)
    return value if isinstance(value, list) else [value]


def _named(name: str, params: Mapping[str, Any]) -> Any:
    value: Any = params
    for key in name.split("."):
        value = _mapping(value).get(key)
    return value


def _path(path: Any, params: Mapping[str, Any]) -> str:
    """A path with what it takes from params; * for what it takes from a matrix."""
    text = str(next(iter(path)) if isinstance(path, Mapping) else path)
    return re.sub(r"\$\{([^}]*)\}", lambda found: str(_named(found[1], params) or "*"), text)


def _meet(need: str, out: str) -> bool:
    """Whether one path is the other, or within it."""
    shorter, longer = sorted((need.split("/"), out.split("/")), key=len)
    return all(a == b or "*" in (a, b) for a, b in zip(shorter, longer, strict=False))
