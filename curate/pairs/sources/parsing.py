"""Records into the frame of parsed pairs: the last step that handles them one by one."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from curate.base.errors import InputError
from curate.pairs.cleaning import REFUSED
from curate.pairs.identity import pair_id, prompt_key
from curate.pairs.schema import OPTIONAL, PAIRS
from curate.pairs.sources.base import Malformed, NullPrompt, Parsed, Refused, kind
from curate.pairs.sources.format import Format
from curate.pairs.sources.reading import Source
from curate.pairs.sources.text import unix_lines

PARSED = {
    "row": pl.Int64,
    **PAIRS,
    **OPTIONAL,
    "reverse_id": pl.String,
    "marks": pl.List(pl.String),
}
"""What `curate.pairs.cleaning` takes; see there. `marks` are those of `Parsed`."""


class Frames(NamedTuple):
    parsed: pl.DataFrame  # PARSED
    refused: pl.DataFrame  # curate.pairs.cleaning.REFUSED
    crlf: set[int]  # parsed rows that held CRLF line breaks


def parse(source: Source, form: Format, *, strict: bool) -> Frames:
    """Parse every record of `source`; line breaks are made LF first.

    Raises:
        InputError: (`strict`) a record is malformed or its prompt null; it names file, row and field.
    """
    rows, refused, crlf = [], [], set()
    for row, record in enumerate(source.records):
        try:
            if not isinstance(record, dict):
                raise Malformed("the row", kind(record), "object")
            plain = unix_lines(record)
            rows.append(_as_row(row, form.parse(plain), source.name, form.name))
            if plain != record:
                crlf.add(row)
        except Refused as error:
            if strict and isinstance(error, Malformed | NullPrompt):
                raise InputError(
                    f"a row does not fit the format {form.name}",
                    file=source.path,
                    row=row,
                    field=error.field,
                    found=getattr(error, "found", "null"),
                    expected=getattr(error, "expected", "a prompt"),
                    remedy="mend the row, or run without --strict: it then goes to the rejects",
                ) from error
            refused.append((row, error.rule, error.reason))
    return Frames(
        pl.DataFrame(rows, schema=PARSED, orient="row"),
        pl.DataFrame(refused, schema=REFUSED, orient="row"),
        crlf,
    )


def _as_row(row: int, pair: Parsed, source: str, form: str) -> tuple[Any, ...]:
    prompt, chosen, rejected, query_type, chosen_safe, rejected_safe, marks, origin, ratings = pair
    split, *where = origin or (None, source, form, row)
    return (
        row,
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
