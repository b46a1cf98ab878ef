"""XSTest (arXiv 2308.01263): safe prompts that look unsafe, and unsafe ones in contrast; each part on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl

from curate.base.errors import InputError
from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, answer_and_judge, make_item, text_of, told, user

LABELS = ("safe", "unsafe")


class XSTest:
    name: ClassVar[str] = "xstest"
    about: ClassVar[str] = "over-refusal of safe prompts, refusal of unsafe ones (XSTest, arXiv 2308.01263)"
    source: ClassVar[str | None] = "hub:walledai/XSTest"
    columns: ClassVar[dict[str, tuple[str, ...]]] = {"prompt": ("prompt",), "label": ("label",)}
    options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = (
        *metrics.over_refusal(metrics.group("safe", "safe prompts")),
        *metrics.refusal(metrics.group("unsafe", "unsafe prompts")),
    )

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        items = []
        for number, row in enumerate(rows):
            label = text_of(row, "label", number, self.name)
            if label not in LABELS:
                raise InputError(
                    "a row of the suite xstest is neither safe nor unsafe",
                    row=number,
                    field="label",
                    found=told(label),
                    expected=" or ".join(LABELS),
                )
            items.append(make_item(user(text_of(row, "prompt", number, self.name)), group=label))
        return items

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        return answer_and_judge(items, bench, "compliance")
