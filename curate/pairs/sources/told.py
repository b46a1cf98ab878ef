"""Conversations that a field holds as text: as JSON, or as Python and numpy write lists."""

from __future__ import annotations

import re
from typing import Any

from curate.pairs.sources.base import Unreadable
from curate.pairs.sources.decoding import Twice
from curate.pairs.sources.tables import written
from curate.pairs.sources.turns import ROLES, is_turn

_OPENS = re.compile(r"""\s*(?:array\(\s*)?(?:\[\s*)?\{\s*["']""")
_BEGINS = re.compile(
    r"""\s*(?:array\(\s*)?\[\s*\{\s*["'](?:role|from|content|value)["']\s*:"""
    rf"""|\s*\{{\s*["'](?:role|from)["']\s*:\s*["'](?:{"|".join(ROLES)})["']"""
)
_ARRAY = re.compile(r"\s*array\((.*?)(?:,\s*dtype=object)?\)\s*", re.DOTALL)


def with_turns(record: Any) -> Any:
    """The record; a field whose text is turns has them, and one whose text only begins as they do is `Unreadable`."""
    if not isinstance(record, dict):
        return record
    told = {name: turns for name, value in record.items() if (turns := _turns(value)) is not None}
    return record | told if told else record


def _turns(value: object) -> Any:
    if not isinstance(value, str) or not _OPENS.match(value):
        return None
    array = _ARRAY.fullmatch(value)
    fault = "text that begins as turns do and is not JSON"
    try:
        found = written(array[1] if array else value)
        talk = found.get("messages") if isinstance(found, dict) and "messages" in found else found
        return found if _are_turns(talk if isinstance(talk, list) else [talk]) else None
    except RecursionError:
        fault = "turns nested too deeply"
    except Twice as error:
        fault = str(error)
    except ValueError:
        pass
    return Unreadable(fault, value) if _BEGINS.match(value) else None


def _are_turns(found: list[Any]) -> bool:
    """Whether all are objects with a role, of which one is known, and something is said: an answer may be JSON, too."""
    if not all(map(is_turn, found)):
        return False
    roles = [turn.get("role", turn.get("from")) for turn in found]
    known = any(isinstance(role, str) and role.lower() in ROLES for role in roles)
    return known and any("content" in turn or "value" in turn for turn in found)
