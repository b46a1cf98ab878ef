"""Pointwise mutual information of query and response under the reference model. [ours: docs/method.md]

    MI(x, y) = ( log pi_ref(y | x) - log pi_ref(y | null) ) / |y|      [nats/token]

|y| counts the scored response tokens, end of turn included. Negative values are data: the model finds the
response less likely after this query than after none.
"""

from __future__ import annotations

import polars as pl


def pmi(logps: pl.Expr, null_logps: pl.Expr, tokens: pl.Expr) -> pl.Expr:
    """nats/token, from summed log-probs in nats and token counts."""
    return (logps - null_logps) / tokens


def with_information(scores: pl.DataFrame) -> pl.DataFrame:
    """Add chosen_pmi, rejected_pmi and pmi_gap = chosen_pmi - rejected_pmi (d of docs/method.md), nats/token."""
    return scores.with_columns(
        pmi(pl.col(f"ref_{side}_logps"), pl.col(f"null_{side}_logps"), pl.col(f"{side}_tokens")).alias(f"{side}_pmi")
        for side in ("chosen", "rejected")
    ).with_columns((pl.col("chosen_pmi") - pl.col("rejected_pmi")).alias("pmi_gap"))
