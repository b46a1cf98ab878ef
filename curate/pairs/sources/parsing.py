"""Records into the frame of parsed pairs: the last step that handles them one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple

import polars as pl

from curate.base.errors import InputError
from curate.pairs.cleaning import REFUSED, RULES
from curate.pairs.identity import bare, digest, pair_id, prompt_key
from curate.pairs.schema import OPTIONAL, PAIRS
from curate.pairs.sources.base import Malformed, Message, NullPrompt, Parsed, Refused, Unreadable, kind
from curate.pairs.sources.format import Format
from curate.pairs.sources.pairing import Pairing, Replies, Reply, meetings, paired
from curate.pairs.sources.reading import Source
from curate.pairs.sources.text import unix_lines
from curate.pairs.sources.told import Talks, with_lists

PARSED = {
    "row": pl.Int64,
    "at": pl.Int64,
    **PAIRS,
    **OPTIONAL,
    "bare_id": pl.String,
    "reverse_id": pl.String,
    "marks": pl.List(pl.String),
}
"""What `curate.pairs.cleaning` takes; see there. `marks` are those of `Parsed`."""

MEMBERS = {"row": pl.Int64, "at": pl.Int64}
LABELS = {"reply": pl.Binary, "safe": pl.Boolean}
BATCH = 4096  # pairs, or labels, that are Python's at a time


LOOKED_AT = 100
"""Rows that tell whether a format fits a file, where nothing is to be made yet."""


class Frames(NamedTuple):
    read: int  # records
    parsed: pl.DataFrame  # PARSED
    members: pl.DataFrame  # MEMBERS: the source's rows of each pair
    refused: pl.DataFrame  # curate.pairs.cleaning.REFUSED; `row` is the source's
    crlf: set[int]  # the source's rows that held CRLF line breaks
    unrated: dict[int, int]  # of the source's rows that have some: replies left out, for they have no rating
    labels: pl.DataFrame  # LABELS: each safety label of each response to a prompt once, by a digest of both
    unused: list[str]  # fields that no row was asked for, in the order of their appearance
    unused_within: list[str]  # likewise of the objects in those that were: chosen.weight, of a turn


class _Growing:
    """A frame that grows by rows, few of which are held as Python's."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema, self.parts, self.rows = schema, list[pl.DataFrame](), list[tuple[Any, ...]]()

    def add(self, row: tuple[Any, ...]) -> None:
        self.rows.append(row)
        if len(self.rows) == BATCH:
            self.parts.append(self._last())

    def whole(self) -> pl.DataFrame:
        return pl.concat([*self.parts, self._last()])

    def _last(self) -> pl.DataFrame:
        part = pl.DataFrame(self.rows, schema=self.schema, orient="row")
        self.rows.clear()
        return part


SAYS_NOTHING: tuple[Any, ...] = (None, "", [], {})


class _Notes(NamedTuple):
    """Of the fields of the objects in records, by their paths (`chosen.role`), and of what is read of a record."""

    seen: set[str]
    said: dict[str, None]  # of the objects that are read: fields that say something, in the order of their appearance

    def unused(self) -> list[str]:
        """Fields that were not read, of objects that others were read of."""
        opened = {path.rpartition(".")[0] for path in self.seen}
        return [path for path in self.said if path not in self.seen and path.rpartition(".")[0] in opened]


class _Reading(dict[str, Any]):
    """A record, or an object in one, that notes which of its fields are read. One that is `Unreadable` refuses the row
    when it is."""

    def __init__(self, record: dict[str, Any], notes: _Notes, within: str = "") -> None:
        super().__init__(record)
        self.notes, self.within = notes, within
        if within:
            notes.said.update({f"{within}{name}": None for name, held in record.items() if held not in SAYS_NOTHING})

    def __getitem__(self, name: str) -> Any:
        return self._noted(name, super().__getitem__(name))

    def get(self, name: str, default: Any = None) -> Any:
        return self._noted(name, super().get(name, default))

    def _noted(self, name: str, value: Any) -> Any:
        path = self.within + name
        self.notes.seen.add(path)
        if isinstance(value, Unreadable):
            raise Malformed(name, value.found, "turns as JSON")
        return _noting(value, self.notes, f"{path}.") if isinstance(value, list | dict) else value


def _noting(value: Any, notes: _Notes, within: str) -> Any:
    if isinstance(value, list):
        return [_noting(one, notes, within) for one in value]
    return _Reading(value, notes, within) if isinstance(value, dict) else value


class _Group(NamedTuple):
    """The replies to one prompt, and the source's row of each."""

    prompt: list[Message]
    replies: list[Reply]
    rows: list[int]
    first: dict[Reply, int]  # the row in which each reply stood first, where rows are pooled


def parse(
    source: Source,
    form: Format,
    pairing: Pairing = "best",
    *,
    strict: bool,
    duplicates: Literal["drop", "keep"] = "drop",
) -> Frames:
    """Parse every record of `source` and pair what is no pair yet, but for single replies that repeat one (unless
    `duplicates` is keep; of pairs, cleaning sees to it); line breaks are made LF first.

    Where a field turns out to hold turns, and some list in it was taken for a text, the records are gone over again.

    Raises:
        InputError: (`strict`) a record is malformed or its prompt null; it names file, row and field.
    """
    talks = Talks()
    frames = _frames(source, form, pairing, talks, strict, duplicates)
    if fields := talks.fields_of_turns() - {*frames.unused}:
        frames = _frames(source, form, pairing, Talks(fields), strict, duplicates)
    return frames


def _frames(
    source: Source, form: Format, pairing: Pairing, talks: Talks, strict: bool, duplicates: Literal["drop", "keep"]
) -> Frames:
    """`parse`, once."""
    parsed, members, refused, labels = map(_Growing, (PARSED, MEMBERS, REFUSED, LABELS))
    groups: dict[str | int, _Group] = {}
    crlf, unrated, fields, notes = set[int](), dict[int, int](), dict[str, None](), _Notes(set(), {})
    made = row = 0

    def add(places: tuple[int, ...], pair: Parsed) -> None:
        nonlocal made
        parsed.add(_as_row(made, places[0], pair, source.name, form.name))
        for at in dict.fromkeys(places):
            members.add((made, at))
        made += 1

    for row, record in enumerate(source.records, 1):
        at = row - 1
        if isinstance(record, dict):
            fields.update(dict.fromkeys(record))
        try:
            changed, result = _parsed(record, form, notes, talks)
        except Refused as error:
            if strict and isinstance(error, Malformed | NullPrompt):
                raise _stopped(source, form, at, error) from error
            refused.add((at, error.rule, error.reason))
            continue
        if changed:
            crlf.add(at)
        if isinstance(result, Parsed):
            add((at,), result)
        elif (before := _pool(groups, at, result, form.pooled, duplicates)) is not None:
            refused.add((at, "duplicate", f"the same reply, rated the same, as row {before}"))
        elif result.unrated:
            unrated[at] = result.unrated
        for label in _labels(result):
            labels.add(label)
    for group in groups.values():
        used = set()
        for places, pair in _pairs(group, pairing):
            add(places, pair)
            used |= {*places}
        for at in dict.fromkeys(group.rows):
            if at not in used:
                refused.add((at, "unpaired", _unpaired(group)))
    whole, of = parsed.whole(), members.whole()
    if not groups:  # a row is a pair, and has its number
        whole, of = (frame.with_columns(row="at") for frame in (whole, of))
    unused = [name for name in fields if name not in notes.seen]
    return Frames(row, whole, of, refused.whole(), crlf, unrated, labels.whole().unique(), unused, notes.unused())


def _parsed(record: Any, form: Format, notes: _Notes, talks: Talks) -> tuple[bool, Parsed | Replies]:
    """Whether the record had CRLF line breaks, and what it gives. Raises `Refused`."""
    if isinstance(record, Unreadable):
        raise Malformed("the row", record.found, "an object")
    if not isinstance(record, dict):
        raise Malformed("the row", kind(record), "object")
    told = with_lists(talks.told(record), form.lists)
    plain = unix_lines(told)
    result = form.parse(_Reading(plain, notes))
    if isinstance(result, Replies) and not result.replies:
        raise Refused("unpaired", "the row has no rated reply")
    return plain != told, result


def misfit(source: Source, form: Format) -> str | None:
    """Why the first of the rows looked at gives no pair or reply, where none of them does."""
    reasons = []
    for record in islice(source.records, LOOKED_AT):
        try:
            _parsed(record, form, _Notes(set(), {}), Talks())
        except Refused as error:
            reasons.append(error.reason)
        else:
            return None
    return reasons[0] if reasons else None


def _pool(groups: dict[str | int, _Group], row: int, found: Replies, pooled: bool, duplicates: str) -> int | None:
    """Put the row's replies to those of its prompt; the earlier row, where it repeats one and is to be dropped."""
    group = groups.setdefault(_as_said(found.prompt) if pooled else row, _Group(found.prompt, [], [], {}))
    if pooled and duplicates == "drop" and (first := group.first.setdefault(found.replies[0], row)) != row:
        return first
    group.replies.extend(found.replies)
    group.rows.extend([row] * len(found.replies))
    return None


def _as_said(prompt: list[Message]) -> str:
    """What makes rows those of one prompt: its turns but for white space around them. (prompt_key is of the split:
    it takes 10² for 102.)"""
    return digest(bare(prompt))


def _unpaired(group: _Group) -> str:
    """Why a row of the group is in no pair: nothing differs, or all that stands lower is taken."""
    if len({reply.standing for reply in group.replies}) < 2:
        return RULES["unpaired"]
    return "its prompt has more best replies than worse ones to meet; --pairing all uses it"


def _pairs(group: _Group, pairing: Pairing) -> Iterable[tuple[tuple[int, ...], Parsed]]:
    for better, worse in meetings([reply.standing for reply in group.replies], pairing):
        yield (group.rows[better], group.rows[worse]), paired(group.prompt, group.replies[better], group.replies[worse])


def _labels(found: Parsed | Replies) -> Iterator[tuple[bytes, bool]]:
    """The safety labels that the source gives (LABELS), also those of responses that no pair will have."""
    if isinstance(found, Parsed):
        sides = (found.chosen, found.chosen_safe), (found.rejected, found.rejected_safe)
        said = [(turns[-1]["content"], safe) for turns, safe in sides]
    else:
        said = [(reply.said, reply.safe) for reply in found.replies]
    if any(safe is not None for _, safe in said):
        key = prompt_key(found.prompt)
        for text, safe in said:
            if safe is not None:
                yield hashlib.blake2b(f"{key}{text}".encode(), digest_size=16).digest(), safe


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
    as_said = [prompt, chosen, rejected]
    texts, own_id = [bare(turns) for turns in as_said], pair_id(*as_said)
    split, *where = origin or (None, source, form, at)
    return (
        row,
        at,
        own_id,
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
        own_id if texts == as_said else pair_id(*texts),
        pair_id(texts[0], texts[2], texts[1]),
        list(marks),
    )
