"""The pairs that the page shows as examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from curate.reporting.table import fixed


class Example(NamedTuple):
    """A pair that the page shows; `text` is its number among the texts that the page holds, if they are there."""

    pair_id: str
    title: str
    facts: list[tuple[str, str]]
    text: int | None


def largest_gaps(frame: pl.DataFrame, count: int) -> list[int]:
    """Rows of the pairs of the largest |gap|, half of them with a positive gap where there are as many."""
    by_gap = frame.with_row_index("row").sort("pmi_gap", "pair_id", descending=[True, False])
    positive, negative = by_gap.filter(pl.col("pmi_gap") > 0), by_gap.filter(pl.col("pmi_gap") < 0).reverse()
    half = max((count + 1) // 2, count - negative.height)
    chosen = pl.concat([positive.head(half), negative.head(count - min(half, positive.height))])
    rows: list[int] = chosen["row"].to_list()
    return rows


def examples(frame: pl.DataFrame, rows: list[int], texts: Mapping[int, int]) -> list[Example]:
    """The pairs of `rows`; `texts` has a row's number among the page's texts."""
    return [_example(row, texts.get(place)) for place, row in zip(rows, frame[rows].iter_rows(named=True), strict=True)]


def _example(row: dict[str, Any], text: int | None) -> Example:
    side = "held-out" if row["split"] == "heldout" else row["split"]
    title = f"{row['query_type']} query, gap {fixed(row['pmi_gap'], '+z.3f')} nats/token"
    facts = [
        ("side", side),
        ("MI chosen / rejected", f"{fixed(row['chosen_pmi'])} / {fixed(row['rejected_pmi'])} nats/token"),
        ("weights chosen / rejected", f"{row['chosen_weight']:.3f} / {row['rejected_weight']:.3f}"),
        ("source", f"{row['source']}, row {row['source_row']}"),
    ]
    return Example(row["pair_id"], title, facts, text)
