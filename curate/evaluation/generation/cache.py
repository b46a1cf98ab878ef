"""What was answered once is not asked again: keys of 16 bytes -> texts, in a folder of shards (`curate.base.shards`).

All texts of a folder are held in memory from the first look-up on, as Arrow: a folder is of one model or judge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.base.shards import ShardFolder, find, words

SCHEMA = pa.schema([("key_high", pa.uint64()), ("key_low", pa.uint64()), ("text", pa.large_string())])


def key(*parts: Any) -> bytes:
    """16 bytes of parts that JSON can say; the same for equal parts, whatever the order of an object's names."""
    said = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


class Texts(NamedTuple):
    """Columns of a shard."""

    high: np.ndarray  # uint64, [rows]
    low: np.ndarray  # uint64, [rows]
    text: pa.LargeStringArray  # [rows]

    @property
    def height(self) -> int:
        """Rows."""
        return len(self.high)


class TextCache(ShardFolder[Texts]):
    """A folder of texts by key. Of two texts of one key the first in code-point order counts."""

    what = "cache"
    schema = SCHEMA
    compression = "zstd"
    merge_rows = 2**18

    def lookup(self, keys: Sequence[bytes]) -> list[str | None]:
        """The text of each key; None where there is none."""
        halves = words(keys)
        out: list[str | None] = [None] * len(keys)
        for high, low, text in self._shards():
            at = find(high, low, halves)
            hits = np.flatnonzero(at >= 0)
            for number, found in zip(hits.tolist(), text.take(pa.array(at[hits])).to_pylist(), strict=True):
                before = out[number]
                out[number] = found if before is None else min(before, found)
        return out

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
