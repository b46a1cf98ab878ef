"""Tables into records: CSV and TSV, whose cells are text, and Parquet, whose cells Python may not be able to hold."""

from __future__ import annotations

import csv
import datetime
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from curate.base import limits
from curate.base.errors import InputError, first_line
from curate.pairs.sources.base import named

SEPARATORS = {
    ",": ("commas", "name the file .csv"),
    "\t": ("tabs", "name the file .tsv"),
    ";": (
        "semicolons",
        "write commas, in Python: `polars.read_csv(FILE, separator=';', infer_schema=False).write_csv('a.csv')`",
    ),
}
"""What parts the columns of a table, its word, and what to do where a file's name says another."""

TYPE_NOT_READ = "a column has a type that is not read"
_NOT_HELD = re.compile(r"decimal256|map<(?!(large_)?string|u?int|bool|float|double)")
SPAN_BYTES = 2**26  # of row groups, decoded, that are read at a time
PART_ROWS = 1024  # of them that are Python's at a time
_DAY_ONE, _LAST_DAY = -719_162, 2_932_896  # of Python's dates, in days from 1970
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def read_csv(text: str, file: str, delimiter: str = ",") -> list[dict[str, Any]]:
    """Rows by the names in the first line; every value is text, because CSV has no types (what of it is turns,
    `curate.pairs.sources.told` reads)."""
    _check_parted(text, file, delimiter)
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
            records.append(dict(zip(names, row, strict=True)))
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num} is not CSV",
            file=file,
            row=len(records),
            found=error,
            remedy="write the file again",
        ) from None
    return records


def _check_parted(text: str, file: str, delimiter: str) -> None:
    """Raise `InputError` where the first line is Excel's of the separator, or another separator parts its names."""
    first = text[: text.find("\n") % (len(text) + 1)].strip()
    if re.fullmatch(r"sep=.", first):
        remedy = "take that line out"
        raise InputError("the first line names the separator, not the columns", file=file, found=first, remedy=remedy)
    for other, (word, remedy) in SEPARATORS.items():
        if (
            other != delimiter
            and delimiter not in first
            and re.fullmatch(rf'[\w .\-"]+({re.escape(other)}[\w .\-"]+)+', first)
        ):
            raise InputError(
                "another separator than the file's name says parts its columns",
                file=file,
                found=f"{word} in the first line",
                expected=SEPARATORS[delimiter][0],
                remedy=remedy,
            )


def parquet_rows(source: Path | bytes, path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, which `source` is or holds the bytes of; a few groups of them are in memory at a time.

    Raises:
        InputError: truncated, damaged, or more rows or bytes than it may hold (`curate.base.limits`).
    """
    if isinstance(source, Path) and not _is_utf8(source):  # polars takes no other names
        source = limits.read_bytes(source)
    first = 0
    for count in _spans(source, path):
        with _sound(path):
            frame = pl.scan_parquet(
                io.BytesIO(source) if isinstance(source, bytes) else source, glob=False, hive_partitioning=False
            )
            frame = frame.slice(first, count).collect()
        for part in frame.iter_slices(PART_ROWS):
            with _sound(path):
                columns = [_values(part[name]) for name in part.columns]
            for row in zip(*columns, strict=True):
                yield dict(zip(part.columns, row, strict=True))
        first += count


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _spans(source: Path | bytes, path: Path) -> list[int]:
    """Rows to read at a time: whole groups, but no more than are needed to make reading them worth while."""
    import pyarrow.parquet as pq

    with _sound(path), io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        described = pq.read_metadata(file)
        _check_columns(described, path)
        groups = [described.row_group(i) for i in range(described.num_row_groups)]
        limits.check_rows(described.num_rows, path, size)
        limits.check_unpacked(sum(group.total_byte_size for group in groups), path, size)
        spans, room = [0], SPAN_BYTES
        for group in groups:
            if spans[-1] and group.total_byte_size > room:
                spans, room = [*spans, 0], SPAN_BYTES
            spans[-1] += group.num_rows
            room -= group.total_byte_size
    return spans


def _check_columns(described: Any, path: Path) -> None:
    """Raise `InputError` where two columns have one name, or one has a type that polars has not."""
    import pyarrow as pa

    try:
        columns = list(described.schema.to_arrow_schema())
    except pa.ArrowException:  # (it is polars that reads the file)
        return
    names = [column.name for column in columns]
    twice = named({name for name in names if names.count(name) > 1})
    if len(set(names)) != len(names):
        raise InputError("a column name stands twice", file=path, field=twice, expected="distinct names")
    for column in columns:
        if _NOT_HELD.search(str(column.type)):
            raise InputError(
                TYPE_NOT_READ,
                file=path,
                field=column.name,
                found=column.type,
                expected="decimals of at most 38 digits, maps by texts or numbers",
                remedy="write the column as numbers or text",
            )


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """What says that a Parquet file is damaged, as `InputError`."""
    import pyarrow as pa

    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        damage = (pl.exceptions.PolarsError, pa.ArrowException, OSError, UnicodeDecodeError)
        if not isinstance(error, damage) and type(error).__name__ != "PanicException":  # (polars' own, of the worst)
            raise
        what, remedy = "the Parquet file is truncated or damaged", "copy or download it again"
        if isinstance(error, pa.ArrowNotImplementedError):
            what, remedy = TYPE_NOT_READ, "write the column as numbers or text"
        raise InputError(what, file=path, found=first_line(error), remedy=remedy) from None


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
    counted = _counted(dtype)
    return list((column if counted == dtype else column.cast(counted)).to_list())


def _counted(dtype: Any) -> Any:
    """The type with whole numbers for the points in time within it; all else stays what it is."""
    if isinstance(dtype, pl.List):
        return pl.List(_counted(dtype.inner))
    if isinstance(dtype, pl.Array):
        return pl.Array(_counted(dtype.inner), dtype.size)
    if isinstance(dtype, pl.Map):
        return pl.Map(_counted(dtype.key), _counted(dtype.value))
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(field.name, _counted(field.dtype)) for field in dtype.fields])
    if isinstance(dtype, pl.Date | pl.Datetime | pl.Duration):
        return pl.Int64
    return dtype


def _within(column: pl.Series, least: int, most: int) -> list[Any]:
    numbers = column.to_physical()
    held = (numbers >= max(least, -(2**63))) & (numbers <= min(most, 2**63 - 1))
    if held.all(ignore_nulls=True):
        return list(column.to_list())
    values = column.to_frame("at").select(pl.when(held).then(pl.col("at")))["at"].to_list()
    return [value if good in (True, None) else str(n) for value, good, n in zip(values, held, numbers, strict=True)]
