"""The score store: a log-probability once computed is never computed again.

A folder of immutable Parquet shards. A shard is written under a temporary name and renamed, and its name is
the digest of its bytes: killing a writer at any instant loses the batch in flight at most, two writers cannot
meet, and a torn or foreign file is told from a shard and left alone. Each row's key is a hash of everything
that can change the number, so a changed model, dtype, engine, template or null prompt finds nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from curate import files
from curate.models import Model
from curate.progress import say
from curate.rendering import TokenSequence

ROWS = {"key": pl.Binary, "logp": pl.Float64}  # nats, summed over the response's tokens
NAME_DIGITS = 32


class Store:
    """The scores of one model in one dtype by one engine version, under `root`."""

    def __init__(self, root: Path, model: Model, dtype: str, engine: str) -> None:
        self.scope = {"model": model.digest, "dtype": dtype, "engine": engine}
        self._scope = json.dumps(self.scope, sort_keys=True).encode()
        self.folder = root / hashlib.sha256(self._scope).hexdigest()[:16]
        self._label = {**self.scope, "name": model.name, "commit": model.commit}

    def key(self, sequence: TokenSequence) -> bytes:
        """16 bytes: scope, boundary and token ids (which spell out template, prompt or null prompt, response)."""
        key = hashlib.blake2b(self._scope, digest_size=16)
        key.update(len(sequence.prompt_ids).to_bytes(8, "little"))
        key.update(np.asarray(sequence.prompt_ids, dtype="<i4").tobytes())
        key.update(np.asarray(sequence.response_ids, dtype="<i4").tobytes())
        return key.digest()

    def add(self, keys: Sequence[bytes], logps: np.ndarray) -> None:
        """Write one shard.

        Raises:
            OutputError: the folder cannot be written, or the disk is full; no shard appears then.
        """
        buffer = io.BytesIO()
        pl.DataFrame({"key": list(keys), "logp": logps}, schema=ROWS).write_parquet(buffer)
        content = buffer.getvalue()
        label = self.folder / "scope.json"
        if not label.is_file():
            files.write_json(self._label, label)
        with files.replacing(self.folder / f"{_name(content)}.parquet") as temporary:
            temporary.write_bytes(content)

    def read(self) -> pl.DataFrame:
        """Every row, columns `ROWS`, one a key; a file that is no whole shard is named and left out."""
        frames = []
        for shard in sorted(self.folder.glob("*.parquet")):
            content = shard.read_bytes()
            if _name(content) != shard.stem:
                say(f"score store: ignored {shard}: torn, or not written by curate")
                continue
            frames.append(pl.read_parquet(io.BytesIO(content)))
        if not frames:
            return pl.DataFrame(schema=ROWS)
        # Two scorers at once may both have scored a batch; the numbers agree, the first is kept.
        return pl.concat(frames).unique("key", keep="first", maintain_order=True)


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:NAME_DIGITS]
