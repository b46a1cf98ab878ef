"""GSM8K (arXiv 2110.14168): grade-school mathematics; the last number of a greedy answer is the answer (METHOD 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar

import polars as pl
from pydantic import Field

from curate.base.errors import InputError
from curate.evaluation.generation.base import Ask
from curate.evaluation.items import Item, Judgement
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, make_item, results, text_of, user

NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
GOLD = re.compile(r"####\s*(?P<number>\S+)\s*$")


class GSM8KOptions(Options):
    max_tokens: int = Field(512, ge=1, description="of an answer: reasoning takes room")


class GSM8K:
    name: ClassVar[str] = "gsm8k"
    about: ClassVar[str] = "grade-school mathematics, greedy, last number (GSM8K, arXiv 2110.14168)"
    source: ClassVar[str | None] = "hub:openai/gsm8k:main#test"
    columns: ClassVar[dict[str, tuple[str, ...]]] = {"question": ("question",), "answer": ("answer",)}
    options: ClassVar[type[Options]] = GSM8KOptions
    metrics: ClassVar[tuple[Metric, ...]] = (metrics.accuracy(about="share of problems whose last number is right"),)

    def items(self, rows: Sequence[Row], options: GSM8KOptions) -> list[Item]:
        items = []
        for number, row in enumerate(rows):
            answer = gold(text_of(row, "answer", number, self.name), number)
            items.append(make_item(user(text_of(row, "question", number, self.name)), gold=answer))
        return items

    def run(self, items: Sequence[Item], bench: Bench, options: GSM8KOptions) -> pl.DataFrame:
        sampling = bench.sampling._replace(temperature=0.0, max_tokens=options.max_tokens)
        responses = bench.chat.chat([Ask(item.prompt) for item in items], sampling)
        found = [last_number(response.text or "") for response in responses]
        right = [
            None if got is None else float(got == Decimal(item.gold)) for got, item in zip(found, items, strict=True)
        ]
        verdicts = [Judgement(why=None if got is not None else "no number") for got in found]
        return results(items, responses, verdicts, right)


def gold(answer: str, row: int) -> str:
    """The number after `####`, commas stripped.

    Raises:
        InputError: there is none.
    """
    match = GOLD.search(answer)
    if match is None or (number := last_number(match["number"])) is None:
        raise InputError(
            "a row of the suite gsm8k has no gold answer",
            row=row,
            field="answer",
            expected="a last line `#### number`",
        )
    return str(number)


def last_number(text: str) -> Decimal | None:
    """The last number of a text, commas and the dollar's sign stripped; None where there is none."""
    found = NUMBER.findall(text)
    return Decimal(re.sub(r"[$,]", "", found[-1])) if found else None
