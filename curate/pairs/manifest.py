"""curate.json of a published dataset: every file with its digest, and how the numbers were made. It is written by
`curate.hub.folder`, and read and compared with the files here."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curate.base import files
from curate.base.errors import InputError
from curate.pairs.schema import Split

MANIFEST = "curate.json"
DEFAULT = "default"
"""The configuration of all pairs."""
SPLIT_NAMES = {Split.TRAIN: "train", Split.HELDOUT: "test"}
"""Our splits, by the names that the Hub has for them."""

Digest = Field(pattern=r"^[0-9a-f]{64}$")


class File(BaseModel):
    """One file of the repository, but for the card, which is its owner's to edit, and the manifest itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    bytes: int
    sha256: str = Digest
    rows: int | None = None  # None: no data file


class Manifest(BaseModel):
    """What curate.json holds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    layout: Literal[1] = 1
    version: str  # of the package that published it
    license: str
    sources: dict[str, str | None]  # each source's licence, None where it is not known
    configs: dict[str, dict[str, list[str]]]  # configuration -> split -> files, in the order of the rows
    files: dict[str, File]
    weights: str = Digest  # sha256 of the Parquet file that was published
    pipeline: dict[str, Any]  # `curate.hub.lineage.lineage`
    provenance: dict[str, Any]  # of that file, without local paths
    prepare: dict[str, Any]  # counts of what the source had and what was refused, where they are known

    @model_validator(mode="after")
    def _files_are_inside(self) -> Manifest:
        listed = [path for sides in self.configs.values() for paths in sides.values() for path in paths]
        for path in (*self.files, *listed):
            if not is_inside(path):
                raise ValueError("a file's name leaves the repository")
        return self

    def data_files(self) -> list[str]:
        """Of all pairs: those of the training pairs, then those of the held-out ones."""
        sides = self.configs.get(DEFAULT, {})
        return [path for side in SPLIT_NAMES.values() for path in sides.get(side, [])]

    def text(self) -> str:
        return json.dumps(self.model_dump(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def is_inside(path: str) -> bool:
    """Whether `path`, of a manifest, is a file within the repository on every system: no root, drive or parent."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not set(":\\") & set(path) and "\0" not in path and path[0] != "/" and ".." not in parts


def is_published(folder: Path) -> bool:
    """Whether `folder` holds a published dataset's manifest; a trained model has a file of that name, too."""
    try:
        return "configs" in files.read_json_object(folder / MANIFEST)
    except InputError:
        return False


def read_folder(folder: Path) -> Manifest:
    """The manifest in a folder: of a dataset that was downloaded whole, or that `curate publish --out` kept.

    Raises:
        InputError: it is no such folder, or the manifest is of a later layout.
    """
    if not is_published(folder):
        raise InputError(
            "this folder is no dataset that curate published",
            file=folder,
            expected=f"{MANIFEST} of a published dataset, and the files that it lists",
            remedy="give a file",
        )
    return read(folder / MANIFEST, str(folder))


def read(path: Path, where: str) -> Manifest:
    """The manifest in the file `path`; `where` names the repository in errors.

    Raises:
        InputError: it is none, or of a later layout.
    """
    try:
        return Manifest.model_validate(files.read_json(path))
    except (ValidationError, InputError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else None
        raise InputError(
            f"the repository's {MANIFEST} is not one that this version of curate reads",
            file=where,
            field=".".join(map(str, fault["loc"])) if fault else None,
            found=fault["msg"] if fault else error.details.get("found") if isinstance(error, InputError) else None,
            remedy="update curate; or publish the dataset again",
        ) from error


def verified(manifest: Manifest, folder: Path, where: str) -> list[Path]:
    """The data files of all pairs, in the order of the rows, each of them the one that was published.

    Raises:
        InputError: one is missing or has other bytes.
    """
    for name in manifest.data_files():
        path, said = folder / name, manifest.files.get(name)
        if said is None or not path.is_file():
            raise InputError(
                f"a data file is not {'in the manifest' if said is None else 'there'}",
                file=where,
                field=name,
                remedy="take another revision (hub:owner/name@REVISION), or publish the dataset again",
            )
        found = files.file_digest(path)
        if found != said.sha256:
            raise InputError(
                f"a data file is not the one that was published: its digest is not that of {MANIFEST}",
                file=where,
                field=name,
                found=f"sha256 {found}, {path.stat().st_size:,} bytes",
                expected=f"sha256 {said.sha256}, {said.bytes:,} bytes",
                remedy="take another revision (hub:owner/name@REVISION), or publish the dataset again",
            )
    return [folder / name for name in manifest.data_files()]
