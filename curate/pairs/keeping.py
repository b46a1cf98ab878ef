"""Columns of the source that go along with the pairs, unread, through every later stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from curate.base.errors import InputError, UsageError
from curate.pairs.schema import GAPS, OPTIONAL, RELABELLED, STAGES, columns
from curate.pairs.sources.base import Unreadable, named
from curate.pairs.sources.text import as_json, unix_lines

EXACT = 2**53
"""Up to here a float holds every whole number."""


def wanted(keep: Sequence[str]) -> list[tuple[str, str]]:
    """What each of COLUMN or NAME=COLUMN is to be called, and the column."""
    return [(asked.partition("=")[0], asked.partition("=")[2] or asked) for asked in keep]


def kept_columns(records: Iterable[Any], rows: Sequence[int], keep: Sequence[str], source: str) -> list[pl.Series]:
    """Columns of `records` at `rows`, each asked for as COLUMN or as NAME=COLUMN, where NAME is what it is called then.

    Texts, whole numbers, numbers and booleans keep their type; values of other types, or of several, are JSON text, and
    so are whole numbers that no column of numbers holds exactly.

    Raises:
        UsageError: a name that a column of ours has, or that stands twice.
        InputError: no row has the column.
    """
    asked = wanted(keep)
    names = [name for name, _ in asked]
    ours = {*columns(*STAGES), *OPTIONAL, *GAPS, RELABELLED}
    for name in names:
        if not name or name in ours or names.count(name) > 1:
            raise UsageError(
                "a column cannot be kept under this name",
                field="keep",
                found=name,
                remedy="--keep NAME=COLUMN gives another",
            )
    if not asked:
        return []
    have, places, values = set[str](), set(rows), dict[int, list[Any]]()
    for row, record in enumerate(records):
        if isinstance(record, dict):
            have |= record.keys()
        if row in places:
            held = [record.get(column) for _, column in asked]
            values[row] = [str(value) if isinstance(value, Unreadable) else value for value in held]
    missing = [column for _, column in asked if column not in have]
    if missing:
        raise InputError(
            "no such column to keep", file=source, field=", ".join(missing), found=f"columns {named(have)}"
        )
    return [pl.Series(name, *_typed([values[row][nth] for row in rows])) for nth, name in enumerate(names)]


def _typed(values: list[Any]) -> tuple[list[Any], Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return values, pl.Boolean
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return values, pl.Int64
    if kinds == {int} and all(value is None or 0 <= value < 2**64 for value in values):
        return values, pl.UInt64
    if kinds <= {int, float} and all(type(value) is not int or abs(value) <= EXACT for value in values):
        return [None if value is None else float(value) for value in values], pl.Float64
    if kinds == {str}:
        return [unix_lines(value) for value in values], pl.String
    return [None if value is None else as_json(value) for value in values], pl.String
