"""D_balanced, D_imbalanced and D_random of the training pairs. [ours: docs/method.md, Subsets]

Imbalance is |d|, d the MI gap in the form of `split.normalisation` (column subset_gap). Within each stratum (query
type, and the confounders of `split.match`: the sign of d, quantile bins of the token-length difference and of the
tokens of both responses) the lowest fraction of |d| is balanced, the highest imbalanced, a seeded draw random: the
three have one size, and the same make-up by construction. What matching leaves, bins being coarse, and what it does not
hold (by default how long the pairs are in all) is reported as standardised mean differences.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import polars as pl

from curate import __version__
from curate.base.errors import InputError
from curate.pairs.identity import draw_order
from curate.pairs.schema import SUBSETS
from curate.project.params import SplitParams
from curate.selection import gap
from curate.selection.length import LENGTH, LENGTH_DIFFERENCE, TRAINING, explained

CONFOUNDERS = {
    "sign": (pl.col("subset_gap") > 0).cast(pl.Float64),
    "length_difference": LENGTH_DIFFERENCE,
    "length": LENGTH,
    "query_type": (pl.col("query_type") == "unsafe").cast(pl.Float64),
}
"""What could pass for an effect of imbalance: each as a number a pair."""


def split(scores: pl.DataFrame, params: SplitParams) -> pl.DataFrame:
    """Add subset_gap, and the boolean columns balanced, imbalanced and random (schema.SPLITS); False on held-out pairs.

    Raises:
        InputError: too few training pairs for one pair a subset, or none to fit the gap's form on.
    """
    scores = scores.with_columns(gap.gap(scores, params.normalisation).alias("subset_gap"))
    strata = ["query_type"]
    if "sign" in params.match:
        strata.append("_sign")
    if "length" in params.match:
        strata.append("_length")
    if "total_length" in params.match:
        strata.append("_total")
    # Ties of |d|, and the random draw, are decided by a hash of the pair, never by the order of the rows.
    draw = draw_order(scores["pair_id"], params.seed)
    # .29 of 100 is 29, though the product of floats is a little less.
    size = (pl.len() * params.fraction + 1e-9).floor().over(strata)
    training = (
        scores.with_columns(pl.Series("_draw", draw, dtype=pl.Binary))
        .filter(TRAINING)
        .select(
            "pair_id",
            "query_type",
            "_draw",
            _gap=pl.col("subset_gap").abs(),
            _sign=pl.col("subset_gap") > 0,
            _length=_bins(LENGTH_DIFFERENCE, params.length_bins).over("query_type"),
            _total=_bins(LENGTH, params.length_bins).over("query_type"),
        )
        .sort("_gap", "_draw")
        .select(
            "pair_id",
            balanced=pl.int_range(pl.len()).over(strata) < size,
            imbalanced=pl.int_range(pl.len()).over(strata) >= pl.len().over(strata) - size,
            random=pl.col("_draw").rank("ordinal").over(strata) <= size,
        )
    )
    if not training["balanced"].any():
        raise InputError(
            "too few training pairs to split",
            found=f"{training.height} training pairs",
            expected="at least one pair a subset in some stratum",
            remedy="use more pairs, a larger --fraction (split.fraction) or fewer confounders in --match "
            "(split.match); or no subsets: `curate weigh` takes scores too",
        )
    return (
        scores.drop(set(SUBSETS) & set(scores.columns))
        .join(training, on="pair_id", how="left", maintain_order="left")
        .with_columns(pl.col(*SUBSETS).fill_null(False))
    )


def _bins(length: pl.Expr, count: int) -> pl.Expr:
    """Quantile bin of `length`, 0 .. count-1; equal lengths share a bin."""
    rank = length.rank("average")
    return (rank * count / (pl.len() + 1)).floor().cast(pl.Int32)


def provenance(params: SplitParams, before: dict[str, Any]) -> dict[str, Any]:
    return {"stage": "split", "version": __version__, "params": params.model_dump(), "from": before}


def wider(params: SplitParams) -> list[str]:
    """`match` with total_length in it."""
    return list(dict.fromkeys([*params.match, "total_length"]))


def summarise(splits: pl.DataFrame, params: SplitParams) -> dict[str, Any]:
    """split.json: the gap's form and how much of it is length, what each subset is made of, and the standardised mean
    difference of each confounder."""
    subsets = {}
    for name in (*SUBSETS, "all"):
        rows = splits.filter(TRAINING if name == "all" else pl.col(name))
        subsets[name] = {
            "pairs": rows.height,
            "mean_abs_gap": rows["subset_gap"].abs().mean(),
            "positive_gap": rows.select(CONFOUNDERS["sign"].mean()).item(),
            "length_difference": rows.select(LENGTH_DIFFERENCE.mean()).item(),
            "length": rows.select(LENGTH.mean()).item(),
            "unsafe": rows.select(CONFOUNDERS["query_type"].mean()).item(),
        }
    return {
        **gap.describe(splits, params.normalisation),
        "length_explains": explained(splits, "subset_gap")._asdict(),
        "subsets": subsets,
        "smd": differences(splits),
    }


def differences(splits: pl.DataFrame) -> dict[str, dict[str, float | None]]:
    """The standardised mean difference of each confounder, of each two subsets."""
    splits = splits.with_columns(subset_gap=gap.used(splits, "subset_gap"))
    return {
        f"{a}-{b}": {
            name: standardised_difference(
                splits.filter(a).select(value).to_series(), splits.filter(b).select(value).to_series()
            )
            for name, value in CONFOUNDERS.items()
        }
        for a, b in combinations(SUBSETS, 2)
    }


def standardised_difference(a: pl.Series, b: pl.Series) -> float | None:
    """(mean a - mean b) / sqrt((var a + var b) / 2); 0 for equal constants, None for different ones."""
    difference = float(a.mean() or 0.0) - float(b.mean() or 0.0)  # type: ignore[arg-type]
    spread = math.sqrt((float(a.var() or 0.0) + float(b.var() or 0.0)) / 2)  # type: ignore[arg-type]
    if spread:
        return difference / spread
    return None if difference else 0.0
