"""How much of the gap d is length: least squares of d on log(|y_w|/|y_l|) and |y_w| - |y_l|. [ours: docs/method.md]

|y| is the number of scored response tokens. Sums are exact (`math.fsum`), so that the order of the rows never matters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import polars as pl

from curate.pairs.schema import LARGEST, Split

TRAINING = pl.col("split") == Split.TRAIN.value
_W, _L = (pl.col(f"{side}_tokens").cast(pl.Float64) for side in ("chosen", "rejected"))
LENGTH_DIFFERENCE = _W - _L  # tokens
LENGTH = _W + _L  # tokens of both responses
REGRESSORS = {"log_ratio": _W.log() - _L.log(), "difference": LENGTH_DIFFERENCE}
"""Both turn their sign where chosen and rejected change places, as d does."""
SIZES = {"log_chosen": _W.log(), "log_rejected": _L.log()}
"""What |d| is regressed on: it knows no sign, and longer responses have less MI a token on both sides."""

MUCH = 0.2
"""A share of the variance above which a warning is due. [ours]"""


class Fit(NamedTuple):
    """Least squares with an intercept."""

    slopes: tuple[float, ...]
    explained: float | None  # R^2, the share of the variance; None where there is no variance or hardly a row


class Explained(NamedTuple):
    """Shares of the variance that length explains, over the training pairs."""

    gap: float | None  # of d, by REGRESSORS
    abs_gap: float | None  # of |d|, by SIZES
    pairs: int

    def warning(self) -> str | None:
        """A sentence where a share is above MUCH."""
        named = (("gap", self.gap), ("|gap|", self.abs_gap))
        much = [f"{share:.0%} of the variance of the {name}" for name, share in named if (share or 0) > MUCH]
        if not much:
            return None
        return f"length explains {' and '.join(much)} over {self.pairs:,} training pairs, so it is in part length"


def explained(frame: pl.DataFrame | pl.LazyFrame, gap: str) -> Explained:
    """How much of the column `gap` is length, over the training pairs whose gap is a number that can be squared.

    Args:
        frame: split, chosen_tokens, rejected_tokens and `gap`.
    """
    told = TRAINING & pl.col(gap).is_between(-LARGEST, LARGEST) & (_W > 0) & (_L > 0)
    rows = frame.lazy().filter(told).select(_d=gap, **REGRESSORS, **SIZES).collect()
    d = rows["_d"].to_numpy()
    return Explained(
        least_squares(d, [rows[name].to_numpy() for name in REGRESSORS]).explained,
        least_squares(np.abs(d), [rows[name].to_numpy() for name in SIZES]).explained,
        rows.height,
    )


def least_squares(values: np.ndarray, regressors: list[np.ndarray]) -> Fit:
    """values ~ intercept + sum_k slope_k regressor_k.

    A regressor that does not vary gets slope 0; of regressors that say the same, the least slopes are taken.
    """
    columns = [_standardised(column) for column in (values, *regressors)]
    (y, spread), *xs = columns
    inner = np.array([[math.fsum(a * b) for b, _ in xs] for a, _ in xs])
    outer = np.array([math.fsum(a * y) for a, _ in xs])
    count = max(len(values), 1)
    standard = np.linalg.pinv(inner / count, rcond=1e-10, hermitian=True) @ (outer / count)
    slopes = tuple(float(slope * spread / sd) if sd else 0.0 for slope, (_, sd) in zip(standard, xs, strict=True))
    enough = spread > 0 and len(values) > len(regressors) + 1
    share = min(max(float(standard @ outer) / count, 0.0), 1.0) if enough else None
    return Fit(slopes, share)


def _standardised(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean 0 and standard deviation 1, and the deviation it had; zeros and 0 where nothing but rounding varies."""
    if not len(values):
        return values, 0.0
    centred = values - math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum(centred**2) / len(values))
    if deviation <= 1e-12 * float(np.abs(values).max()):
        return np.zeros(len(values)), 0.0
    return centred / deviation, deviation
