"""Our own pairs file, read again without loss: the split and where a pair came from stay."""

from __future__ import annotations

import re

from curate.pairs.schema import OPTIONAL, PAIRS, QueryType, Split
from curate.pairs.sources.base import (
    Malformed,
    Message,
    NullPrompt,
    Origin,
    Parsed,
    Record,
    field,
    kind,
    optional_boolean,
    text,
)
from curate.pairs.sources.format import Format
from curate.pairs.sources.replies import RATED, ratings
from curate.pairs.sources.turns import messages, one_reply


def parse(record: Record) -> Parsed:
    """pair_id and prompt_key are computed again from the texts, hence always valid.

    Ratings (schema.OPTIONAL) are kept; what a later stage adds, and columns beyond ours, only where asked for.
    """
    if "prompt" in record and record["prompt"] is None:
        raise NullPrompt("prompt")
    row = field(record, "source_row", "integer")
    if isinstance(row, str) and re.fullmatch("[0-9]{1,19}", row):  # CSV has no types
        row = int(row)
    if type(row) is not int or not 0 <= row < 2**63:
        raise Malformed("source_row", kind(row), "integer from 0")
    split = None if record.get("split") in (None, "") else Split(_one_of(record, "split", list(Split)))
    return Parsed(
        messages(field(record, "prompt", "list of messages"), "prompt"),
        _reply(record, "chosen"),
        _reply(record, "rejected"),
        QueryType(_one_of(record, "query_type", list(QueryType))),
        optional_boolean(record, "chosen_safe"),
        optional_boolean(record, "rejected_safe"),
        marks=("split_kept",) if split else (),
        origin=Origin(split, text(record, "source"), text(record, "source_format"), row),
        ratings=ratings(record, RATED[:1])[0],
    )


def _one_of(record: Record, name: str, words: list[str]) -> str:
    value = text(record, name)
    if value not in words:
        raise Malformed(name, "another word", f"one of {', '.join(words)}")
    return value


def _reply(record: Record, name: str) -> list[Message]:
    return one_reply(messages(field(record, name, "list of messages"), name), name)


FORMAT = Format(
    "canonical",
    "a file that `curate prepare` (or a later stage) wrote: its split and origin are kept",
    (frozenset(PAIRS),),
    parse,
    reads=frozenset(OPTIONAL),
)
