"""Input formats by name. A new format is one file here and one line in `FORMATS`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from curate.base.errors import InputError, UsageError
from curate.pairs.sources import canonical, hh, openai, pku, response_pair, sharegpt, trl
from curate.pairs.sources.base import Format

FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        canonical.Canonical(),
        pku.Pku(),
        response_pair.SAFER_FIRST,
        response_pair.RANKED,
        hh.Hh(),
        openai.OpenAi(),
        sharegpt.ShareGpt(),
        trl.Trl(),
    )
}
"""In the order in which `auto` tries them: the more particular first."""


def choose(name: str, records: Sequence[Any], source: str) -> Format:
    """The format called `name`; for `auto`, the one that most records fit.

    Each record counts for the first format that it fits, so a few odd rows do not change the answer.

    Raises:
        UsageError: no format of that name.
        InputError: no record fits any format.
    """
    if name != "auto":
        if name not in FORMATS:
            raise UsageError("unknown format", field="format", found=name, expected=f"auto, {', '.join(FORMATS)}")
        return FORMATS[name]
    tried = [known for known in FORMATS.values() if known.detected]
    votes: Counter[str] = Counter()
    for record in records:
        if isinstance(record, dict):
            votes.update(next(([known.name] for known in tried if known.fits(record)), []))
    if votes:
        return max((known for known in tried if known.name in votes), key=lambda known: votes[known.name])
    fields = sorted({str(name) for record in records if isinstance(record, dict) for name in record})
    raise InputError(
        "the rows are in none of the formats known",
        file=source,
        found=f"fields {', '.join(fields[:30])}" if fields else "rows that are no objects",
        expected="; or ".join(f"{known.name} ({known.about})" for known in tried),
        remedy="rename the fields to those of a format, or name the format with --format for a row-by-row account",
    )
