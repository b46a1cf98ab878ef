"""d, the gap of mutual information, in the form that subsets and weights are made of [ours: docs/method.md].

With S(y) = log pi_ref(y|x) - log pi_ref(y|null) in nats, summed over the response:

    per_token  d = S(y_w)/|y_w| - S(y_l)/|y_l|                   the column pmi_gap
    total      d = S(y_w) - S(y_l)
    sqrt       d = S(y_w)/sqrt|y_w| - S(y_l)/sqrt|y_l|
    residual   d = per-token d - b1 log(|y_w|/|y_l|) - b2 (|y_w| - |y_l|)

b1 and b2 come from least squares with an intercept over the training pairs. The intercept stays in d: it is the mean
gap of responses of equal length, which length does not explain; so a pair of equal lengths keeps its d, and d turns
its sign where chosen and rejected change places.

So that alpha means the same in every form, d is scaled: its median |d| over the training pairs is that of the
per-token form. All is computed from the stored sums; nothing is scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from curate.base.errors import InputError, UsageError
from curate.selection.length import REGRESSORS, TRAINING, Fit, least_squares
from curate.selection.measure import PER_TOKEN

EXPONENTS = {PER_TOKEN: 1.0, "total": 0.0, "sqrt": 0.5}
"""Of |y| below S(y)."""
RESIDUAL = "residual"
ROUNDING = 1e-9  # of the per-token gap's median: a median below it is what rounding left


def gap(frame: pl.DataFrame, normalisation: str, forms: Mapping[str, str] | None = None) -> pl.Series:
    """d of every pair, nats/token of the per-token form's scale.

    Args:
        frame: the columns of schema.SCORES, and split; `pmi_gap` is enough for per_token.
        forms: columns that hold d already, and in which form (`measure.forms`): such a column is taken as it is, so
            that a part of a file has the d of the whole.

    Raises:
        InputError: no training pair to fit or scale by.
    """
    held = [name for name, form in (forms or {}).items() if form == normalisation and name in frame.columns]
    if held:
        return frame[held[0]]
    if normalisation == PER_TOKEN:
        return frame["pmi_gap"]
    return _raw(frame, normalisation) * scale(frame, normalisation)


def used(frame: pl.DataFrame, *columns: str) -> str:
    """The first of `columns` that the frame has (subset_gap, balance_gap); pmi_gap in files older than them."""
    return next((name for name in columns if name in frame.columns), "pmi_gap")


def information(frame: pl.DataFrame, normalisation: str) -> tuple[pl.Series, pl.Series]:
    """MI of the chosen and of the rejected response, scaled as `gap` is.

    Raises:
        UsageError: `residual`, which is of the gap alone.
        InputError: as `gap`.
    """
    if normalisation == PER_TOKEN:
        return frame["chosen_pmi"], frame["rejected_pmi"]
    if normalisation == RESIDUAL:
        raise UsageError(
            "scheme power weighs by the MI of each response, and the form residual has only their gap",
            field="weigh.scheme, normalisation",
            remedy="use scheme tanh or geometric, or another normalisation",
        )
    factor = scale(frame, normalisation)
    sides = frame.select(_side(side, normalisation) * factor for side in ("chosen", "rejected"))
    return sides["chosen"], sides["rejected"]


def scale(frame: pl.DataFrame, normalisation: str) -> float:
    """What d is multiplied by: the training pairs' median |d| of the per-token form over that of this form."""
    if normalisation == PER_TOKEN:
        return 1.0
    training = _training(frame)
    own, per_token = (
        values.abs().median() or 0.0 for values in (_raw(training, normalisation, frame), training["pmi_gap"])
    )
    if not own > ROUNDING * per_token > 0:
        raise InputError(
            f"the gap in the form {normalisation} cannot be brought to the per-token form's scale",
            field="normalisation",
            found=f"median |gap| {own:.3g}, per token {per_token:.3g}, over {training.height:,} training pairs",
            remedy="use normalisation per_token, or more pairs",
        )
    return float(per_token / own)


def fit(frame: pl.DataFrame) -> Fit:
    """Slopes of the per-token d on length.REGRESSORS, over the training pairs."""
    training = _training(frame)
    return least_squares(
        training["pmi_gap"].to_numpy(), [training.select(term).to_series().to_numpy() for term in REGRESSORS.values()]
    )


def describe(frame: pl.DataFrame, normalisation: str) -> dict[str, Any]:
    """What the summaries say of the form: its name, its scale and, of `residual`, the slopes taken off."""
    told: dict[str, Any] = {"normalisation": normalisation, "gap_scale": scale(frame, normalisation)}
    if normalisation == RESIDUAL:
        told["length_slopes"] = dict(zip(REGRESSORS, fit(frame).slopes, strict=True))
    return told


def _raw(frame: pl.DataFrame, normalisation: str, whole: pl.DataFrame | None = None) -> pl.Series:
    """d before scaling; `residual` is fitted on `whole`, else on `frame`."""
    if normalisation == RESIDUAL:
        terms = zip(fit(frame if whole is None else whole).slopes, REGRESSORS.values(), strict=True)
        return frame.select(pl.col("pmi_gap") - pl.sum_horizontal(slope * term for slope, term in terms)).to_series()
    return frame.select(_side("chosen", normalisation) - _side("rejected", normalisation)).to_series()


def _side(side: str, normalisation: str) -> pl.Expr:
    summed = pl.col(f"ref_{side}_logps") - pl.col(f"null_{side}_logps")
    return (summed / pl.col(f"{side}_tokens").cast(pl.Float64) ** EXPONENTS[normalisation]).alias(side)


def _training(frame: pl.DataFrame) -> pl.DataFrame:
    rows = frame.filter(TRAINING & pl.col("pmi_gap").is_finite())
    if rows.is_empty():
        raise InputError(
            "there is no training pair to fit the gap's form on",
            field="split",
            found=f"{frame.height:,} pairs, none of them on the training side with a finite gap",
            remedy="use normalisation per_token, or a file with training pairs",
        )
    return rows
