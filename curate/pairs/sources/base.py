"""What every input format shares: the parsed pair, the refused row, and checked access to a record's fields.

Only this edge handles records one by one in Python; everything after it is a frame. A reason or an error
made here names fields and types, never the text of a row, which may be harmful.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from curate.pairs.schema import LARGEST, QueryType, Split

Record = Mapping[str, Any]
Message = dict[str, str]


class Unreadable:
    """A row or a cell that stands in the file and cannot be held as a value: what it is, and its text."""

    def __init__(self, found: str, text: str) -> None:
        self.found = found
        self.text = text

    def __str__(self) -> str:
        return self.text


class Origin(NamedTuple):
    """What a pair of ours already knows of itself; kept when our own file is read again."""

    split: Split | None
    source: str
    source_format: str
    source_row: int


class Ratings(NamedTuple):
    """What the source knows of the responses' quality: the fields of `curate.pairs.schema.OPTIONAL`, in their order."""

    chosen_reward: float | None = None  # helpfulness, higher is better
    rejected_reward: float | None = None
    chosen_cost: float | None = None  # harmfulness, higher is worse
    rejected_cost: float | None = None
    margin: float | None = None  # how much better the chosen response is, where the source says only that


class Parsed(NamedTuple):
    """One record as a pair, before the cleaning rules."""

    prompt: list[Message]
    chosen: list[Message]  # one assistant turn
    rejected: list[Message]  # one assistant turn
    query_type: QueryType = QueryType.UNKNOWN
    chosen_safe: bool | None = None
    rejected_safe: bool | None = None
    marks: tuple[str, ...] = ()  # facts worth counting; the pair is kept
    origin: Origin | None = None
    ratings: Ratings = Ratings()


class Refused(Exception):
    """A record that gives no pair: the rule that says so, and the reason in one sentence."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


class Malformed(Refused):
    """A record that does not fit its format; `found` and `expected` are types, not text."""

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__("malformed", f"{field} is {found}; expected {expected}")
        self.field = field
        self.found = found
        self.expected = expected


class NullPrompt(Refused):
    """A prompt that is null."""

    def __init__(self, field: str) -> None:
        super().__init__("null_prompt", f"{field} is null")
        self.field = field


def parse_as(parse: Callable[[Record], Parsed], record: Record, theirs: Mapping[str, str | None]) -> Parsed:
    """`parse` of a record whose fields the file calls otherwise (ours -> theirs): a fault is told by its names."""

    def in_file(field: str) -> str:
        return re.sub(r"[a-z_]+", lambda ours: theirs.get(ours[0]) or ours[0], field)

    try:
        return parse(record)
    except NullPrompt as error:
        raise NullPrompt(in_file(error.field)) from None
    except Malformed as error:
        raise Malformed(in_file(error.field), error.found, error.expected) from None


def kind(value: object) -> str:
    """The type of a JSON value, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, Unreadable):
        return value.found
    if isinstance(value, dict):
        return "object"
    names = {bool: "boolean", int: "integer", float: "number", Decimal: "number"}
    names |= {str: "text", list: "list"}
    return names.get(type(value), type(value).__name__)


_NAME = re.compile(r"(?=.{1,40}\Z)[^\W\d][\w.\-]*(?: [\w.\-]+)?")
NAMES_SHOWN = 20


def named(fields: Iterable[object]) -> str:
    """Fields for a message: those that look like a column's name, of one word or two, quoted where white space is a
    part of it; the others, which may be a row's text, counted."""
    like_names = {field for field in fields if isinstance(field, str) and _NAME.fullmatch(field.strip())}
    names = sorted(repr(field) if re.search(r"\s", field) else field for field in like_names)
    more = len({str(field) for field in fields}) - min(len(names), NAMES_SHOWN)
    shown = [*names[:NAMES_SHOWN], *([f"{more} more"] if more and names else [])]
    return ", ".join(shown) or f"{more} not shown, for their names may be a row's text"


def field(record: Record, name: str, expected: str) -> Any:
    if name not in record:
        raise Malformed(name, "missing", expected)
    return record[name]


def text(record: Record, name: str) -> str:
    value = field(record, name, "text")
    if not isinstance(value, str):
        raise Malformed(name, kind(value), "text")
    return value


def prompt_text(record: Record, name: str = "prompt") -> str:
    if name in record and record[name] is None:
        raise NullPrompt(name)
    return text(record, name)


def boolean(record: Record, name: str) -> bool:
    """A boolean; also the words true and false, because CSV has no types."""
    value = field(record, name, "boolean")
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise Malformed(name, "another word" if value else "an empty text", "true or false")
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise Malformed(name, kind(value), "boolean")
    return value


def optional_boolean(record: Record, name: str) -> bool | None:
    return None if record.get(name) in (None, "") else boolean(record, name)


def optional_number(record: Record, name: str) -> float | None:
    """A finite number, None where there is none; also its text, because CSV has no types."""
    value = record.get(name)
    if value in (None, ""):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise Malformed(name, kind(value), "a finite number")
    try:
        number = float("" if isinstance(value, str) and "_" in value else value)  # (1_0 is 10 in Python alone)
    except (ValueError, ArithmeticError):  # an integer beyond the largest float overflows
        raise Malformed(name, kind(value), "a finite number") from None
    if not math.isfinite(number):
        raise Malformed(name, "a number that is not finite", "a finite number")
    if abs(number) > LARGEST / 10:  # differences of two are below it, too
        raise Malformed(name, f"a number beyond {LARGEST / 10:g}", "a finite number")
    return number


def number(value: object, name: str) -> float:
    """A finite number that must be there; `name` says where it stands."""
    found = optional_number({name: value}, name)
    if found is None:
        raise Malformed(name, kind(value), "a number")
    return found


def listed(record: Record, name: str) -> list[Any]:
    value = field(record, name, "list")
    if not isinstance(value, list):
        raise Malformed(name, kind(value), "list")
    return value


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def shared_start(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items (characters, turns) the two have in common before they first differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def query_type_of(chosen_safe: bool | None, rejected_safe: bool | None) -> QueryType:
    """Unsafe query = exactly one response safe; safe query = both safe; else unknown (docs/columns.md).

    Two unsafe responses leave it unknown; the rule `both_unsafe` refuses such a pair.
    """
    if chosen_safe is None or rejected_safe is None:
        return QueryType.UNKNOWN
    if chosen_safe != rejected_safe:
        return QueryType.UNSAFE
    return QueryType.SAFE if chosen_safe else QueryType.UNKNOWN
