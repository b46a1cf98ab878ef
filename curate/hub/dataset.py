"""A weighted frame as Parquet files that `datasets` reads: configurations, splits, features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.base.files import ROW_GROUP
from curate.pairs.manifest import DEFAULT
from curate.pairs.schema import GAPS, MESSAGES, OPTIONAL, STAGES, Split, columns

PUBLISHED_SUBSETS = ("balanced", "imbalanced")
SHARD_ROWS = 200_000
"""Of a file, at most: a transfer that breaks off loses no more."""

DTYPES = columns(*STAGES) | OPTIONAL | GAPS
"""What may be published, in this order; columns beyond it stay at home."""


class Part(NamedTuple):
    """One file, and the rows it has."""

    path: str  # in the repository
    rows: int
    size: int  # in memory, bytes, as Arrow counts


Configs = dict[str, dict[str, list[Part]]]
"""Configuration -> split (train, test) -> files in the order of the rows. Only those that have rows."""


def published_columns(frame: pl.DataFrame) -> list[str]:
    """The columns of `frame` that go out, in the schema's order."""
    return [name for name in DTYPES if name in frame.columns]


def write(frame: pl.DataFrame, folder: Path) -> Configs:
    """Write data/*.parquet under `folder`: the same frame, the same bytes.

    `default` has every pair. `balanced` and `imbalanced` have the training pairs of their subset; their `test` is
    the default's, the same file: all held-out pairs.
    """
    training = frame.filter(split=Split.TRAIN.value)
    configs: Configs = {DEFAULT: {}}
    sides = {"train": training, "test": frame.filter(split=Split.HELDOUT.value)}
    configs[DEFAULT] = {side: _write(rows, folder, side) for side, rows in sides.items() if rows.height}
    for subset in PUBLISHED_SUBSETS:
        rows = training.filter(pl.col(subset)) if subset in frame.columns else training.clear()
        if rows.height:
            configs[subset] = configs[DEFAULT] | {"train": _write(rows, folder, subset)}
    return configs


def read(paths: list[Path]) -> pl.DataFrame:
    """The rows of the files, in their order, with the dtypes of `curate.pairs.schema`."""
    frames = [pl.read_parquet(path, glob=False) for path in paths]
    return pl.concat(
        [frame.select(pl.col(name).cast(DTYPES[name]) for name in published_columns(frame)) for frame in frames]
    )


def _write(rows: pl.DataFrame, folder: Path, name: str) -> list[Part]:
    names = published_columns(rows)
    schema = pa.schema([(name, _arrow(DTYPES[name])) for name in names])
    count = -(-rows.height // SHARD_ROWS)
    parts = []
    for shard, shown in enumerate(rows.select(names).iter_slices(SHARD_ROWS)):
        path = folder / f"data/{name}-{shard:05}-of-{count:05}.parquet"
        size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        # Chunks that follow the content: with other weights, the Hub's storage takes only the columns that changed.
        with pq.ParquetWriter(path, schema, compression="zstd", use_content_defined_chunking=True) as writer:
            for group in shown.iter_slices(ROW_GROUP):
                plain = group.with_columns(pl.col(pl.Enum).cast(pl.String))
                table = plain.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
                size += table.nbytes
                writer.write_table(table)
        parts.append(Part(path.relative_to(folder).as_posix(), shown.height, size))
    return parts


def _arrow(dtype: Any) -> pa.DataType:
    """Plain strings and lists, which `datasets` shows as such; polars' own are the large ones."""
    if dtype == MESSAGES:
        return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    return pa.type_for_alias(_plain(dtype))


def _plain(dtype: Any) -> str:
    return "string" if isinstance(dtype, pl.Enum) else {"boolean": "bool"}.get(str(dtype).lower(), str(dtype).lower())


def features(names: list[str]) -> list[dict[str, Any]]:
    """The columns as `dataset_info` in a card's YAML has them."""
    message = [{"name": part, "dtype": "string"} for part in ("role", "content")]
    return [
        {"name": name, **({"list": message} if DTYPES[name] == MESSAGES else {"dtype": _plain(DTYPES[name])})}
        for name in names
    ]
