"""LLaMA-Factory's dataset_info.json: which columns of a file hold what, whatever they are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.base.errors import InputError
from curate.base.files import read_json_object
from curate.pairs.sources import alpaca, sharegpt
from curate.pairs.sources.base import Malformed, Parsed, Record, kind, named, parse_as
from curate.pairs.sources.format import Format
from curate.pairs.sources.replies import SIDES, SYSTEM
from curate.pairs.sources.turns import CALLS, REASONING, SHOWN

NAME = "dataset_info"
FILE = "dataset_info.json"
ALPACA = {"prompt": "instruction", "query": "input", "history": "history"}
"""A column's name there -> the field that it is in our format `alpaca`; the default column has that name too."""

READ = (*ALPACA, "messages", "system", *SIDES)
"""Columns that are read where the entry names them."""

TAGS = {"role_tag": "from", "content_tag": "value"}
ROLES = {"user_tag": "human", "assistant_tag": "gpt", "observation_tag": "observation", "system_tag": "system"}


def described(source: str) -> Format:
    """The format that the dataset_info.json beside the file `source` says: an entry with its `file_name` and `ranking`.

    Raises:
        InputError: there is no such file, no such entry, or one that is not of pairs.
    """
    file = Path(source).with_name(FILE)
    entries = [
        (name, entry)
        for name, entry in read_json_object(file).items()
        if isinstance(entry, dict) and entry.get("file_name") == Path(source).name
    ]
    if len(entries) != 1:
        found = f"{len(entries)} entries"
        raise InputError("the file is not described", file=file, found=found, expected=f"one with {Path(source).name}")
    ((name, entry),) = entries
    if entry.get("ranking") is not True:
        raise InputError("the entry is of no preferences", file=file, field=name, expected="ranking: true")
    columns, tags = (_named(entry, part, file, name) for part in ("columns", "tags"))
    talks = entry.get("formatting") == "sharegpt"
    needs = frozenset(columns.get(side, side) for side in SIDES)

    def parse(record: Record) -> Parsed:
        return _talk(record, columns, tags) if talks else _alpaca(record, columns)

    return Format(
        NAME,
        f"as {FILE} says of {name}",
        (needs,),
        parse,
        lists=frozenset({columns["history"]}) if "history" in columns else frozenset(),
        asked=frozenset(columns[key] for key in READ if key in columns),
    )


def _named(entry: dict[str, Any], part: str, file: Path, name: str) -> dict[str, str]:
    """The entry's `columns` or `tags`, those that are given; each names one thing of the rows."""
    given = entry.get(part) or {}
    if not isinstance(given, dict):
        raise InputError("columns and tags must be objects", file=file, field=name)
    said = {key: value for key, value in given.items() if value is not None}
    for key, value in said.items():
        if not isinstance(value, str):
            field = f"{name}.{part}.{key}"
            raise InputError("a column or tag must be text", file=file, field=field, found=kind(value), expected="text")
    return said


def _alpaca(record: Record, columns: dict[str, str]) -> Parsed:
    names = {field: columns.get(column, field if column == "prompt" else None) for column, field in ALPACA.items()}
    names |= _common(columns)
    return parse_as(alpaca.parse, _renamed(record, names), names)


def _talk(record: Record, columns: dict[str, str], tags: dict[str, str]) -> Parsed:
    names = {"conversations": columns.get("messages", "conversations"), **_common(columns)}
    ours = {name: _turns(value, tags) for name, value in _renamed(record, names).items()}
    return parse_as(sharegpt.parse, ours, names | {name: tags[tag] for tag, name in TAGS.items() if tag in tags})


def _common(columns: dict[str, str]) -> dict[str, str | None]:
    return {side: columns.get(side, side) for side in SIDES} | {SYSTEM[0]: columns.get("system")}


def _renamed(record: Record, names: Mapping[str, str | None]) -> dict[str, Any]:
    return {ours: record[theirs] for ours, theirs in names.items() if theirs is not None and theirs in record}


def _turns(value: Any, tags: dict[str, str]) -> Any:
    """Turns with the tags' names for the fields and the roles made ShareGPT's."""
    if isinstance(value, list):
        return [_turns(turn, tags) for turn in value]
    if not isinstance(value, dict):
        return value
    fields = {ours: tags.get(tag, ours) for tag, ours in TAGS.items()}
    missing = [theirs for theirs in fields.values() if theirs not in value]
    if missing:
        raise Malformed(named(missing), "missing", "the turn's role and content, as the tags say")
    roles = {tags[tag]: ours for tag, ours in ROLES.items() if tag in tags}
    role = value[fields["from"]]
    told = {name: held for name, held in value.items() if name in (*CALLS, *REASONING) or SHOWN.fullmatch(name)}
    said = {"from": roles.get(role, role) if isinstance(role, str) else role, "value": value[fields["value"]]}
    return told | said
