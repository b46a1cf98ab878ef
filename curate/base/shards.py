"""Folders of immutable shards, which only ever gain rows: what was once computed is kept for good.

A shard is written under a temporary name and renamed, and its name is the digest of its bytes: killing a writer at any
instant loses the batch in flight at most, two writers cannot meet, and a torn or foreign file is told from a shard and
left alone. Where two shards hold one key the lower value counts, whatever their order: merging them loses nothing and
changes no answer, also when two processes do it at once.

A shard is one Arrow record batch in an IPC file, sorted by key, each key once, without nulls. A key is 16 bytes, two
little-endian integers. The digest tells a whole shard from a torn one, and nothing of who wrote it: what a shard says
is checked when it is read, here and by each subclass.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from curate.base import files
from curate.base.errors import OutputError
from curate.base.progress import say

NAME_DIGITS = 32
SUFFIX = ".arrow"
MERGE_SHARDS = 64  # so many shards of like size are merged into one


class Rows(Protocol):
    """Columns of a shard, or of one to be."""

    @property
    def height(self) -> int: ...


R = TypeVar("R", bound=Rows)


class ShardFolder(ABC, Generic[R]):
    """A folder of shards. A subclass says what is in them."""

    what: ClassVar[str]  # as messages call it
    schema: ClassVar[pa.Schema]
    compression: ClassVar[str | None]  # None: shards are mapped, not read
    merge_rows: ClassVar[int]  # a shard of so many rows is left as it is

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mapped: dict[Path, R | None] = {}  # None: looked at, and no whole shard
        self._added = 0

    @abstractmethod
    def _columns(self, rows: R) -> list[pa.Array]:
        """Columns of `schema`, sorted by key, of each key the row of the lowest value."""

    @abstractmethod
    def _rows(self, columns: list[pa.Array]) -> R: ...

    @abstractmethod
    def _joined(self, parts: Sequence[R]) -> R: ...

    def rows(self) -> int:
        """Rows of all shards; a key that two of them hold counts twice."""
        return sum(shard.height for shard in self._shards())

    def bytes(self) -> int:
        """Size of the shards, none of which is read; 0 where the folder is not there."""
        sizes = 0
        for path in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # merged meanwhile
                sizes += path.stat().st_size
        return sizes

    def merge(self, *, everything: bool = False) -> int:
        """Merge small shards into large ones; others may read and write meanwhile. Returns how many are gone.

        Shards of like size are merged once there are MERGE_SHARDS of them (with `everything`: all that are small),
        so that a row is rewritten a few times at most, however large the store grows.

        Raises:
            OutputError: a merged shard cannot be written; the small ones stay.
        """
        self._shards()
        tiers: dict[int, dict[Path, int]] = {}
        for path, shard in self._mapped.items():
            if shard is not None and shard.height < self.merge_rows:
                tier = 0 if everything else int(math.log(shard.height + 1, MERGE_SHARDS))
                tiers.setdefault(tier, {})[path] = shard.height
        gone = 0
        for heights in tiers.values():
            if everything or len(heights) >= MERGE_SHARDS:
                for paths in _up_to(self.merge_rows, heights):
                    gone += self._merge(paths)
        return gone

    def tidy(self) -> None:
        """`merge`, if it can be done: a store that cannot be written just now is no worse for its small shards."""
        try:
            self.merge()
        except OutputError as error:
            say(f"{self.what}: small shards are left as they are: {error.details.get('found', error.what)}")

    def _merge(self, paths: Sequence[Path]) -> int:
        if len(paths) < 2:
            return 0
        kept = self._write(self._joined([shard for path in paths if (shard := self._mapped[path]) is not None]))
        for path in paths:
            if path != kept:
                path.unlink(missing_ok=True)
                del self._mapped[path]
        return len(paths) - 1

    def _add(self, rows: R) -> None:
        """Write one shard of these rows, and merge now and then.

        Raises:
            OutputError: the folder cannot be written, or the disk is full; no shard appears then.
        """
        self._write(rows)
        self._added += 1
        if self._added % MERGE_SHARDS == 0:
            self.tidy()

    def _write(self, rows: R) -> Path:
        """A shard of these rows, in any order; of one key's values the lowest."""
        buffer = io.BytesIO()
        # One batch: what is written in one piece is mapped in one piece.
        options = pa.ipc.IpcWriteOptions(compression=self.compression)
        with pa.ipc.new_file(buffer, self.schema, options=options) as writer:
            writer.write_batch(pa.record_batch(self._columns(rows), schema=self.schema))
        content = buffer.getbuffer()
        path = self.folder / f"{hashlib.sha256(content).hexdigest()[:NAME_DIGITS]}{SUFFIX}"
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
        return path

    def _shards(self) -> Iterator[R]:
        """Every whole shard. New ones are looked at once; a damaged one is named once."""
        paths = set(self.folder.glob(f"*{SUFFIX}"))
        for gone in self._mapped.keys() - paths:  # merged by another process; the merged shard is among `paths`
            del self._mapped[gone]
        for path in sorted(paths - self._mapped.keys()):
            try:
                self._mapped[path] = shard = self._map(path)
            except FileNotFoundError:  # merged by another process since the folder was listed: list it again
                return self._shards()
            if shard is None:
                say(f"{self.what}: ignored {path}: torn, or not written by curate")
        return iter([shard for _, shard in sorted(self._mapped.items()) if shard is not None])

    def _map(self, path: Path) -> R | None:
        """A shard; None for a file that is none, or whose bytes are not what its name says."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # (opening a pipe would not end)
                return None
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            if not os.path.lexists(path):
                raise
            return None  # a link to nothing or to itself, a file closed to us
        if digest[:NAME_DIGITS] != path.stem:
            return None
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            if file.schema != self.schema or file.num_record_batches != 1:
                return None
            batch = file.get_batch(0)
            batch.validate(full=True)  # lengths and offsets within the file, texts in UTF-8
            if any(column.null_count for column in batch.columns) or not _rises(*batch.columns[:2]):
                return None
            return self._rows(batch.columns)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError):  # (pyarrow's own word for what is no stream)
            return None


def _rises(high: pa.Array, low: pa.Array) -> bool:
    """Whether each key is above the one before it: a key out of its place would not be found, one given twice would
    have two values."""
    one, other = high.to_numpy(), low.to_numpy()
    return bool(((one[1:] > one[:-1]) | ((one[1:] == one[:-1]) & (other[1:] > other[:-1]))).all())


def words(keys: Sequence[bytes]) -> np.ndarray:
    """Keys of 16 bytes -> uint64 [keys, 2]."""
    return np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2)


def find(high: np.ndarray, low: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Row of each key: int64 [keys], -1 where there is none.

    Args:
        high, low: uint64 [rows], both halves of a shard's keys, sorted.
        keys: uint64 [keys, 2], as of `words`.
    """
    out = np.full(len(keys), -1)
    if not len(high):
        return out
    # In the keys' order the bisections walk the mapped file once, from its beginning to its end.
    order = np.argsort(keys[:, 0])
    at = np.searchsorted(high, keys[order, 0])
    while order.size:  # more than once only where two keys of the shard share their first half
        inside = at < len(high)
        order, at = order[inside], at[inside]
        same = high[at] == keys[order, 0]
        order, at = order[same], at[same]
        hit = low[at] == keys[order, 1]
        out[order[hit]] = at[hit]
        order, at = order[~hit], at[~hit] + 1
    return out


def _up_to(rows: int, heights: dict[Path, int]) -> Iterator[list[Path]]:
    """Paths in runs of at most `rows` rows together (or one path), smallest shards first."""
    run: list[Path] = []
    for path in sorted(heights, key=lambda path: (heights[path], path)):
        if run and sum(heights[p] for p in run) + heights[path] > rows:
            yield run
            run = []
        run.append(path)
    if run:
        yield run
