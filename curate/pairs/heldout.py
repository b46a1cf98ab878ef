"""The held-out draw [ours: docs/method.md, Subsets]: by prompt, within each query type, whatever the order of the rows.

What is drawn is the prompt without its system turns: the same turns under two system turns are never on both sides.
"""

from __future__ import annotations

import polars as pl

from curate.pairs.identity import draw_order, question_keys
from curate.pairs.schema import PAIRS, QueryType, Split

STRATA = (QueryType.UNSAFE, QueryType.SAFE, QueryType.UNKNOWN)
"""A prompt whose pairs are of several query types counts for the first of these: once a response to it was
unsafe, the prompt can draw an unsafe response."""


def draw(pairs: pl.DataFrame, fraction: float, seed: int) -> pl.Series:
    """The split of every row of `pairs`, which has prompt, prompt_key and query_type; one for all rows of a key.

    Prompts that differ in their system turns alone count as one, by the lowest of their keys. Within a stratum the
    keys are ranked by sha256(seed|key), and the first `fraction` of them, rounded, is held out: at least one of two
    or more, never all. A stratum of one prompt is all training.
    """
    question = question_keys(pairs)
    keys = (
        pairs.select("prompt_key", "query_type", question)
        .group_by("question_key")
        .agg(
            pl.col("prompt_key").min(),
            stratum=pl.col("query_type").cast(pl.String).replace_strict(list(STRATA), list(range(len(STRATA)))).min(),
        )
    )
    size = pl.len().over("stratum")
    heldout = (size * fraction + 0.5).floor().clip(pl.min_horizontal(1, size - 1), size - 1)
    place = pl.col("rank").rank("ordinal").over("stratum")
    sides = keys.with_columns(rank=pl.Series(draw_order(keys["prompt_key"], seed), dtype=pl.Binary)).select(
        "question_key",
        split=pl.when(place <= heldout)
        .then(pl.lit(Split.HELDOUT.value))
        .otherwise(pl.lit(Split.TRAIN.value))
        .cast(PAIRS["split"]),
    )
    return question.to_frame().join(sides, on="question_key", how="left", maintain_order="left")["split"]
