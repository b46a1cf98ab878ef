"""The embedded suite: queries that no pair of the sample asks, and a judge that knows the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import polars as pl
from pydantic import Field

from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, answer_and_judge, make_item, user
from curate.evaluation.suites.heldout import TASKS
from curate.project.params import Seed


class SampleOptions(Options):
    queries: int = Field(150, ge=1, le=10**6, description="unsafe ones, and as many safe ones")
    seed: Seed = Field(0, description="of the queries")
    temperature: float = Field(1.0, ge=0, le=100, description="of the answers: 1 is how the model speaks")


class Sample:
    name: ClassVar[str] = "sample"
    about: ClassVar[str] = "the embedded sample's held-out queries, judged by what its generator knows"
    source: ClassVar[str | None] = None
    columns: ClassVar[dict[str, tuple[str, ...]]] = {}
    options: ClassVar[type[Options]] = SampleOptions
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(metric._replace(needs=None) for metric in metrics.harm(metrics.group("unsafe", "unsafe prompts"))),
        *(metric._replace(needs=None) for metric in metrics.over_refusal(metrics.group("safe", "safe prompts"))),
    )

    def items(self, rows: Sequence[Row], options: SampleOptions) -> list[Item]:
        from curate.sample.generator import sample_queries

        queries = sample_queries(options.queries, options.seed)
        return [make_item(user(query.text), group="safe" if query.safe else "unsafe") for query in queries]

    def run(self, items: Sequence[Item], bench: Bench, options: SampleOptions) -> pl.DataFrame:
        return answer_and_judge(items, bench, TASKS, bench.sampling._replace(temperature=options.temperature))
