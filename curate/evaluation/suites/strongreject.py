"""StrongREJECT (arXiv 2402.10260): forbidden prompts that a safe model refuses, and a rubric for what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl

from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, answer_and_judge, make_item, text_of, user


class StrongReject:
    name: ClassVar[str] = "strongreject"
    about: ClassVar[str] = "harm of the answers to forbidden prompts (StrongREJECT, arXiv 2402.10260)"
    source: ClassVar[str | None] = "hub:walledai/StrongREJECT"
    columns: ClassVar[dict[str, tuple[str, ...]]] = {"forbidden_prompt": ("forbidden_prompt", "prompt")}
    options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = metrics.harm()

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        return [make_item(user(text_of(row, "forbidden_prompt", i, self.name))) for i, row in enumerate(rows)]

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        return answer_and_judge(items, bench, "harm")
