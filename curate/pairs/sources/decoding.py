"""JSON text into records: arrays, objects one a line or over several lines, and a list inside an object.

A fault of the text is an error that names its line or row; a row that is JSON and cannot be held (nested too deeply,
or a field that stands twice) is one `Unreadable`, for the rejects.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from curate.base.errors import InputError
from curate.pairs.sources.base import Unreadable, named
from curate.pairs.sources.turns import is_turn

JSON_REMEDY = "mend the file; expected are a JSON array of objects, or one object a line"
WRAPPERS = ("data", "rows", "examples", "instances", "records", "train")
OF_ROWS = (
    "prompt",
    "chosen",
    "rejected",
    "question",
    "instruction",
    "response",
    "completion",
    "conversations",
    "messages",
)
LONGEST = 4300  # digits of a whole number, Python's own bound
DEEP = "JSON that is nested too deeply"

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_GAP = re.compile(r"[\s,]*")


class Twice(ValueError):
    """An object in which a field stands twice: JSON's readers take the last one, and nobody knows which is meant."""


def once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its fields. Raises `Twice`."""
    held = dict(fields)
    if len(held) != len(fields):
        twice = [name for name, times in Counter(name for name, _ in fields).items() if times > 1]
        raise Twice(f"an object with a field that stands twice ({named(twice)})")
    return held


def _whole_number(digits: str) -> int | str:
    return digits if len(digits) > LONGEST else int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=once)
_OF_LONG_NUMBERS = json.JSONDecoder(object_pairs_hook=once, parse_int=_whole_number)
"""Made once: `json.loads` makes one for each call that has a hook."""


def read_json_array(text: str, file: str) -> list[Any]:
    """The elements of one JSON array."""
    try:
        return list(loads(text))
    except (RecursionError, Twice):
        return list(_elements(text, text.index("[") + 1, file, closed=True))
    except ValueError as error:
        row = sum(1 for _ in _whole(text, text.index("[") + 1))
        raise InputError("not a JSON array", file=file, row=row, found=error, remedy=JSON_REMEDY) from None


def read_json_objects(text: str, file: str) -> list[Any]:
    """Objects one a line or over several lines; a single one that holds the list of rows is opened."""
    if not is_value(text.lstrip().split("\n", 1)[0]) and next(_whole(text, 0), None) is not None:
        return _unwrapped(list(_elements(text, 0, file, closed=False)))
    return _unwrapped(list(json_lines(text.split("\n"), file)))


def json_lines(lines: Iterable[str], file: str) -> Iterator[Any]:
    """One JSON value a line; empty lines are passed over."""
    row = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = loads(line)
        except RecursionError:
            value = Unreadable(DEEP, line)
        except Twice as error:
            value = Unreadable(str(error), line)
        except ValueError as error:
            at = f" at character {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            what = error.msg.removesuffix(" at") if isinstance(error, json.JSONDecodeError) else "not JSON"
            raise InputError(
                f"line {number} is not JSON", file=file, row=row, found=f"{what}{at}", remedy=JSON_REMEDY
            ) from None
        yield value
        row += 1


def is_value(line: str) -> bool:
    """Whether the line is JSON, however deep, and whatever stands in it twice."""
    try:
        loads(line)
    except (RecursionError, Twice):
        return True
    except ValueError:
        return False
    return True


def loads(text: str) -> Any:
    """JSON; a whole number of more digits than Python takes stays text. Raises `Twice`."""
    try:
        return _DECODER.decode(text)
    except (json.JSONDecodeError, Twice):
        raise
    except ValueError:
        return _OF_LONG_NUMBERS.decode(text)


def _elements(text: str, at: int, file: str, *, closed: bool) -> Iterator[Any]:
    """Values from `at` on, between them commas or white space, to the end or (`closed`) to the bracket before it."""
    row = 0
    while (at := _gap(text, at)) < len(text):
        if closed and text[at] == "]" and not text[at + 1 :].strip():
            return
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (RecursionError, Twice) as error:
            end = _closing(text, at)
            if end is None:
                raise InputError("the JSON is nested too deeply", file=file, row=row, remedy=JSON_REMEDY) from None
            found = str(error) if isinstance(error, Twice) else DEEP
            value, at = Unreadable(found, text[at:end]), end
        except ValueError as error:
            line = text.count("\n", 0, at) + 1
            what = error.msg if isinstance(error, json.JSONDecodeError) else "a number too long"
            raise InputError(
                f"line {line} begins a value that is not JSON", file=file, row=row, found=what, remedy=JSON_REMEDY
            ) from None
        yield value
        row += 1
    if closed:
        raise InputError("the JSON array does not end", file=file, row=row, remedy=JSON_REMEDY)


def _whole(text: str, at: int) -> Iterator[Any]:
    """The values before the first fault."""
    decoder = json.JSONDecoder()
    try:
        while (at := _gap(text, at)) < len(text):
            value, at = decoder.raw_decode(text, at)
            yield value
    except (ValueError, RecursionError):
        return


def _gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _closing(text: str, at: int) -> int | None:
    """Where the bracketed value that begins at `at` ends."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return None


class Wrapped(list[Any]):
    """The rows of a file that is one object around them, and what stands beside them in it."""

    def __init__(self, rows: list[Any], beside: dict[str, Any]) -> None:
        super().__init__(rows)
        self.beside = beside


def _unwrapped(records: list[Any]) -> list[Any]:
    """The rows of a file that is one object around them: `{"data": [...]}`."""
    if len(records) != 1 or not isinstance(records[0], dict):
        return records
    (record,) = records
    lists = lists_of_rows(record)
    if len(lists) == 1 and (len(record) == 1 or lists[0] in WRAPPERS):
        return Wrapped(record[lists[0]], {name: value for name, value in record.items() if name != lists[0]})
    return records


def lists_of_rows(record: dict[str, Any]) -> list[str]:
    """The fields that are lists of objects, as a file of several tables has them."""
    return [name for name, value in record.items() if _is_rows(value)]


def _is_rows(value: object) -> bool:
    """Whether it is a list with objects, which are no turns of a conversation; other values in it are rejects."""
    if not isinstance(value, list):
        return False
    return any(isinstance(one, dict) for one in value) and not any(_only_a_turn(one) for one in value)


def _only_a_turn(one: Any) -> bool:
    """Whether it is a turn and has no field of a row, which may have a role, too."""
    return is_turn(one) and not one.keys() & set(OF_ROWS)
