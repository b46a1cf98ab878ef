"""Conversations that a field holds as text: as JSON, or as Python and numpy write lists. A cell of CSV, a text column
of Parquet and a text in JSON are all read here, and so alike."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Set
from contextlib import suppress
from typing import Any, NamedTuple

from curate.pairs.identity import EDGES
from curate.pairs.sources.base import Unreadable
from curate.pairs.sources.decoding import Twice, loads, once
from curate.pairs.sources.turns import ROLES, is_turn

BRACKETS = 2000  # of a text with a list or an object, at most, where Python wrote it

_OPENS = re.compile(r"""(?:array\(\s*)?(?:\[\s*)*\{\s*["']""")
_EMPTY = re.compile(r"(?:array\(\s*)?(?:\[\s*\]|\{\s*\})(?:,\s*dtype=object)?\)?")
_ROLE = rf"""["'](?:{"|".join(ROLES)})["']"""
_FIRST = rf"""\{{\s*(?:["'](?:role|from|content|value)["']\s*:|{_ROLE}\s*,)"""  # (the second, polars writes)
_BEGINS = re.compile(
    rf"""(?:array\(\s*)?\[\s*{_FIRST}|\{{\s*["']messages["']\s*:\s*\[\s*{_FIRST}"""
    rf"""|\{{\s*["'](?:role|from)["']\s*:\s*{_ROLE}"""
)
_ARRAY = re.compile(r"array\((.*?)(?:,\s*dtype=object)?\)", re.DOTALL)
_NUMPY = re.compile(
    r"""(?P<kept>'(?:[^'\\]|\\.)*+(?:'|\Z)|"(?:[^"\\]|\\.)*+(?:"|\Z))(?P<text>\s+(?=['"]))?"""
    r"""|(?:array\(|,\s*dtype=object\))(?P<array>(?<=\))\s+(?=array))?"""
    r"""|(?P<end>[\]}])\s+(?=[\[{])|(?P<digit>[\d.])\s+(?=[-\d.])""",
    re.DOTALL,
)
"""A text, which stays as it is, and arrays within a list; and the gap that numpy leaves where Python has a comma."""

NOT_JSON = "text that begins as turns do and is not JSON"
NO_TURNS = "text of a list or an object that is no turns, in a field that has turns in most rows"


class _Found(NamedTuple):
    """What a text is, and what is read of it."""

    what: str  # one of KINDS
    value: Any


KINDS = ("turns", "as turns", "list", "empty", "text")
"""Turns, or what can be nothing else and is `Unreadable`; those whose roles are none that is known; a list or object
that is no turns; an empty one; a text. The second to the fourth are an answer where the field holds texts."""


class Talks:
    """Reads turns that a source's fields hold as text, and counts what each field holds.

    A list or an object that is no turns may be an answer in JSON, and is a text. In a field that has turns in most rows
    nobody would take it for one: there it is `Unreadable`, or, where only its roles are unknown, a list that its reader
    refuses. Which fields these are is known once all rows are gone over.

    Args:
        fields: those, by `fields_of_turns` after an earlier time.
    """

    def __init__(self, fields: Set[str] = frozenset()) -> None:
        self.fields = fields
        self.counts = {what: Counter[str]() for what in KINDS}

    def told(self, record: dict[str, Any]) -> dict[str, Any]:
        """`with_turns` of a record."""
        told = {}
        for name, value in record.items():
            if isinstance(value, str) and value:
                what, found = _read(value)
                self.counts[what][name] += 1
                if what == "turns" or (what != "text" and name in self.fields):
                    told[name] = found
            elif isinstance(value, list | dict):
                self.counts["turns"][name] += 1
        return record | told if told else record

    def fields_of_turns(self) -> frozenset[str]:
        """The fields in which some list or object was taken for a text, and most values are turns."""
        turns, as_turns, lists, empty, texts = (self.counts[what] for what in KINDS)
        return frozenset(
            name for name in as_turns | lists | empty if turns[name] + as_turns[name] > lists[name] + texts[name]
        )


def with_turns(record: Any) -> Any:
    """The record; a field whose text is turns has them, and one whose text only begins as they do is `Unreadable`."""
    return Talks().told(record) if isinstance(record, dict) else record


def with_lists(record: Any, names: Set[str]) -> Any:
    """The record; of the fields `names`, which are lists or objects and nothing else, those that are one's text are
    read."""
    if not isinstance(record, dict):
        return record
    found = {name: opened(record[name]) for name in names if isinstance(record.get(name), str)}
    return record | found if found else record


def opened(value: Any) -> Any:
    """The list or object that a text is; any other value as it is."""
    if isinstance(value, str):
        text = value.strip(EDGES)
        array = _ARRAY.fullmatch(text)
        with suppress(ValueError, RecursionError):
            return written(array[1] if array else text)
    return value


def _read(value: str) -> _Found:
    if value[0].isalnum() and not value.startswith("array("):
        return _Found("text", value)
    text = value.strip(EDGES)
    if not _OPENS.match(text):
        return _Found("empty", Unreadable(NO_TURNS, value)) if _EMPTY.fullmatch(text) else _Found("text", value)
    array = _ARRAY.fullmatch(text)
    fault = NOT_JSON
    try:
        found = written(array[1] if array else text)
        talk = found.get("messages") if isinstance(found, dict) and "messages" in found else found
        turns: list[Any] = talk if isinstance(talk, list) else [talk]
        if _are_turns(turns):
            return _Found("turns" if _known(turns) else "as turns", found)
        return _Found("list", Unreadable(NO_TURNS, value))
    except RecursionError:
        fault = "turns nested too deeply"
    except Twice as error:
        fault = str(error)
    except ValueError:
        pass
    return _Found("turns" if _BEGINS.match(text) else "list", Unreadable(fault, value))


def _are_turns(found: list[Any]) -> bool:
    """Whether all are objects with a role, and something is said."""
    return bool(found) and all(map(is_turn, found)) and any("content" in turn or "value" in turn for turn in found)


def _known(turns: list[dict[str, Any]]) -> bool:
    """Whether one's role is known: an answer may be JSON, too."""
    roles = (turn.get("role", turn.get("from")) for turn in turns)
    return any(isinstance(role, str) and role.lower() in ROLES for role in roles)


def written(value: str) -> list[Any] | dict[str, Any]:
    """The list or object that a text is, in JSON or as Python writes it.

    Raises:
        RecursionError: it is nested too deeply, or as Python writes it has more than BRACKETS.
        Twice: a field stands twice in an object.
        ValueError: it is neither.
    """
    found: Any = None
    try:
        found = loads(value)
    except Twice:
        raise
    except ValueError:
        if value.count("[") + value.count("{") > BRACKETS:
            raise RecursionError from None
        with suppress(SyntaxError, RecursionError, MemoryError):
            found = _literal(_NUMPY.sub(_as_python, value))
    if not isinstance(found, list | dict):
        raise ValueError("neither a list nor an object")
    return found


def _as_python(part: re.Match[str]) -> str:
    """What Python writes where numpy wrote this part."""
    stays = part["kept"] or part["end"] or part["digit"] or ""
    return f"{stays}, " if part["text"] or part["array"] or part["end"] or part["digit"] else stays


def _literal(text: str) -> Any:
    """A value as Python writes it, of what JSON has: keys are texts, each once, and no sets. Raises `ValueError`."""
    tree = ast.parse(text.lstrip(" \t"), mode="eval")
    nodes = list(ast.walk(tree))
    if any(isinstance(node, ast.Set) for node in nodes):
        raise ValueError("an object without keys")
    for keys in [node.keys for node in nodes if isinstance(node, ast.Dict)]:
        names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
        if len(names) != len(keys):
            raise ValueError("a key that is no text")
        once([(name, None) for name in names])
    return ast.literal_eval(tree)
