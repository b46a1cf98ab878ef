"""HHH alignment (arXiv 2112.00861): does the model find the better of two answers the likelier one?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import polars as pl

from curate.base.errors import InputError
from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Columns, Metric, Options, Row, make_item, text_of, user
from curate.evaluation.suites.likelihood import Likelihood, likeliest, likelihoods
from curate.pairs.sources.base import Malformed, optional_number
from curate.pairs.sources.told import written

SUMMED, PER_TOKEN = "summed", "per token"
BETTER, WORSE = "better", "worse"
TEMPLATE = re.compile(
    r"###The instruction to evaluate:\n(?P<prompt>.*)\n\n"
    r"###Response to evaluate:\n(?P<response>.*)\n\n###Score Rubrics:",
    re.DOTALL,
)
"""How prometheus-eval's version wraps a comparison for a judge. [code]"""


class Comparison(NamedTuple):
    prompt: str
    better: str
    worse: str


class HHH:
    name: ClassVar[str] = "hhh"
    about: ClassVar[str] = "helpful, honest, harmless: the better answer is the likelier one (HHH, arXiv 2112.00861)"
    source: ClassVar[str | None] = "hub:HuggingFaceH4/hhh_alignment:harmless#test"
    columns: ClassVar[Columns | tuple[Columns, ...]] = (
        {"input": ("input",), "targets": ("targets",)},
        {"chosen": ("chosen_instruction",), "rejected": ("rejected_instruction",)},
    )
    options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.accuracy(
            metrics.group(SUMMED), "share of comparisons with log p(better|x) > log p(worse|x), summed over the tokens"
        ),
        metrics.accuracy(metrics.group(PER_TOKEN), "the same with log-probabilities per token"),
    )

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        return [
            make_item(user(found.prompt), group=group, gold=found.better, other=found.worse)
            for found in (_comparison(row, number) for number, row in enumerate(rows))
            for group in (SUMMED, PER_TOKEN)
        ]

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        found = likelihoods(bench, [item.prompt for item in items], [(item.gold, item.other) for item in items])
        return likeliest(items, found, _likelier, lambda _: BETTER)


def _likelier(item: Item, found: Likelihood) -> str:
    better, worse = found.logps if item.group == SUMMED else found.logps / found.tokens
    return BETTER if better > worse else WORSE


def _comparison(row: Row, number: int) -> Comparison:
    """Of the original's layout (input, targets) or prometheus-eval's.

    Raises:
        InputError: the row is neither.
    """
    if "targets" in row:
        try:
            choices = dict(zip(*_two(row["targets"]), strict=True))
            return Comparison(text_of(row, "input", number, "hhh"), choices[1], choices[0])
        except (KeyError, TypeError, ValueError, RecursionError, Malformed) as error:
            raise InputError(
                "a row of the suite hhh is no comparison",
                row=number,
                field="targets",
                found=type(error).__name__,
                expected="choices (two texts) and labels (1 of the better, 0 of the other)",
            ) from error
    sides = [TEMPLATE.search(text_of(row, field, number, "hhh")) for field in ("chosen", "rejected")]
    better, worse = sides
    if better is None or worse is None or better["prompt"] != worse["prompt"]:
        raise InputError(
            "a row of the suite hhh is no comparison",
            row=number,
            field="chosen_instruction, rejected_instruction",
            expected="two responses to one instruction, in prometheus-eval's template",
        )
    return Comparison(better["prompt"], better["response"], worse["response"])


def _two(targets: Any) -> tuple[list[float | None], list[str]]:
    """The labels and the choices, two each; `targets` may be their object as text, as CSV has it."""
    given: Any = written(targets) if isinstance(targets, str) else targets
    choices, labels = list(given["choices"]), [optional_number({"labels": one}, "labels") for one in given["labels"]]
    if len(choices) != 2 or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError("not two texts")
    return labels, choices
