"""What DVC watches instead of code files where the package is installed: `python -m curate.installed`.

It writes the folder `curate` of the working folder: `curate/code/STAGE` has the digest of the code that the
stage depends on in the repository's dvc.yaml and of the defaults of its params, which hold where a project's file
lacks a key; `curate/sample` has that of the sample's generator. A stage runs again when another version of the package
changes its own code or defaults, and not when it changes another's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from curate.base import files
from curate.base.exits import told
from curate.project import shipped
from curate.project.params import SAMPLE_FOLDER, Params

FOLDER = "curate"
MARKER = "INSTALLED.txt"
_ABOUT = "Written by `python -m curate.installed`: digests of the installed package's code, which DVC watches.\n"
_CODE = re.compile(r"(curate|stages)(/|$)")


def pipeline() -> dict[str, Any]:
    """The repository's dvc.yaml."""
    loaded: dict[str, Any] = yaml.safe_load((shipped.ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return loaded


def is_code(dependency: str) -> bool:
    """Whether a stage's dependency is code of ours, not data."""
    return bool(_CODE.match(dependency))


def digest(dependencies: Iterable[str]) -> str:
    """sha256, hex, over the files that `dependencies` (paths in the repository) are or hold: names and bytes."""
    found = hashlib.sha256()
    for dependency in sorted(dependencies):
        top = shipped.PACKAGE.parent if dependency.startswith("curate/") else shipped.ROOT
        where = top / dependency
        paths = (
            sorted(where.rglob("*")) if where.is_dir() else [files.existing(where, "install curate-preferences again")]
        )
        for path in paths:
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(top).as_posix()} {files.file_digest(path)}\n".encode())
    return found.hexdigest()


def defaults(keys: Iterable[str]) -> str:
    """Of the params `keys` ("score", "train.beta") the values where a file lacks them, as JSON."""
    everything = Params().model_dump(mode="json")
    found = {}
    for key in keys:
        section, _, rest = key.partition(".")
        # What is made from a template, arms.${item.arm}, may be any of its section.
        found[key] = everything[section].get(rest, everything[section])
    return json.dumps(found, sort_keys=True)


def write(folder: Path) -> None:
    """Write `folder`: code/STAGE for every stage, and sample.

    Raises:
        OutputError: another folder of that name stands there; the package's own, for one.
    """
    with files.replacing(folder, files.Folder((MARKER,), ("code", "sample"))) as temporary:
        (temporary / "code").mkdir(parents=True)
        (temporary / MARKER).write_text(_ABOUT, encoding="utf-8")
        for name, stage in pipeline()["stages"].items():
            code = hashlib.sha256(f"{digest(filter(is_code, stage['deps']))} {defaults(stage['params'])}".encode())
            (temporary / "code" / name).write_text(f"{code.hexdigest()}\n", encoding="utf-8")
        (temporary / "sample").write_text(f"{digest([SAMPLE_FOLDER])}\n", encoding="utf-8")


def main() -> None:
    """Write the folder, here."""
    with told():
        write(Path(FOLDER))
