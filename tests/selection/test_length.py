"""How much of the gap is length."""

import math

import numpy as np
import polars as pl
import pytest

from curate.selection import length
from curate.selection.length import Explained, explained, least_squares


def test_least_squares_by_hand():
    """y = 1, 2, 4 on x = 0, 1, 2: slope 3/2; variances 14/9 and 2/3, so R^2 = 2.25 * (2/3) / (14/9) = 27/28."""
    fit = least_squares(np.array([1.0, 2, 4]), [np.array([0.0, 1, 2])])
    assert fit.slopes == pytest.approx((1.5,)) and fit.explained == pytest.approx(27 / 28)


def test_least_squares_is_numpys():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 2)) * (1, 1000) + (5, 1e5)
    y = 3 + x @ (0.7, -0.002) + draw.normal(size=200)
    expected, residual, *_ = np.linalg.lstsq(np.column_stack([np.ones(200), x]), y)
    fit = least_squares(y, [x[:, 0], x[:, 1]])
    assert fit.slopes == pytest.approx(tuple(expected[1:]), rel=1e-6)
    assert fit.explained == pytest.approx(1 - residual[0] / np.sum((y - y.mean()) ** 2))


@pytest.mark.parametrize(
    ("values", "regressors", "slopes", "share"),
    [
        ([1.0, 2, 4, 3], [[7.0] * 4, [0.1] * 4], (0.0, 0.0), 0.0),  # nothing varies with length
        ([5.0] * 4, [[1.0, 2, 3, 4], [1.0, 2, 3, 4]], (0.0, 0.0), None),  # nothing to explain
        ([2.0, 4, 6, 8, 10], [[1.0, 2, 3, 4, 5], [1.0, 2, 3, 4, 5]], (1.0, 1.0), 1.0),  # two that say the same
        ([1.0, 2, 5], [[1.0, 2, 3], [3.0, 1, 2]], None, None),  # as many rows as numbers fitted
        ([], [[], []], (0.0, 0.0), None),
    ],
)
def test_what_cannot_be_told_is_not_made_up(values, regressors, slopes, share):
    fit = least_squares(np.array(values), [np.array(column) for column in regressors])
    assert slopes is None or fit.slopes == pytest.approx(slopes, abs=1e-9)
    assert fit.explained == (None if share is None else pytest.approx(share, abs=1e-12))


def frame(gaps, chosen, rejected, heldout=()):
    side = ["heldout" if row in heldout else "train" for row in range(len(gaps))]
    return pl.DataFrame({"split": side, "d": gaps, "chosen_tokens": chosen, "rejected_tokens": rejected}).cast(
        {"chosen_tokens": pl.Int32, "rejected_tokens": pl.Int32}
    )


def test_what_length_explains_of_the_gap_and_of_its_size():
    """d = log(w/r): all of it. d = +-log(w r): none of the sign, all of |d|. Held-out pairs do not count."""
    w, r = [10, 20, 40, 80, 15, 33], [40, 10, 80, 20, 33, 15]
    signed = frame([math.log(a / b) for a, b in zip(w, r, strict=True)], w, r)
    assert explained(signed, "d").gap == pytest.approx(1)
    sized = [math.log(a * b) * (-1) ** row for row, (a, b) in enumerate(zip(w, r, strict=True))]
    found = explained(frame([*sized, 99.0, math.nan, 1e200], [*w, 1, 5, 7], [*r, 9, 6, 8], heldout=(6,)), "d")
    assert found.abs_gap == pytest.approx(1) and found.pairs == 6 and found.gap < 0.95


def test_a_warning_above_a_fifth():
    assert Explained(0.2, 0.1, 50).warning() is None and Explained(None, None, 0).warning() is None
    said = Explained(0.31, 0.284, 1200).warning()
    assert said.startswith(
        "length explains 31% of the variance of the gap and 28% of the variance of the |gap| over 1,200"
    )
    assert "|gap|" not in Explained(0.21, 0.1, 9).warning()
    assert length.MUCH == 0.2
