"""`data.source` into records, whatever it names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from curate.base.errors import InputError
from curate.base.files import file_digest
from curate.pairs.sources.files import open_file
from curate.pairs.sources.hub import read_hub
from curate.pairs.sources.text import as_json
from curate.project.params import DataParams


class Source(NamedTuple):
    """Where the records come from."""

    name: str  # file name, Hub id or "sample"
    path: str  # as the user wrote it, for errors
    records: Iterable[Any]  # can be gone over several times; of large files they are read anew each time
    digest: str  # sha256 of the file, or of the records' JSON


class First(Iterable[Any]):
    """The first so many records; no more are read."""

    def __init__(self, records: Iterable[Any], count: int) -> None:
        self.records, self.count = records, count

    def __iter__(self) -> Iterator[Any]:
        return islice(self.records, self.count)


def read(data: DataParams) -> Source:
    """The sample, a Hub dataset or a file. Raises `InputError` where it cannot be read or holds no rows."""
    if data.source == "sample":
        from curate.sample.generator import sample_records

        return _named("sample", "sample", sample_records(data.sample_pairs, data.seed))
    if data.source.startswith("hub:"):
        name = data.source.removeprefix("hub:")
        records = read_hub(name, data.hub_config, data.hub_split, data.hub_revision)
        return _named(name, data.source, records)
    records = open_file(data.source)
    return Source(Path(data.source).name, data.source, records, file_digest(data.source))


def _named(name: str, path: str, records: Iterable[Any]) -> Source:
    lines, record = hashlib.sha256(), None
    for record in records:
        lines.update(as_json(record).encode() + b"\n")
    if record is None:
        raise InputError("the source holds no rows", file=path)
    return Source(name, path, records, lines.hexdigest())
