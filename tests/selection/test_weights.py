"""Every weight scheme against numbers worked by hand and against its properties."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.errors import UsageError
from curate.project import params
from curate.selection.weights import summarise, weigh

MI = st.floats(-5, 5).map(lambda x: round(x, 6))


def frame(*pairs):
    rows = pl.DataFrame(pairs, schema={"chosen_pmi": pl.Float64, "rejected_pmi": pl.Float64}, orient="row")
    return rows.with_columns(pmi_gap=pl.col("chosen_pmi") - pl.col("rejected_pmi"))


def weights(*pairs, **options):
    weighted = weigh(frame(*pairs), params.WeighParams(**options))
    return weighted.select("chosen_weight", "rejected_weight", "pair_scale").rows()


def test_tanh_by_hand():
    """alpha 1.5: d = 0.5 -> 1 -+ tanh(0.375) = (0.642, 1.358); d = 1 -> 1 -+ tanh(0.75) = (0.365, 1.635)."""
    (a, b) = weights((0.9, 0.4), (1.0, 0.0))
    assert a[:2] == pytest.approx((0.642, 1.358), abs=5e-4)
    assert b[:2] == pytest.approx((0.365, 1.635), abs=5e-4)


def test_norm_scale_by_hand():
    """d = 1: s = sqrt(2 / (0.3649^2 + 1.6351^2)) = sqrt(2 / 2.80684) = 0.84413."""
    assert weights((1.0, 0.0))[0][2] == pytest.approx(0.84413, abs=1e-4)


def test_power_by_hand():
    """MI 0.2, 0.4 at alpha 1.5: 2 * 0.4^1.5 / (0.2^1.5 + 0.4^1.5) = 2 * 0.25298 / 0.34243 = 1.478."""
    assert weights((0.2, 0.4), scheme="power")[0][:2] == pytest.approx((1.478, 0.522), abs=5e-4)


def test_power_floors_a_negative_mi_at_a_hundredth():
    assert weights((-3.0, 0.01), scheme="power")[0][:2] == pytest.approx((1.0, 1.0))


def test_geometric_by_hand():
    """d = 1, alpha 1.5: e^-0.75 = 0.47237, e^0.75 = 2.11700; d = 4: e^-3 = 0.0498 -> 0.2, e^3 = 20.1 -> 5."""
    a, b = weights((1.0, 0.0), (4.0, 0.0), scheme="geometric")
    assert a[:2] == pytest.approx((0.47237, 2.11700), abs=1e-5)
    assert b[:2] == (0.2, 5.0)


def test_none_and_the_other_scales():
    assert weights((1.0, 0.0), scheme="none") == [(1.0, 1.0, 1.0)]
    assert weights((1.0, 0.0), scaling="none")[0][2] == 1.0
    assert weights((1.0, 0.0), scaling="constant", constant=0.7)[0][2] == 0.7


@pytest.mark.parametrize("scheme", ["tanh", "power", "geometric", "none"])
@given(chosen=MI, rejected=MI, alpha=st.floats(0, 3))
def test_properties(scheme, chosen, rejected, alpha):
    (row,) = weights((chosen, rejected), scheme=scheme, alpha=alpha)
    chosen_w, rejected_w, s = row
    assert all(map(math.isfinite, row)) and chosen_w >= 0 and rejected_w >= 0 and s > 0
    if scheme != "geometric":
        assert chosen_w + rejected_w == pytest.approx(2)
    # The norm of the gradient's coefficients stays DPO's sqrt(2).
    assert s * math.hypot(chosen_w, rejected_w) == pytest.approx(math.sqrt(2))
    # The response of higher MI is never pushed harder; the other direction swaps the two.
    assert (chosen_w - rejected_w) * (chosen - rejected) <= 1e-12
    (swapped,) = weights((chosen, rejected), scheme=scheme, alpha=alpha, direction="higher_mi_higher_weight")
    assert swapped == pytest.approx((rejected_w, chosen_w, s))


@pytest.mark.parametrize("scheme", ["tanh", "power", "geometric"])
def test_alpha_0_or_no_gap_is_dpo(scheme):
    for row in weights((0.3, 2.0), (-4.0, 1.0), scheme=scheme, alpha=0):
        assert row == pytest.approx((1, 1, 1))
    assert weights((0.7, 0.7), scheme=scheme)[0] == pytest.approx((1, 1, 1))


@given(chosen=MI, rejected=MI, shift=MI)
def test_tanh_does_not_see_a_shift(chosen, rejected, shift):
    (a,), (b,) = weights((chosen, rejected)), weights((chosen + shift, rejected + shift))
    assert a == pytest.approx(b, abs=1e-9)


def test_tanh_stops_at_its_bound():
    """|alpha d| is clipped to 4: 1 - tanh(2) = 0.03597."""
    assert weights((100.0, 0.0))[0][0] == pytest.approx(0.03597, abs=1e-5)


LENGTHS = pl.DataFrame(
    {
        "split": ["train", "train", "train", "heldout"],
        "chosen_tokens": [4, 16, 9, 16],
        "rejected_tokens": [1, 9, 4, 4],
    },
    schema_overrides={"chosen_tokens": pl.Int32, "rejected_tokens": pl.Int32},
)


def scored(*mi):
    """`frame` of four pairs with LENGTHS and the sums of log-probs that give these MI."""
    made = pl.concat([frame(*mi), LENGTHS], how="horizontal")
    return made.with_columns(
        **{
            f"ref_{side}_logps": pl.col(f"{side}_pmi") * pl.col(f"{side}_tokens") - 99
            for side in ("chosen", "rejected")
        },
        **{f"null_{side}_logps": pl.lit(-99.0) for side in ("chosen", "rejected")},
    )


FOUR = scored((3.0, 4.0), (0.5, 4.0), (2.0, 1.0), (1.0, 4.0))


@pytest.mark.parametrize(
    ("form", "gaps"),
    [
        ("per_token", [-1.0, -3.5, 1.0, -3.0]),
        ("total", [8 / 14, -2.0, 1.0, 0.0]),  # test_gap.py has it by hand
        ("sqrt", [0.5, -2.5, 1.0, -1.0]),
    ],
)
@pytest.mark.parametrize("scheme", ["tanh", "geometric"])
def test_a_form_of_the_gap_on_its_scale_gives_the_weights_of_such_a_gap(form, gaps, scheme):
    found = weigh(FOUR, params.WeighParams(normalisation=form, scheme=scheme))
    assert found["balance_gap"].to_list() == pytest.approx(gaps, abs=1e-12)
    expected = weights(*((d, 0.0) for d in gaps), scheme=scheme)
    assert np.allclose(found.select("chosen_weight", "rejected_weight", "pair_scale").to_numpy(), expected)
    assert found["pmi_gap"].equals(FOUR["pmi_gap"]) and not any(name.startswith("_") for name in found.columns)


def test_power_takes_the_mi_of_each_response_in_the_form():
    """total: 12 and 4 nats, median of |d| 14 for 1 per token: MI 12/14, 4/14 -> 2 / (1 + 3^1.5) = 0.32278."""
    options = params.WeighParams(normalisation="total", scheme="power")
    found = weigh(FOUR, options)
    assert found["chosen_weight"][0] == pytest.approx(0.32278, abs=1e-5)
    assert summarise(found, options)["at_bound"] == 0
    with pytest.raises(UsageError, match="only their gap"):  # a split's residual, found only now
        weigh(FOUR, params.WeighParams(scheme="power").model_copy(update={"normalisation": "residual"}))
    with pytest.raises(ValueError, match="residual has only the gap"):
        params.WeighParams(scheme="power", normalisation="residual")


def test_a_column_that_holds_the_form_is_taken_as_it_is():
    made = FOUR.with_columns(subset_gap=pl.Series([0.1, 0.2, 0.3, 0.4]))
    options = params.WeighParams(normalisation="sqrt")
    assert weigh(made, options, {"subset_gap": "sqrt"})["balance_gap"].to_list() == [0.1, 0.2, 0.3, 0.4]
    assert weigh(made, options, {"subset_gap": "total"})["balance_gap"].to_list() == pytest.approx([0.5, -2.5, 1, -1])


def test_summary_counts_what_hit_a_bound():
    options = params.WeighParams()
    made = pl.concat([frame((10.0, 0.0), (0.5, 0.0), (0.0, 0.5)), LENGTHS.head(3)], how="horizontal")
    summary = summarise(weigh(made, options), options)
    assert summary["normalisation"] == "per_token" and summary["length_explains"]["pairs"] == 3
    assert summary["at_bound"] == pytest.approx(1 / 3)
    assert summary["chosen_pushed_less"] == pytest.approx(2 / 3)
