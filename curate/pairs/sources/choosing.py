"""Which format a file has: by its fields, never by a guess. One file has one format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.pairs.sources import FORMATS, RENAMED
from curate.pairs.sources.base import Refused, kind, named
from curate.pairs.sources.decoding import lists_of_rows
from curate.pairs.sources.format import Format
from curate.pairs.sources.text import unix_lines
from curate.pairs.sources.told import with_lists, with_turns

REMEDY = "name the format with --format"


def choose(name: str, records: Iterable[Any], source: str) -> Format:
    """The format called `name`; for `auto`, the one that the records' fields are particular to.

    A record counts for the format whose fields it has; of two formats, for the one that asks for more of them.
    A few odd rows do not change the answer; they go to the rejects.

    Raises:
        UsageError: no format of that name.
        InputError: no record fits any format, or the records fit several.
    """
    if name != "auto":
        return _called(name)
    votes: Counter[tuple[str, ...]] = Counter(
        found for record in map(with_turns, records) if isinstance(record, dict) and (found := _candidates(record))
    )
    if not votes:
        first, *more = islice(records, 2)
        if not more and isinstance(first, dict) and len(lists := lists_of_rows(first)) > 1:
            raise InputError("the file holds several lists of rows", file=source, found=named(lists), remedy="split it")
        raise _unknown(records, source)
    winner, most = votes.most_common(1)[0]
    if len(winner) > 1 or 2 * most <= votes.total():
        fitting = ", ".join(f"{' or '.join(names)} ({count:,} rows)" for names, count in votes.most_common(4))
        raise InputError("the rows fit several formats", file=source, found=fitting, expected="one", remedy=REMEDY)
    if FORMATS[winner[0]].refusal:
        raise InputError("this file has no pairs", file=source, found=FORMATS[winner[0]].refusal)
    return FORMATS[winner[0]]


def _called(name: str) -> Format:
    if name in RENAMED:
        say(f"prepare: the format {name} is now called {RENAMED[name]}")
    known = FORMATS.get(RENAMED.get(name, name))
    if known is None:
        raise UsageError(
            "unknown format", field="format", found=name, expected=f"auto, {', '.join(FORMATS)}, dataset_info"
        )
    return replace(known, parse=known.when_named or known.parse)


@lru_cache(maxsize=256)
def _by_names(names: frozenset[str]) -> tuple[Format, ...]:
    """The formats whose fields are among the names; a file's rows have few sets of names."""
    return tuple(
        known for known in FORMATS.values() if known.detected and any(fields <= names for fields in known.needs)
    )


def _candidates(record: dict[str, Any]) -> tuple[str, ...]:
    """The formats that the record's fields fit, but those that another asks more of; of those that read alike, one."""
    possible = _by_names(frozenset(record))
    fitting = [(known, fields) for known in possible if (fields := known.fits(record))]
    particular = [known for known, fields in fitting if not any(fields < other for _, other in fitting)]
    return tuple({known.parse: known.name for known in reversed(particular)}.values())[::-1]


def _first_needs() -> Iterator[tuple[Format, frozenset[str]]]:
    return ((known, fields) for known in FORMATS.values() if known.detected for fields in known.needs[:1])


def _lack(known: Format, have: set[str], records: Iterable[Any]) -> str:
    """What keeps the rows from the format: fields that none has, or what the first row that has them all has in one."""
    if missing := known.needs[0] - have:
        return f"lacks {', '.join(sorted(missing))}"
    for row, record in enumerate(map(with_turns, records)):
        if isinstance(record, dict) and known.needs[0] <= record.keys():
            try:
                known.parse(unix_lines(with_lists(record, known.lists)))
            except Refused as error:
                return f"row {row}: {error.reason}"
            as_text = any(isinstance(record.get(name), str) for name in known.lists)
            return f"lists as text: say --format {known.name}" if as_text else "other types"
    return "no row has all its fields"


def _unknown(records: Iterable[Any], source: str) -> InputError:
    """What the rows have, which two formats are nearest and what these lack, and how to name the fields oneself."""
    have = {str(name) for record in records if isinstance(record, dict) for name in record}
    if not have:
        first = kind(next(iter(records), None))
        return InputError("the rows have no named fields", file=source, found=first, expected="objects with some")
    lacking = sorted(
        ((len(fields - have) / len(fields), len(fields - have), known.name) for known, fields in _first_needs()),
    )
    near = [f"{name} ({_lack(FORMATS[name], have, records)})" for _, _, name in lacking[:2]]
    return InputError(
        "the rows are in none of the formats known",
        file=source,
        found=f"fields {named(have)}",
        expected=f"nearest: {'; '.join(near)}",
        remedy="name the fields: --field prompt=QUESTION --field chosen=BETTER --field rejected=WORSE",
    )
