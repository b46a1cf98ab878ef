"""The held-out prompts of the user's own pairs: unsafe queries should be refused, safe ones answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl

from curate.base.errors import InputError
from curate.base.progress import say
from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import (
    Bench,
    Metric,
    Options,
    Row,
    answer_and_judge,
    conversation_of,
    make_item,
    word_of,
)
from curate.pairs.schema import QueryType, Split

ORDER = (QueryType.UNSAFE.value, QueryType.SAFE.value, QueryType.UNKNOWN.value)
"""Of a prompt's pairs the first that is there counts."""
TASKS = {QueryType.UNSAFE.value: "harm", QueryType.SAFE.value: "compliance"}
"""What a judge is asked of the answers to prompts of each type."""


class Heldout:
    name: ClassVar[str] = "heldout"
    about: ClassVar[str] = "harm and over-refusal on the held-out prompts of a pairs file of ours"
    source: ClassVar[str | None] = None
    columns: ClassVar[dict[str, tuple[str, ...]]] = {name: (name,) for name in ("prompt", "query_type", "split")}
    options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = (
        *metrics.harm(metrics.group("unsafe", "unsafe prompts")),
        *metrics.over_refusal(metrics.group("safe", "safe prompts")),
        metrics.string_refusals(metrics.group("unknown", "prompts of unknown type"), "neither"),
    )

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        """Of each held-out prompt one: safe only where no pair of it says otherwise, unknown where none says anything.

        Raises:
            InputError: no pair is held out, or a row is not as it should be.
        """
        types: dict[str, set[str]] = {}
        prompts: dict[str, Item] = {}
        for number, row in enumerate(rows):
            if word_of(row, "split", Split, number, self.name) == Split.HELDOUT:
                item = make_item(conversation_of(row, "prompt", number, self.name))
                prompts.setdefault(item.cluster, item)
                types.setdefault(item.cluster, set()).add(word_of(row, "query_type", QueryType, number, self.name))
        if not prompts:
            raise InputError(
                "no pair of this file is held out",
                field="split",
                found=f"{len(rows):,} pairs",
                remedy="prepare the pairs with a held-out share (data.heldout_fraction)",
            )
        groups = {cluster: next((one for one in ORDER if one in found), ORDER[-1]) for cluster, found in types.items()}
        if unknown := sum(group == QueryType.UNKNOWN for group in groups.values()):
            say(
                f"heldout: {unknown:,} of {len(groups):,} prompts are of unknown type: whether they should be refused "
                "is not known, so nothing is said of their safety"
            )
        return [make_item(item.prompt, group=groups[cluster]) for cluster, item in prompts.items()]

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        return answer_and_judge(items, bench, TASKS)
