"""Forms of the gap (docs/method.md), by hand."""

import math

import polars as pl
import pytest

from curate.base.errors import InputError, UsageError
from curate.selection import gap

FORMS = ("per_token", "total", "sqrt", "residual")


def scores(*rows):
    """(split, summed MI of chosen, of rejected, tokens of chosen, of rejected); the null log-probs are -100."""
    names = ("split", "chosen", "rejected", "chosen_tokens", "rejected_tokens")
    frame = pl.DataFrame(rows, schema=names, orient="row")
    per_token = {f"{side}_pmi": pl.col(side) / pl.col(f"{side}_tokens") for side in ("chosen", "rejected")}
    return frame.with_columns(
        pl.col("chosen_tokens", "rejected_tokens").cast(pl.Int32),
        **{f"ref_{side}_logps": pl.col(side) - 100.0 for side in ("chosen", "rejected")},
        **{f"null_{side}_logps": pl.lit(-100.0) for side in ("chosen", "rejected")},
        **per_token,
    ).with_columns(pmi_gap=pl.col("chosen_pmi") - pl.col("rejected_pmi"))


THREE = scores(
    ("train", 12.0, 4.0, 4, 1),  # per token 3 - 4 = -1; total 8; sqrt 6 - 4 = 2
    ("train", 8.0, 36.0, 16, 9),  # 0.5 - 4 = -3.5; -28; 2 - 12 = -10
    ("train", 18.0, 4.0, 9, 4),  # 2 - 1 = 1; 14; 6 - 2 = 4
    ("heldout", 16.0, 16.0, 16, 4),  # 1 - 4 = -3; 0; 4 - 8 = -4
)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("per_token", [-1.0, -3.5, 1.0, -3.0]),
        # median |d| over the training pairs: per token 1, total 14, sqrt 4
        ("total", [8 / 14, -2.0, 1.0, 0.0]),
        ("sqrt", [0.5, -2.5, 1.0, -1.0]),
    ],
)
def test_every_form_by_hand_on_the_scale_of_the_per_token_gap(form, expected):
    found = gap.gap(THREE, form)
    assert found.to_list() == pytest.approx(expected, abs=1e-12)
    assert found[:3].abs().median() == pytest.approx(1)


def linear(intercept, slope_ratio, slope_difference, *lengths, off=()):
    """Training pairs whose per-token gap is exactly linear in the regressors, and held-out ones that are `off` it."""
    rows = []
    for place, (w, r) in enumerate(lengths):
        d = intercept + slope_ratio * math.log(w / r) + slope_difference * (w - r)
        held = place >= len(lengths) - len(off)
        d += off[place - len(lengths) + len(off)] if held else 0
        rows.append(("heldout" if held else "train", w * d, 0.0, w, r))
    return scores(*rows)


def test_residual_takes_off_what_length_explains_and_leaves_the_centre():
    """d = 0.3 + 0.5 log(w/r) + 0.01 (w - r) on the training pairs: 0.3 is left, what equal lengths have.

    The held-out pair lies 0.6 above, so 0.9 is left of it. Both are scaled to the median of the per-token |d|.
    """
    lengths = ((10, 10), (20, 10), (10, 20), (40, 10), (30, 60), (17, 50))
    frame = linear(0.3, 0.5, 0.01, *lengths, off=(0.6,))
    assert gap.fit(frame).slopes == pytest.approx((0.5, 0.01), abs=1e-12)
    assert gap.fit(frame).explained == pytest.approx(1)
    factor = frame["pmi_gap"][:5].abs().median() / 0.3
    assert gap.scale(frame, "residual") == pytest.approx(factor)
    assert gap.gap(frame, "residual").to_list() == pytest.approx([0.3 * factor] * 5 + [0.9 * factor])
    assert gap.describe(frame, "residual") == {
        "normalisation": "residual",
        "gap_scale": pytest.approx(factor),
        "length_slopes": {"log_ratio": pytest.approx(0.5), "difference": pytest.approx(0.01)},
    }


def test_residual_is_the_gap_where_lengths_do_not_vary():
    frame = scores(*(("train", float(i), 2.0, 8, 8) for i in range(7)))
    assert gap.gap(frame, "residual").equals(frame["pmi_gap"])


@pytest.mark.parametrize("form", FORMS)
def test_the_gap_turns_its_sign_with_the_pair_and_no_order_of_rows_matters(form):
    frame = scores(*(("train", 3.0 + i % 5, 9.0 - i % 7, 3 + 5 * i % 11, 4 + 3 * i % 13) for i in range(40)))
    swap = {"chosen": "rejected", "rejected": "chosen"}
    names = [name for name in frame.columns if "chosen" in name or "rejected" in name]
    other = {name: name.replace(side := next(s for s in swap if s in name), swap[side]) for name in names}
    turned = frame.rename(other).with_columns(pmi_gap=-pl.col("pmi_gap"))
    found = gap.gap(frame, form)
    assert gap.gap(turned, form).to_list() == pytest.approx((-found).to_list())
    order = [7 * i % 40 for i in range(40)]
    assert gap.gap(frame[order], form).equals(found[order])  # to the last bit


def test_a_part_of_a_file_keeps_the_gap_of_the_whole():
    whole = THREE.with_columns(gap.gap(THREE, "total").alias("subset_gap"))
    part = whole.filter(pl.col("split") == "heldout")
    assert gap.gap(part, "total", {"subset_gap": "total"}).equals(part["subset_gap"])
    with pytest.raises(InputError, match="no training pair"):
        gap.gap(part, "sqrt", {"subset_gap": "total"})
    assert gap.gap(part, "per_token", {"subset_gap": "total"}).equals(part["pmi_gap"])


def test_a_form_without_a_scale_is_refused():
    equal = scores(("train", 5.0, 5.0, 4, 5), ("train", 6.0, 6.0, 4, 5), ("train", 1.0, 9.0, 4, 5))
    with pytest.raises(InputError, match="cannot be brought to the per-token form's scale"):
        gap.gap(equal, "total")


def test_mi_of_each_response_is_on_the_same_scale_and_residual_has_none():
    chosen, rejected = gap.information(THREE, "total")
    assert chosen.to_list() == pytest.approx([12 / 14, 8 / 14, 18 / 14, 16 / 14])
    assert (chosen - rejected).to_list() == pytest.approx(gap.gap(THREE, "total").to_list())
    with pytest.raises(UsageError, match="only their gap"):
        gap.information(THREE, "residual")
