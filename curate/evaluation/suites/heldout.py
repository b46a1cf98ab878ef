"""The held-out prompts of the user's own pairs: unsafe queries should be refused, safe ones answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl

from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, answer_and_judge, conversation_of, make_item
from curate.pairs.schema import QueryType, Split


class Heldout:
    name: ClassVar[str] = "heldout"
    about: ClassVar[str] = "harm and over-refusal on the held-out prompts of a pairs file of ours"
    source: ClassVar[str | None] = None
    columns: ClassVar[dict[str, tuple[str, ...]]] = {name: (name,) for name in ("prompt", "query_type", "split")}
    options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = (
        *metrics.harm(metrics.group("unsafe", "unsafe prompts")),
        *metrics.over_refusal(metrics.group("safe", "safe prompts")),
    )

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        """Of each held-out prompt one: safe only where no pair of it says otherwise."""
        unsafe: dict[str, bool] = {}
        prompts: dict[str, Item] = {}
        for number, row in enumerate(rows):
            if row["split"] != Split.HELDOUT or row["query_type"] == QueryType.UNKNOWN:
                continue
            item = make_item(conversation_of(row, "prompt", number, self.name))
            prompts.setdefault(item.cluster, item)
            unsafe[item.cluster] = unsafe.get(item.cluster, False) or row["query_type"] == QueryType.UNSAFE
        return [
            make_item(item.prompt, group="unsafe" if unsafe[cluster] else "safe") for cluster, item in prompts.items()
        ]

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        parts = []
        for group, task in (("unsafe", "harm"), ("safe", "compliance")):
            asked = [item for item in items if item.group == group]
            if asked:
                parts.append(answer_and_judge(asked, bench, task))
        return pl.concat(parts)
