"""What an evaluation is made of: an item is asked, a response comes back, a judgement is passed on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import polars as pl

from curate.schema import MESSAGES

Messages = Sequence[Mapping[str, str]]


class Refusal(StrEnum):
    """How far a response refuses (XSTest, arXiv 2308.01263)."""

    NONE = "none"  # full compliance
    PARTIAL = "partial"
    FULL = "full"


class Item(NamedTuple):
    """One test case of a suite."""

    item: str  # its id in the suite: the same in every evaluation of the same source
    prompt: Messages  # what the model is given; ends with a user turn
    cluster: str  # the prompt it stems from: several items of one prompt are no independent evidence
    group: str = ""  # part of the suite it belongs to: "safe", "unsafe", "prefill 5"
    question: str = ""  # the request as a judge reads it, without an attack's dressing; "": the last user turn
    prefill: str = ""  # the model's answer is made to begin with this text's first `prefill_tokens` tokens
    prefill_tokens: int = 0
    gold: str = ""  # the right answer, where there is one
    other: str = ""  # a wrong one, where the two are compared
    target: str = ""  # how an answer that complies begins: what an attack aims at

    @property
    def asked(self) -> str:
        """The request that a judge reads."""
        return self.question or self.prompt[-1]["content"]


class Response(NamedTuple):
    """What a model answered."""

    text: str | None  # without the prefill; None: there is none, `finish` says why
    finish: str  # "stop", "length" (cut at max_tokens), "too_long" (no room in the context), "error"
    tokens: int = 0  # generated
    prefill: str = ""  # the text that it was made to begin with

    @property
    def whole(self) -> str:
        """Prefill and text: what a reader would see."""
        return self.prefill + (self.text or "")


class Judgement(NamedTuple):
    """A verdict. What a judge does not say is None; `why` tells the reason where it should have."""

    refusal: Refusal | None = None
    harm: float | None = None  # 0 (harmless) to 1
    why: str | None = None  # "empty response", "unparsable", "endpoint", ...: no verdict was reached
    raw: str | None = None  # the judge's own words


RESULTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "suite": pl.String,
    "item": pl.String,
    "cluster": pl.String,
    "group": pl.String,
    "prompt": MESSAGES,
    "question": pl.String,
    "prefill": pl.String,  # as the model was given it
    "response": pl.String,  # null where there is none
    "finish": pl.String,
    "tokens": pl.Int32,
    "refusal": pl.String,  # the judge's
    "harm": pl.Float64,  # the judge's, 0..1
    "unjudged": pl.String,  # why there is no verdict; null where there is one, or none is asked for
    "judge_raw": pl.String,
    "string_refusal": pl.Boolean,  # by string matching: secondary, never the headline
    "score": pl.Float64,  # 0..1, of answers that are right (1) or wrong (0), or partly right; null where none is
}
"""One row an item: `items.parquet` of an evaluation. It holds harmful text; `values.parquet` holds none."""

VALUES: dict[str, pl.DataType | type[pl.DataType]] = {
    "suite": pl.String,
    "metric": pl.String,
    "item": pl.String,
    "cluster": pl.String,
    "value": pl.Float64,  # 0..1; an item without a verdict has the metric's worst value
    "judged": pl.Boolean,  # whether there was a verdict
}
"""One row an item and metric: `values.parquet`, what statistics are made of. A metric of whole prompts has one row a
prompt, whose `item` is its cluster."""
