"""Records into the frame of parsed pairs: the last step that handles them one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import polars as pl

from curate.base.errors import InputError
from curate.pairs.cleaning import REFUSED
from curate.pairs.identity import pair_id, prompt_key
from curate.pairs.schema import OPTIONAL, PAIRS
from curate.pairs.sources.base import Malformed, Message, NullPrompt, Parsed, Refused, Unreadable, kind
from curate.pairs.sources.format import Format
from curate.pairs.sources.pairing import Pairing, Replies, Reply, meetings, paired
from curate.pairs.sources.reading import Source
from curate.pairs.sources.text import unix_lines

PARSED = {
    "row": pl.Int64,
    "at": pl.Int64,
    **PAIRS,
    **OPTIONAL,
    "reverse_id": pl.String,
    "marks": pl.List(pl.String),
}
"""What `curate.pairs.cleaning` takes; see there. `marks` are those of `Parsed`."""

MEMBERS = {"row": pl.Int64, "at": pl.Int64}


class Frames(NamedTuple):
    parsed: pl.DataFrame  # PARSED
    members: pl.DataFrame  # MEMBERS: the source's rows of each pair
    refused: pl.DataFrame  # curate.pairs.cleaning.REFUSED; `row` is the source's
    crlf: set[int]  # the source's rows that held CRLF line breaks
    labels: dict[bytes, set[bool]]  # safety labels of each response to a prompt, by a digest of both
    unused: list[str]  # fields that no row was asked for, in the order of their appearance


class _Reading(dict[str, Any]):
    """A record that notes which of its fields are read."""

    def __init__(self, record: dict[str, Any], seen: set[str]) -> None:
        super().__init__(record)
        self.seen = seen

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.seen.add(name)
        return super().get(name, default)


class _Group(NamedTuple):
    """The replies to one prompt, and the source's row of each."""

    prompt: list[Message]
    replies: list[Reply]
    rows: list[int]


def parse(source: Source, form: Format, pairing: Pairing = "best", *, strict: bool) -> Frames:
    """Parse every record of `source` and pair what is no pair yet; line breaks are made LF first.

    Raises:
        InputError: (`strict`) a record is malformed or its prompt null; it names file, row and field.
    """
    found: list[tuple[tuple[int, ...], Parsed]] = []
    refused: list[tuple[int, str, str]] = []
    groups: dict[str | int, _Group] = {}
    crlf, seen, labels = set(), set[str](), dict[bytes, set[bool]]()
    for row, record in enumerate(source.records):
        try:
            if isinstance(record, Unreadable):
                raise Malformed("the row", record.found, "an object")
            if not isinstance(record, dict):
                raise Malformed("the row", kind(record), "object")
            plain = unix_lines(record)
            result = form.parse(_Reading(plain, seen))
        except Refused as error:
            if strict and isinstance(error, Malformed | NullPrompt):
                raise _stopped(source, form, row, error) from error
            refused.append((row, error.rule, error.reason))
            continue
        if plain != record:
            crlf.add(row)
        if isinstance(result, Parsed):
            found.append(((row,), result))
        else:
            _pool(groups, row, result, pooled=form.pooled)
        _label(labels, result)
    for group in groups.values():
        found += _pairs(group, pairing)
    used = {at for rows, _ in found for at in rows}
    alone = "no other reply to the prompt stands higher or lower"
    refused += [
        (row, "unpaired", alone) for group in groups.values() for row in dict.fromkeys(group.rows) if row not in used
    ]
    single = not groups
    rows = [_as_row(at[0] if single else n, at[0], pair, source.name, form.name) for n, (at, pair) in enumerate(found)]
    members = [(row[0], at) for row, (places, _) in zip(rows, found, strict=True) for at in dict.fromkeys(places)]
    return Frames(
        pl.DataFrame(rows, schema=PARSED, orient="row"),
        pl.DataFrame(members, schema=MEMBERS, orient="row"),
        pl.DataFrame(refused, schema=REFUSED, orient="row"),
        crlf,
        labels,
        [name for name in _fields(source.records) if name not in seen],
    )


def _pool(groups: dict[str | int, _Group], row: int, found: Replies, *, pooled: bool) -> None:
    group = groups.setdefault(prompt_key(found.prompt) if pooled else row, _Group(found.prompt, [], []))
    group.replies.extend(found.replies)
    group.rows.extend([row] * len(found.replies))


def _pairs(group: _Group, pairing: Pairing) -> Iterable[tuple[tuple[int, ...], Parsed]]:
    for better, worse in meetings([reply.standing for reply in group.replies], pairing):
        yield (group.rows[better], group.rows[worse]), paired(group.prompt, group.replies[better], group.replies[worse])


def _label(labels: dict[bytes, set[bool]], found: Parsed | Replies) -> None:
    """Note the safety labels that the source gives, also those of responses that no pair will have."""
    if isinstance(found, Parsed):
        sides = (found.chosen, found.chosen_safe), (found.rejected, found.rejected_safe)
        said = [(turns[-1]["content"], safe) for turns, safe in sides]
    else:
        said = [(reply.said, reply.safe) for reply in found.replies]
    if any(safe is not None for _, safe in said):
        key = prompt_key(found.prompt)
        for text, safe in said:
            if safe is not None:
                digest = hashlib.blake2b(f"{key}{text}".encode(), digest_size=16).digest()
                labels.setdefault(digest, set()).add(safe)


def _fields(records: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(name for record in records if isinstance(record, dict) for name in record))


def _stopped(source: Source, form: Format, row: int, error: Malformed | NullPrompt) -> InputError:
    return InputError(
        f"a row does not fit the format {form.name}",
        file=source.path,
        row=row,
        field=error.field,
        found=getattr(error, "found", "null"),
        expected=getattr(error, "expected", "a prompt"),
        remedy="mend the row, or run without --strict: it then goes to the rejects",
    )


def _as_row(row: int, at: int, pair: Parsed, source: str, form: str) -> tuple[Any, ...]:
    prompt, chosen, rejected, query_type, chosen_safe, rejected_safe, marks, origin, ratings = pair
    split, *where = origin or (None, source, form, at)
    return (
        row,
        at,
        pair_id(prompt, chosen, rejected),
        prompt,
        chosen,
        rejected,
        query_type.value,
        chosen_safe,
        rejected_safe,
        prompt_key(prompt),
        split and split.value,
        *where,
        *ratings,
        pair_id(prompt, rejected, chosen),
        list(marks),
    )
