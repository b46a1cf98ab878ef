"""The score store: a log-probability once computed is never computed again.

A folder of shards (`curate.base.shards`). Each row's key is a hash of everything that can change the number, so a
changed model, dtype, engine, template or null prompt finds nothing. Shards are uncompressed (keys are random, nothing
would shrink): they are mapped, not read, and a key is found by bisection, so that a store larger than memory costs
no memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.base import files
from curate.base.errors import InputError
from curate.base.progress import say
from curate.base.shards import SUFFIX, ShardFolder, find, words
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model
from curate.pairs.artefact import HIGHEST_LOGP

SCHEMA = pa.schema([("key_high", pa.uint64()), ("key_low", pa.uint64()), ("logp", pa.float64())])
"""logp: nats, summed over the response's tokens."""

LABEL = "scope.json"
MERGE_ROWS = 2**24  # a shard of so many rows (384 MiB) is left as it is


class Shard(NamedTuple):
    """Columns of one shard, sorted by key; the arrays look into the mapped file."""

    high: np.ndarray  # uint64, [rows]
    low: np.ndarray  # uint64, [rows]
    logp: np.ndarray  # float64, [rows], nats

    @property
    def height(self) -> int:
        """Rows."""
        return len(self.high)


class Shards(ShardFolder[Shard]):
    """A folder of shards: keys of 16 bytes -> log-probs."""

    what = "score store"
    schema = SCHEMA
    compression = None
    merge_rows = MERGE_ROWS

    def add(self, keys: Sequence[bytes], logps: np.ndarray) -> None:
        """Write one shard.

        Raises:
            OutputError: the folder cannot be written, or the disk is full; no shard appears then.
        """
        halves = words(keys)
        self._add(Shard(halves[:, 0], halves[:, 1], np.asarray(logps, dtype=np.float64)))

    def lookup(self, keys: Sequence[bytes]) -> np.ndarray:
        """The number of each key, nats, float64 [keys]; NaN where the store has none."""
        halves = words(keys)
        out = np.full(len(keys), np.nan)
        for high, low, logp in self._shards():
            at = find(high, low, halves)
            hit = np.flatnonzero(at >= 0)
            out[hit] = np.fmin(out[hit], logp[at[hit]])
        return out

    def _map(self, path: Path) -> Shard | None:
        """As its parent; a value that is no log-probability (NaN, infinite, above 0) is left out and told of."""
        shard = super()._map(path)
        if shard is None:
            return None
        good = np.isfinite(shard.logp) & (shard.logp <= HIGHEST_LOGP)
        if good.all():
            return shard
        say(f"{self.what}: ignored {int((~good).sum()):,} values of {path}: no log-probabilities")
        return Shard(*(column[good] for column in shard))

    def _columns(self, rows: Shard) -> list[pa.Array]:
        order = np.lexsort((rows.logp, rows.low, rows.high))
        high, low = rows.high[order], rows.low[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return [pa.array(column[first]) for column in (high, low, rows.logp[order])]

    def _rows(self, columns: list[pa.Array]) -> Shard:
        return Shard(*(column.to_numpy(zero_copy_only=True) for column in columns))

    def _joined(self, parts: Sequence[Shard]) -> Shard:
        return Shard(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Store(Shards):
    """The scores of one model in one dtype by one engine version: a folder of shards under `root`."""

    def __init__(self, root: Path, model: Model, dtype: str, engine: str) -> None:
        self.scope = {"model": model.digest, "dtype": dtype, "engine": engine}
        self._scope = json.dumps(self.scope, sort_keys=True).encode()
        self._label = {**self.scope, "name": model.name, "commit": model.commit}
        super().__init__(root / hashlib.sha256(self._scope).hexdigest()[:16])

    def key(self, sequence: TokenSequence) -> bytes:
        """16 bytes: scope, boundary and token ids (which spell out template, prompt or null prompt, response)."""
        key = hashlib.blake2b(self._scope, digest_size=16)
        key.update(len(sequence.prompt_ids).to_bytes(8, "little"))
        key.update(np.asarray(sequence.prompt_ids, dtype="<i4").tobytes())
        key.update(np.asarray(sequence.response_ids, dtype="<i4").tobytes())
        return key.digest()

    def check_writable(self) -> None:
        """Raise `OutputError` where `add` could not write."""
        files.check_writable(self.folder / LABEL)

    def add(self, keys: Sequence[bytes], logps: np.ndarray) -> None:
        label = self.folder / LABEL
        if not label.is_file():
            files.write_json(self._label, label)
        super().add(keys, logps)


class Held(NamedTuple):
    """What a store holds of one model in one dtype by one engine."""

    folder: Path
    label: dict[str, Any]  # scope.json: model, dtype, engine, name, commit; {} where it cannot be read
    shards: int
    rows: int
    bytes: int  # of everything in the folder
    last_written: float  # seconds since the epoch
    strangers: list[Path]  # damaged shards, and files that are none


def holdings(root: Path) -> list[Held]:
    """What lies under `root`, one entry a scope. Every shard is read, to tell damaged ones.

    Raises:
        InputError: no such folder.
    """
    files.existing(root, "name the store's folder with --store")
    return [_held(folder) for folder in sorted(root.iterdir()) if (folder / LABEL).is_file()]


def _held(folder: Path) -> Held:
    try:
        label = dict(files.read_json(folder / LABEL))
    except (InputError, TypeError, ValueError):
        label = {}
    reader = Shards(folder)
    inside, shards = {}, {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            inside[path] = path.stat()
            if path.suffix == SUFFIX:
                shards[path] = reader._map(path)
        except FileNotFoundError:  # merged meanwhile
            inside.pop(path, None)
    whole = [shard for shard in shards.values() if shard is not None]
    return Held(
        folder,
        label,
        shards=len(whole),
        rows=sum(shard.height for shard in whole),
        bytes=sum(stat.st_size for stat in inside.values()),
        last_written=max((stat.st_mtime for stat in inside.values()), default=0.0),
        strangers=[path for path in inside if path.name != LABEL and shards.get(path) is None],
    )
