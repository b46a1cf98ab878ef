"""How a file of pairs is read: the Parquet file that a stage wrote, with the columns that the next one needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from curate.base.errors import InputError
from curate.base.files import existing
from curate.pairs.schema import check_columns


def read_artefact(path: str | Path, *stages: str) -> pl.DataFrame:
    """A Parquet file of ours with the columns of every stage named (see `curate.pairs.schema.STAGES`).

    Raises:
        InputError: missing, not Parquet, or without the columns.
    """
    with _reading(path):
        return scan_artefact(path, *stages).collect()


def scan_artefact(path: str | Path, *stages: str) -> pl.LazyFrame:
    """`read_artefact`, not yet read."""
    path = existing(path, f"make it first with `curate {stages[-1]}`" if stages else "check the path")
    if path.is_dir():
        raise InputError("this is a folder, not a Parquet file", file=path)
    with _reading(path):
        frame = pl.scan_parquet(path, glob=False)
        check_columns(frame, *stages, file=path)
    return frame


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            "not a readable Parquet file",
            file=path,
            found=str(error).splitlines()[0],
            remedy="write it again",
        ) from error
