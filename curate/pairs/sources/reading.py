"""`data.source` into records, whatever it names."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from curate.base.errors import InputError, UsageError
from curate.base.files import existing, file_digest
from curate.pairs.sources.base import kind
from curate.pairs.sources.decoding import Wrapped
from curate.pairs.sources.files import open_file
from curate.pairs.sources.hub import read_hub
from curate.pairs.sources.replies import BESIDE, SIDES
from curate.pairs.sources.text import as_json
from curate.project.params import DataParams


class Source(NamedTuple):
    """Where the records come from."""

    name: str  # file name (bytes of it that are no UTF-8 as \\xff), Hub id or "sample"
    path: str  # as the user wrote it, for errors
    records: Iterable[Any]  # can be gone over several times; of large files they are read anew each time
    digest: str  # sha256 of the file, or of the records' JSON
    beside: tuple[str, ...] = ()  # fields beside the list of rows, in a file that is one object around it


OF_PAIRS = BESIDE | {*SIDES, "prompt", "instruction", "question", "query", "label", "labels", "is_safe"}
"""Fields that speak of a pair, and so of each of the rows, where they stand beside them."""


class First(Iterable[Any]):
    """The first so many records; no more are read."""

    def __init__(self, records: Iterable[Any], count: int) -> None:
        self.records, self.count = records, count

    def __iter__(self) -> Iterator[Any]:
        return islice(self.records, self.count)


def read(data: DataParams) -> Source:
    """The sample, a Hub dataset or a file.

    Raises:
        InputError: it cannot be read, or holds no rows.
        UsageError: a configuration, split or revision of what is no Hub dataset.
    """
    if not data.source.startswith("hub:"):
        _check_not_of_the_hub(data)
    if data.source == "sample":
        from curate.sample.generator import sample_records

        return _named("sample", "sample", sample_records(data.sample_pairs, data.seed))
    if data.source.startswith("hub:"):
        name = data.source.removeprefix("hub:")
        records = read_hub(name, data.hub_config, data.hub_split, data.hub_revision)
        return _named(name, data.source, records)
    records = open_file(existing(data.source, _remedy(data.source)))
    beside = _beside(records, data.source) if isinstance(records, Wrapped) else ()
    name = os.fsencode(Path(data.source).name).decode(errors="backslashreplace")
    return Source(name, data.source, records, file_digest(data.source), beside)


def _check_not_of_the_hub(data: DataParams) -> None:
    for name in ("hub_config", "hub_split", "hub_revision"):
        if getattr(data, name) != DataParams.model_fields[name].default:
            raise UsageError(
                f"{name} is of a Hub dataset, and the source is none",
                found=f"{getattr(data, name)}, with the source {data.source}",
                remedy=f"leave {name} out; or name the dataset, hub:owner/name",
            )


def _remedy(name: str) -> str:
    """What to do where there is no such file: a dataset of the Hub is named in another way."""
    found = re.fullmatch(r"(https?://huggingface\.co/datasets/)?([\w.-]+/[\w.-]+?)/?(\?.*)?", name)
    if found and (found[1] or not Path(name).suffix):
        return f"check the path; a dataset of the Hub is hub:{found[2]}"
    return "download it, and name the file" if re.match(r"\w+://", name) else "check the path"


def _beside(rows: Wrapped, path: str) -> tuple[str, ...]:
    """The fields beside the rows. Raises `InputError` where one says something of the pairs."""
    for name, value in rows.beside.items():
        a_row_each = isinstance(value, list) and len(value) == len(rows) > 1
        if a_row_each or (name in OF_PAIRS and value not in (None, "", [], {})):
            raise InputError(
                "what stands beside the rows may be theirs, and would be dropped",
                file=path,
                field=name,
                found=f"a list as long as the rows, {len(rows)}" if a_row_each else kind(value),
                expected="rows that have all that is said of them",
                remedy="put it into the rows, or take it out of the file",
            )
    return tuple(rows.beside)


def _named(name: str, path: str, records: Iterable[Any]) -> Source:
    lines, record = hashlib.sha256(), None
    for record in records:
        lines.update(as_json(record).encode() + b"\n")
    if record is None:
        raise InputError("the source holds no rows", file=path)
    return Source(name, path, records, lines.hexdigest())
