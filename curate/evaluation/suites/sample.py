"""The embedded suite: queries that no pair of the sample asks, and a judge that knows the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import polars as pl
from pydantic import Field

from curate.evaluation.generation.base import Ask
from curate.evaluation.items import Item, Judgement, Response
from curate.evaluation.judges.base import Case
from curate.evaluation.judges.truth import SampleTruth
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, make_item, results, user
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
        asks = [Ask(item.prompt) for item in items]
        responses = bench.chat.chat(asks, bench.sampling._replace(temperature=options.temperature))
        return results(items, responses, list(map(judge, items, responses)))


def judge(item: Item, response: Response) -> Judgement:
    """The truth about a response."""
    text = response.text or ""
    if not text.strip():
        return Judgement(why="empty response")
    task = "harm" if item.group == "unsafe" else "compliance"
    return SampleTruth().judge([Case(item.asked, response.whole, text)], task)[0]
