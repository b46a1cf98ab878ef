"""What was answered once is not asked again: keys of 16 bytes -> texts, in a folder of shards (`curate.base.shards`).

All texts of a folder are held in memory from the first look-up on, as Arrow: a folder is of one model or judge. Each is
read once when its shard is, by whoever keeps it there: a text that is not what he writes is told of, and is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from curate.base.progress import say
from curate.base.shards import ShardFolder, find, words

T = TypeVar("T")
SCHEMA = pa.schema([("key_high", pa.uint64()), ("key_low", pa.uint64()), ("text", pa.large_string())])


def key(*parts: Any) -> bytes:
    """16 bytes of parts that JSON can say; the same for equal parts, whatever the order of an object's names."""
    said = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def parsed(text: str) -> Any:
    """JSON as we write it.

    Raises:
        ValueError: other text, NaN or infinity, a name given twice, half of a surrogate pair (which no file can store),
            or what is nested too deeply.
    """
    text.encode("ascii")
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON's")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


class Texts(NamedTuple):
    """Columns of a shard."""

    high: np.ndarray  # uint64, [rows]
    low: np.ndarray  # uint64, [rows]
    text: pa.LargeStringArray  # [rows]

    @property
    def height(self) -> int:
        """Rows."""
        return len(self.high)


class TextCache(ShardFolder[Texts], Generic[T]):
    """A folder of texts by key. Of two texts of one key the first in code-point order counts.

    Args:
        read: what a text says; raises `ValueError` for one that cannot have been written here.
    """

    what = "cache"
    schema = SCHEMA
    compression = "zstd"
    merge_rows = 2**18

    def __init__(self, folder: Path, read: Callable[[str], T]) -> None:
        super().__init__(folder)
        self.read = read

    def lookup(self, keys: Sequence[bytes]) -> list[T | None]:
        """What the text of each key says; None where there is none."""
        halves = words(keys)
        out: list[str | None] = [None] * len(keys)
        for high, low, text in self._shards():
            at = find(high, low, halves)
            hits = np.flatnonzero(at >= 0)
            for number, found in zip(hits.tolist(), text.take(pa.array(at[hits])).to_pylist(), strict=True):
                before = out[number]
                out[number] = found if before is None else min(before, found)
        return [None if text is None else self.read(text) for text in out]

    def add(self, keys: Sequence[bytes], values: Sequence[str]) -> None:
        """Write one shard; of no keys, none.

        Raises:
            OutputError: the folder cannot be written, or the disk is full; no shard appears then.
        """
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys and {len(values)} values")
        if keys:
            halves = words(keys)
            self._add(Texts(halves[:, 0], halves[:, 1], pa.array(values, type=pa.large_string())))

    def _map(self, path: Path) -> Texts | None:
        """As its parent; a text that `read` refuses is left out and told of."""
        shard = super()._map(path)
        if shard is None:
            return None
        good = np.fromiter(map(self._readable, shard.text.to_pylist()), dtype=bool, count=shard.height)
        if good.all():
            return shard
        say(f"{self.what}: ignored {int((~good).sum()):,} texts of {path}: not what is kept there")
        return Texts(shard.high[good], shard.low[good], shard.text.filter(pa.array(good)))

    def _readable(self, text: str) -> bool:
        try:
            self.read(text)
        except ValueError:
            return False
        return True

    def _columns(self, rows: Texts) -> list[pa.Array]:
        table = pa.table([pa.array(rows.high), pa.array(rows.low), rows.text], schema=SCHEMA)
        table = table.sort_by([(name, "ascending") for name in SCHEMA.names])
        high, low = (table.column(name).to_numpy() for name in SCHEMA.names[:2])
        first = np.ones(table.num_rows, dtype=bool)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return [column.combine_chunks() for column in table.filter(pa.array(first)).columns]

    def _rows(self, columns: list[pa.Array]) -> Texts:
        high, low, text = columns
        return Texts(high.to_numpy(), low.to_numpy(), text)

    def _joined(self, parts: Sequence[Texts]) -> Texts:
        high, low, text = zip(*parts, strict=True)
        return Texts(np.concatenate(high), np.concatenate(low), pa.concat_arrays(text))
