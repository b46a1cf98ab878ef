"""A file's own names for the fields, named by the user: `--field prompt=question --field chosen=answer_a`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from curate.base.errors import InputError, UsageError
from curate.pairs.sources import trl
from curate.pairs.sources.base import Malformed, Parsed, Record, named, parse_as
from curate.pairs.sources.format import Format
from curate.pairs.sources.replies import COSTS, LABELS, RATED, SIDES, SYSTEM
from curate.pairs.sources.told import with_lists, with_turns

OF_SIDE = {side: (f"{side}_safe", f"{side}_reward", f"{side}_cost", "margin") for side in SIDES}
"""What is said of a response by the names that it and its column have."""

TARGETS = ("prompt", SYSTEM[0], *SIDES, *LABELS, *RATED[0], *COSTS, "margin")


def mapped(fields: Mapping[str, str]) -> Format:
    """The format in which our names are theirs; a name that is not mapped stands for itself where a row has it.

    But of a response for which another column stands, labels and ratings are read where they are mapped, too: by their
    names they are the other response's. So is a system text that is the prompt, or another field, already.
    A dot goes into objects and lists: `answers.0.text`.

    Raises:
        UsageError: a name on the left that is none of TARGETS.
    """
    odd = [ours for ours in fields if ours not in TARGETS]
    if odd:
        raise UsageError("no such field of a pair", field="field", found=", ".join(odd), expected=", ".join(TARGETS))

    moved = [side for side in SIDES if fields.get(side, side).partition(".")[0] != side]
    unread = {name for side in moved for name in OF_SIDE[side]} | {SYSTEM[0]} & set(fields.values())
    paths = {name: fields.get(name, name) for name in TARGETS if name in fields or name not in unread}

    def parse(record: Record) -> Parsed:
        ours = {name: value for name, path in paths.items() if (value := _found(record, path)) is not _NOTHING}
        for name in SIDES:
            if name not in ours:
                raise Malformed(fields.get(name, name), "missing", f"the {name} response")
        if "prompt" not in ours and ("prompt" in fields or not trl.in_turns(ours)):
            raise Malformed(fields.get("prompt", "prompt"), "missing", "the prompt")
        return parse_as(trl.parse, ours, fields)

    about = ", ".join(f"{ours} is {theirs}" for ours, theirs in fields.items())
    asked = frozenset(fields.values())
    return Format("mapped", about, (asked,), parse, lists=_opened(asked), asked=asked)


def check_asked(records: Iterable[Any], asked: frozenset[str], source: str) -> None:
    """Raise `InputError` where no row has a column that the user named. No more rows are read than tell."""
    left, have = set(asked), set[str]()
    lists = _opened(asked)
    for record in records if left else ():
        record = with_lists(with_turns(record), lists)
        if isinstance(record, dict):
            have |= record.keys()
            left = {path for path in left if _found(record, path) is _NOTHING}
            if not left:
                return
    if left:
        raise InputError("no such column", file=source, field=", ".join(sorted(left)), found=f"columns {named(have)}")


def _opened(paths: Iterable[str]) -> frozenset[str]:
    """The columns that are lists or objects, for a path goes into them."""
    return frozenset(path.partition(".")[0] for path in paths if "." in path)


_NOTHING = object()


def _found(record: Record, path: str) -> Any:
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _NOTHING
    return value
