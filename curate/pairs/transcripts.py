"""Prompts that look like whole transcripts and were taken for one user turn: named, and never split by a guess."""

from __future__ import annotations

import polars as pl

from curate.pairs.sources.format import Format
from curate.pairs.sources.turns import prompt_of

_LIKE = (
    r"(?is)\A[\s#*]*(?:human|user)\s*:.*?"
    r"(?:[\s#*]assistant\s*:|\n[\s#*]*(?:human|user|assistant|ai|bot|gpt|chatgpt)\s*:)"
)
"""A speaker's name at the start, and further down the assistant's, or one at the start of a line."""


def like_transcripts(pairs: pl.DataFrame) -> pl.DataFrame:
    """The first pair of each prompt that is one user turn, but for a system turn, and looks like several.

    Args:
        pairs: columns prompt, prompt_key and `at`, the source's row.
    """
    asked = pl.col("prompt").list.eval(pl.element().struct.field("role") != "system").list.sum() == 1
    said = pl.col("prompt").list.last().struct.field("content")
    found = pairs.filter(asked & said.str.contains(_LIKE)).sort("at")
    return found.unique("prompt_key", keep="first", maintain_order=True)


def note(found: pl.DataFrame, form: Format) -> str:
    """How many prompts there are, the first one's row, and what makes turns of them.

    Args:
        found: `like_transcripts`, at least one.
    """
    split = "as lists of messages, in rows of prompt, chosen and rejected, they are read as turns"
    if form.by_fields and prompt_of(found["prompt"][0][-1]["content"]):
        split = f"{form.by_fields} reads them as turns"
    like = "(Human: ... Assistant: ...)"
    what = f"1 prompt looks like a transcript {like} and is one user turn, in"
    if found.height > 1:
        what = f"{found.height:,} prompts look like transcripts {like}, each is one user turn, first in"
    return f"{what} row {found['at'][0]}; {split}"
