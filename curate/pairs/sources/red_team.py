"""Anthropic's red-team attempts: single transcripts, hence no preference."""

from __future__ import annotations

from curate.pairs.sources.base import Parsed, Record, Refused
from curate.pairs.sources.format import Format, fields


def parse(_: Record) -> Parsed:
    raise Refused("no_preference", "the row is one transcript, with no second reply to compare")


FORMAT = Format(
    "red_team",
    "Anthropic's red-team attempts: recognised and refused, for they hold no pairs",
    fields("transcript min_harmlessness_score_transcript"),
    parse,
    refusal="each row is one transcript of an attack, with no second reply to prefer",
    card="https://huggingface.co/datasets/Anthropic/hh-rlhf",
)
