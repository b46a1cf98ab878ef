"""A published dataset back: every file checked against the manifest, rows and provenance as they were published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base.errors import InputError, UsageError, first_line
from curate.hub import dataset
from curate.models.resolve import snapshot
from curate.pairs.artefact import check_values, tell_of_other_texts
from curate.pairs.manifest import MANIFEST, Manifest, read, read_folder, verified
from curate.pairs.schema import check_columns

PREFIX = "hub:"
_NAME = re.compile(r"hub:(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>.+))?")


class Loaded(NamedTuple):
    frame: pl.DataFrame  # the training pairs, then the held-out ones, each in the order of the file they came from
    provenance: dict[str, Any]  # of that file, and `published`: repository and commit


def load(name: str, *stages: str) -> Loaded:
    """The pairs of hub:owner/name[@revision], with the columns of `stages` (see `curate.pairs.schema.STAGES`).

    With HF_HUB_OFFLINE=1 from the local cache.

    Raises:
        UsageError: the name is none.
        InputError: no such repository or revision, it was not published by curate, a file is missing or is not the
            one that was published, or columns are missing.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError("not a published dataset's name", found=name, expected="hub:owner/name[@revision]")
    repo = found["repo"]
    folder = snapshot(repo, found["revision"], "dataset", [MANIFEST])
    commit = folder.name
    where = f"{PREFIX}{repo}@{commit}"
    if not (folder / MANIFEST).is_file():
        raise InputError(
            "this dataset was not published by curate",
            file=where,
            found=f"no {MANIFEST}",
            remedy=f"`curate prepare {PREFIX}{repo}` reads any preference dataset; then score, split and weigh it",
        )
    manifest = read(folder / MANIFEST, where)
    loaded = _checked(manifest, snapshot(repo, commit, "dataset", [MANIFEST, *manifest.data_files()]), where, *stages)
    return Loaded(loaded.frame, loaded.provenance | {"published": {"repository": repo, "commit": commit}})


def load_folder(folder: Path, *stages: str) -> Loaded:
    """`load`, from a folder: one that was downloaded whole, or that `curate publish --out` kept.

    Raises:
        InputError: it is no such folder, a file is missing or is not the one that was published, or columns are
            missing.
    """
    return _checked(read_folder(folder), folder, str(folder), *stages)


def _checked(manifest: Manifest, folder: Path, where: str, *stages: str) -> Loaded:
    """The rows of the data files, whose digests are those of the manifest."""
    paths = verified(manifest, folder, where)
    try:
        frame = dataset.read(paths)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise InputError("the data files cannot be read", file=where, found=first_line(error)) from error
    check_columns(frame, *stages, file=where)
    check_values(frame, *stages, file=where)
    tell_of_other_texts(frame, where)
    return Loaded(frame, manifest.provenance)
