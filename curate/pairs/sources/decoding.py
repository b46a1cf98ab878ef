"""Text into records: JSON arrays, JSON lines and CSV. A fault is an error that names its line or row."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

from curate.base.errors import InputError

JSON_REMEDY = "mend the file; expected are a JSON array of objects, or one object a line"


def read_json_array(text: str, file: str) -> list[Any]:
    """The elements of one JSON array."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise InputError("the JSON is nested too deeply", file=file, remedy=JSON_REMEDY) from None
    except ValueError as error:
        raise InputError(
            "not a JSON array", file=file, row=_elements_before_fault(text), found=error, remedy=JSON_REMEDY
        ) from None
    return list(value)


def _elements_before_fault(text: str) -> int:
    """How many elements of a broken array are whole: the 0-based row of its first fault."""
    decoder, at, whole = json.JSONDecoder(), text.index("[") + 1, 0
    try:
        while True:
            while text[at] in " \t\r\n,":
                at += 1
            _, at = decoder.raw_decode(text, at)
            whole += 1
    except (ValueError, IndexError):
        return whole


def read_json_lines(text: str, file: str) -> list[Any]:
    """One JSON value a line; empty lines are passed over."""
    records: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except RecursionError:
            raise InputError(
                f"line {number} is nested too deeply", file=file, row=len(records), remedy=JSON_REMEDY
            ) from None
        except ValueError as error:
            at = f" at character {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            what = error.msg if isinstance(error, json.JSONDecodeError) else "a number too long"
            raise InputError(
                f"line {number} is not JSON", file=file, row=len(records), found=f"{what}{at}", remedy=JSON_REMEDY
            ) from None
    return records


def read_csv(text: str, file: str) -> list[dict[str, str]]:
    """Rows by the names in the first line; every value is text, because CSV has no types."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[dict[str, str]] = []
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
