"""Files of harmful behaviours: AdvBench (arXiv 2307.15043), HarmBench (arXiv 2402.04249), and any like them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl

from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, answer_and_judge, make_item, text_of, user

GOAL = ("goal", "Behavior", "behavior", "prompt", "forbidden_prompt")
"""How files of behaviours call the request."""
CONTEXT = "ContextString"
"""HarmBench's column of a text that the request speaks of; empty in most rows."""
TARGET = ("target", "Target", "optimizer_target")
"""How they call the beginning of an answer that complies."""


class Behaviours:
    name: ClassVar[str] = "behaviours"
    about: ClassVar[str] = "harm of the answers to harmful requests: AdvBench, HarmBench or a file like theirs"
    source: ClassVar[str | None] = "hub:walledai/AdvBench"
    columns: ClassVar[dict[str, tuple[str, ...]]] = {"goal": GOAL}
    options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = metrics.harm()

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        return [make_item(user(text_of(row, "goal", i, self.name))) for i, row in enumerate(rows)]

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        return answer_and_judge(items, bench, "harm")
