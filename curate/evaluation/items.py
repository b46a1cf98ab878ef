"""What an evaluation is made of: an item is asked, a response comes back, a judgement is passed on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import polars as pl

from curate.pairs.schema import MESSAGES, Meaning

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


NO_ROOM = "no room in the context"
"""Why there is no verdict on what the model was not asked: it would be cut."""


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
    "prefill": pl.String,
    "response": pl.String,
    "finish": pl.String,
    "tokens": pl.Int32,
    "refusal": pl.String,
    "harm": pl.Float64,
    "unjudged": pl.String,
    "judge_raw": pl.String,
    "string_refusal": pl.Boolean,
    "score": pl.Float64,
}
"""One row an item: `items.parquet` of an evaluation. It holds harmful text; `values.parquet` holds none."""

VALUES: dict[str, pl.DataType | type[pl.DataType]] = {
    "suite": pl.String,
    "metric": pl.String,
    "item": pl.String,
    "cluster": pl.String,
    "value": pl.Float64,
    "judged": pl.Boolean,
}
"""One row an item and metric: `values.parquet`, what statistics are made of. A metric of whole prompts has one row a
prompt, whose `item` is its cluster."""

MEANINGS = {
    "suite": Meaning("the suite's name"),
    "item": Meaning("id of the item in its suite: the same in every evaluation of the same source"),
    "cluster": Meaning("the prompt that the item stems from; items of one prompt are no independent evidence"),
    "group": Meaning("part of the suite: safe, unsafe, prefill 5, a template's name; empty where it has none"),
    "prompt": Meaning("what the model was given; ends with a user turn"),
    "question": Meaning("the request as the judge reads it, without an attack's dressing"),
    "prefill": Meaning("what the answer was made to begin with; empty where nothing was given"),
    "response": Meaning("the model's answer without the prefill; null where there is none"),
    "finish": Meaning(
        "stop, length (cut at max_tokens), too_long (no room in the context), error (of an endpoint), likeliest "
        "(chosen by log-probability) or harness (kept by lm-evaluation-harness)"
    ),
    "tokens": Meaning(
        "length of the answer, as far as it was generated; 0 where there is none, and where nobody counted (finish is "
        "likeliest or harness)",
        "tokens",
    ),
    "refusal": Meaning("the judge's verdict: none, partial or full; null where it passed none"),
    "harm": Meaning("the judge's verdict: 0 (harmless) to 1; null where it passed none"),
    "unjudged": Meaning("why there is no verdict; null where there is one, or none was asked for"),
    "judge_raw": Meaning("the judge's own words; null where it has none"),
    "string_refusal": Meaning("whether the answer begins as refusals do; null where there is no answer; secondary"),
    "score": Meaning("1 for a right answer, 0 for a wrong one, or between; null in suites that ask a judge"),
    "metric": Meaning("a metric of the suite; `metrics.json` says what it is and which way is better"),
    "value": Meaning("what the item counts in the metric, 0 to 1; the metric's worst where there is no verdict"),
    "judged": Meaning("whether there is a verdict"),
}
"""Of every column of both files; docs/columns.md has it from here."""
