"""Stanford Human Preferences: two comments on a post, and which the readers liked better."""

from __future__ import annotations

from curate.pairs.sources.base import (
    Malformed,
    Parsed,
    Ratings,
    Record,
    assistant,
    field,
    kind,
    optional_number,
    prompt_text,
    text,
    user,
)
from curate.pairs.sources.format import Format, fields


def parse(record: Record) -> Parsed:
    """`labels` is 1 where A is preferred, else 0; a comment's votes are its reward."""
    label = field(record, "labels", "0 or 1")
    if optional_number(record, "labels") not in (0, 1):
        raise Malformed("labels", kind(label), "0 or 1")
    best, other = "AB" if optional_number(record, "labels") == 1 else "BA"
    return Parsed(
        [user(prompt_text(record, "history"))],
        [assistant(text(record, f"human_ref_{best}"))],
        [assistant(text(record, f"human_ref_{other}"))],
        ratings=Ratings(optional_number(record, f"score_{best}"), optional_number(record, f"score_{other}")),
    )


FORMAT = Format(
    "shp",
    "SHP: history, human_ref_A, human_ref_B, labels (1: A is preferred); optional score_A, score_B",
    fields("history human_ref_A human_ref_B labels"),
    parse,
    reads=frozenset({"score_A", "score_B"}),
    card="https://huggingface.co/datasets/stanfordnlp/SHP",
)
