"""The transfer of suffixes that were optimised elsewhere (GCG, arXiv 2307.15043): each stands behind the request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import polars as pl
from pydantic import Field

from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.attacks import BEHAVIOUR, dressed, read_texts
from curate.evaluation.suites.base import Bench, Columns, Metric, Options, Row, answer_and_judge, text_of
from curate.pairs.identity import draw_order
from curate.project.params import Count, Seed


class SuffixOptions(Options):
    suffixes: str = Field(description="file of suffixes: .txt, one a line; or JSON, CSV, Parquet with a column suffix")
    per_behaviour: Count = Field(0, description="a draw of so many suffixes for each behaviour (0: all)")
    seed: Seed = Field(0, description="of that draw")


class Suffix:
    name: ClassVar[str] = "suffix"
    about: ClassVar[str] = "harm of the answers to harmful requests with adversarial suffixes (arXiv 2307.15043)"
    source: ClassVar[str | None] = "hub:walledai/AdvBench"
    columns: ClassVar[Columns] = BEHAVIOUR
    options: ClassVar[type[Options]] = SuffixOptions
    metrics: ClassVar[tuple[Metric, ...]] = (*metrics.attack(), metrics.any_attack("suffix"))

    def items(self, rows: Sequence[Row], options: SuffixOptions) -> list[Item]:
        """Every behaviour with every suffix, or with those drawn for it."""
        suffixes = [found.text for found in read_texts(options.suffixes, "suffix", ("suffix",))]
        items = []
        for number, row in enumerate(rows):
            goal = text_of(row, "goal", number, self.name)
            keys = draw_order((f"{goal}\n{suffix}" for suffix in suffixes), options.seed)
            drawn = sorted(range(len(suffixes)), key=keys.__getitem__)[: options.per_behaviour or None]
            items += [dressed(goal, f"{goal} {suffixes[one]}") for one in sorted(drawn)]
        return items

    def run(self, items: Sequence[Item], bench: Bench, options: SuffixOptions) -> pl.DataFrame:
        return answer_and_judge(items, bench, "harm")
