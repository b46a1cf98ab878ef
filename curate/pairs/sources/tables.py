"""Tables into records: CSV and TSV, whose cells are text, and Parquet, whose cells Python may not be able to hold."""

from __future__ import annotations

import ast
import csv
import datetime
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import polars as pl

from curate.base import limits
from curate.base.errors import InputError
from curate.pairs.sources.base import Unreadable

_TURNS = re.compile(r"""\s*(\[\s*)?\{\s*["'](role|from|content|value|messages)["']\s*:""")
BRACKETS = 2000  # of a cell with turns, at most

_DAY_ONE, _LAST_DAY = -719_162, 2_932_896  # of Python's dates, in days from 1970
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def read_csv(text: str, file: str, delimiter: str = ",") -> list[dict[str, Any]]:
    """Rows by the names in the first line; every value is text, because CSV has no types, or a conversation.

    A cell that begins as turns do is read as JSON, or as Python writes lists (pandas does); where it can be neither,
    it is `Unreadable`.
    """
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    records: list[dict[str, Any]] = []
    try:
        names = next(reader)
        if len(set(names)) != len(names):
            raise InputError("a column name stands twice in the first line", file=file, expected="distinct names")
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise InputError(
                    "a row has not as many values as the first line has names",
                    file=file,
                    row=len(records),
                    found=f"{len(row)} values, ending in line {reader.line_num}",
                    expected=f"{len(names)} values",
                    remedy="put values that hold commas, quotes or line breaks in double quotes",
                )
            records.append(dict(zip(names, map(_cell, row), strict=True)))
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num} is not CSV",
            file=file,
            row=len(records),
            found=error,
            remedy="write the file again",
        ) from None
    return records


def _cell(value: str) -> Any:
    if not _TURNS.match(value):
        return value
    if value.count("[") + value.count("{") > BRACKETS:
        return Unreadable("turns nested too deeply", value)
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list | dict):
            return found
    return Unreadable("text that begins as turns do and is not JSON", value)


def read_parquet(data: bytes, path: Path) -> list[dict[str, Any]]:
    """Rows of a Parquet file.

    Raises:
        InputError: truncated, damaged, or more rows or bytes than it may hold (`curate.base.limits`).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        described = pq.read_metadata(io.BytesIO(data))
        groups = (described.row_group(i).total_byte_size for i in range(described.num_row_groups))
        limits.check_rows(described.num_rows, path, len(data))
        limits.check_unpacked(sum(groups), path, len(data))
        frame = pl.read_parquet(io.BytesIO(data))
        columns = [_values(frame[name]) for name in frame.columns]
    except InputError:
        raise
    except BaseException as error:
        damage = (pl.exceptions.PolarsError, pa.ArrowException, OSError, UnicodeDecodeError)
        if not isinstance(error, damage) and type(error).__name__ != "PanicException":  # (polars' own, of the worst)
            raise
        raise InputError(
            "the Parquet file is truncated or damaged",
            file=path,
            found=(str(error).splitlines() or [type(error).__name__])[0],
            remedy="copy or download it again",
        ) from None
    return [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pl.Series) -> list[Any]:
    """The column's values; a point in time beyond Python's is its number as text, within a struct its number."""
    dtype = column.dtype
    if isinstance(dtype, pl.Date):
        return _within(column, _DAY_ONE, _LAST_DAY)
    if isinstance(dtype, pl.Datetime):
        per_day = _PER_DAY[dtype.time_unit]
        return _within(column, (_DAY_ONE + 1) * per_day, _LAST_DAY * per_day)
    if isinstance(dtype, pl.Duration):
        longest = datetime.timedelta.max.days * _PER_DAY[dtype.time_unit]
        return _within(column, -longest, longest)
    if dtype.is_nested() and any(part in str(dtype) for part in ("Date", "Duration", "Time")):
        return list(column.to_physical().to_list())
    return list(column.to_list())


def _within(column: pl.Series, least: int, most: int) -> list[Any]:
    numbers = column.to_physical()
    held = (numbers >= least) & (numbers <= min(most, 2**63 - 1))
    if held.all(ignore_nulls=True):
        return list(column.to_list())
    values = column.to_frame("at").select(pl.when(held).then(pl.col("at")))["at"].to_list()
    return [value if good in (True, None) else str(n) for value, good, n in zip(values, held, numbers, strict=True)]
