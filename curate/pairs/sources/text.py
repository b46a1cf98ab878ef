"""Text as it must be to be stored: UTF-8, LF."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curate.base.errors import InputError
from curate.pairs.sources.base import Malformed, Unreadable

DEEPEST = 100


def unix_lines(value: Any, name: str = "", depth: int = 0) -> Any:
    """The record with every CRLF in it made LF.

    Raises:
        Malformed: a text holds half of a surrogate pair, which no UTF-8 file can store; or the record is
            nested more than DEEPEST deep.
    """
    if depth > DEEPEST:
        raise Malformed(name, f"nested more than {DEEPEST} deep", "a flatter value")
    if isinstance(value, str):
        if not _is_unicode(value):
            raise Malformed(name, "text with a lone surrogate", "text that UTF-8 can hold")
        return value.replace("\r\n", "\n")
    if isinstance(value, dict):
        return {key: unix_lines(part, name or str(key), depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [unix_lines(part, name, depth + 1) for part in value]
    return value


def sound_rows(rows: Iterable[Any], file: str | Path) -> list[Any]:
    """The rows by `unix_lines`, of a file that has no place for refused ones.

    Raises:
        InputError: a row that no file can store.
    """
    sound = []
    for number, row in enumerate(rows):
        try:
            sound.append(unix_lines(row))
        except Malformed as error:
            raise InputError(
                "a row cannot be stored as text",
                file=file,
                row=number,
                field=error.field,
                found=error.found,
                expected=error.expected,
                remedy="mend the row, or drop it",
            ) from None
    return sound


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_json(record: object) -> str:
    """A record as JSON text that UTF-8 can hold; what JSON has no word for (dates) becomes its text."""
    if isinstance(record, Unreadable):
        return as_json(record.text)
    try:
        text = json.dumps(record, ensure_ascii=False, default=str)
    except RecursionError:
        return json.dumps("(a row nested too deeply to be written)")
    return text if _is_unicode(text) else json.dumps(record, default=str)
