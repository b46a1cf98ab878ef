"""Relabelling by safety (SafeDPO) and by reward and cost (C-DPO), and the ascent that finds lambda."""

import math

import artefacts
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.errors import InputError, UsageError
from curate.pairs import schema
from curate.project import params
from curate.selection.relabelling import cdpo, door, dual_ascent, expected_ratings, safedpo, swap
from curate.selection.weights import weigh

SIDED = ("pmi_gap", "margin", *schema.GAPS, "relabelled")
NUMBER = st.floats(-5, 5).map(lambda x: round(x, 4))


def rated(*rows, **labels) -> pl.DataFrame:
    """(chosen_reward, rejected_reward, chosen_cost, rejected_cost) as pairs."""
    columns = {name: [row[i] for row in rows] for i, name in enumerate(schema.RATINGS)}
    ids = {"pair_id": [f"{i:032x}" for i in range(len(rows))], "source": ["raw.json"] * len(rows)}
    rows_of = {"source_row": range(100, 100 + len(rows)), "chosen": [f"w{i}" for i in range(len(rows))]}
    return pl.DataFrame(ids | rows_of | {"rejected": [f"l{i}" for i in range(len(rows))]} | columns | labels)


def labelled(*labels) -> pl.DataFrame:
    """(chosen_safe, rejected_safe) as pairs."""
    safe = {"chosen_safe": [pair[0] for pair in labels], "rejected_safe": [pair[1] for pair in labels]}
    return rated(*[(0.0,) * 4] * len(labels), **safe)


def everything() -> pl.DataFrame:
    """Every column that a weights file can have."""
    frame = artefacts.frame(60).with_columns(subset_gap=pl.col("pmi_gap") * 2, balance_gap=pl.col("pmi_gap") * 3)
    frame = frame.with_columns(margin=pl.col("pmi_gap") * 4)
    return frame.with_columns(pl.Series(name, range(60), dtype=pl.Float64) * i for i, name in enumerate(schema.RATINGS))


def test_every_column_of_a_side_changes_places():
    frame = everything()
    assert swap(frame, pl.lit(False)).drop("relabelled").equals(frame)
    swapped = swap(frame, pl.lit(True))
    names = [name for name in frame.columns if "chosen" in name]
    expected = {"chosen", "chosen_safe", "chosen_tokens", "ref_chosen_logps", "null_chosen_logps", "chosen_pmi"}
    assert set(names) == expected | {"chosen_weight", "chosen_reward", "chosen_cost"}
    for name in names:
        other = name.replace("chosen", "rejected")
        assert swapped[name].equals(frame[other]) and swapped[other].equals(frame[name])
    for name in ("pmi_gap", "margin", *schema.GAPS):
        assert swapped[name].equals(-frame[name])
    assert swapped["relabelled"].all()
    rest = [name for name in frame.columns if "chosen" not in name and "rejected" not in name and name not in SIDED]
    assert swapped.select(rest).equals(frame.select(rest))


@pytest.mark.parametrize("scheme", ["tanh", "power", "geometric"])
def test_a_swapped_pair_weighs_what_it_would_have_weighed_from_the_start(scheme):
    frame, where, options = everything(), pl.int_range(pl.len()) % 3 == 0, params.WeighParams(scheme=scheme)
    before, after = weigh(swap(frame, where), options), swap(weigh(frame, options), where)
    for name in schema.WEIGHTS:
        assert before[name].to_list() == pytest.approx(after[name].to_list(), abs=1e-12)


@given(st.lists(st.sampled_from([True, False, None]), min_size=60, max_size=60))
def test_twice_is_the_identity(mask):
    frame, where = everything(), pl.lit(pl.Series(mask, dtype=pl.Boolean))
    once = swap(frame, where)
    assert once["relabelled"].to_list() == [bool(one) for one in mask]
    twice = swap(once, where)
    assert not twice["relabelled"].any() and twice.drop("relabelled").equals(frame)


def test_a_column_without_counterpart_is_refused():
    with pytest.raises(InputError, match="no counterpart") as error:
        swap(everything().with_columns(chosen_judge=pl.lit("x")), pl.lit(True))
    assert error.value.details["field"] == "chosen_judge"
    with pytest.raises(InputError, match="no counterpart"):
        swap(everything().with_columns(pl.col("rejected_tokens").cast(pl.Float64)), pl.lit(True))


def test_safedpo_by_hand():
    result = safedpo(labelled((True, False), (False, True), (True, True), (False, False), (False, True)))
    assert (result.swapped, result.dropped) == (2, 1)
    assert result.frame["chosen"].to_list() == ["w0", "l1", "w2", "l4"]
    assert result.frame["relabelled"].to_list() == [False, True, False, True]
    assert result.frame["chosen_safe"].all()


@pytest.mark.parametrize("labels", [[(True, False), (None, True)], [(None, None)], [(False, None)]])
def test_safedpo_needs_every_label(labels):
    with pytest.raises(InputError, match="safety labels") as error:
        safedpo(labelled(*labels))
    details = error.value.details
    assert (details["file"], details["row"]) == ("raw.json", str(100 + len(labels) - 1))
    assert "PKU-SafeRLHF" in details["remedy"] and details["found"].startswith("none on 1 of")


def test_door_by_hand():
    """No unsafe response is chosen; where the source is silent of the chosen one, nothing is claimed."""
    labels = [(True, False), (False, True), (True, True), (False, False), (False, None), (None, False), (None, True)]
    result = door(labelled(*labels))
    assert (result.swapped, result.dropped) == (1, 2)
    assert result.frame["chosen"].to_list() == ["w0", "l1", "w2", "w5", "w6"]
    assert result.frame["rejected_safe"].to_list() == [False, False, True, False, True]
    untouched = labelled((True, False), (None, None), (True, True))
    assert door(untouched).frame.equals(untouched)
    assert door(labelled((False, False), (True, False))).frame.columns == untouched.columns


def test_cdpo_by_hand():
    """r_lambda at lambda .4 / 1: (1 - .4, 2 - 1.2) = (.6, .8): swap / (0, -1): keep; equal at .5: keep."""
    frame = rated((1.0, 2.0, 1.0, 3.0))
    assert [cdpo(frame, lambda_).swapped for lambda_ in (0, 0.4, 0.5, 1)] == [1, 1, 0, 0]
    swapped = cdpo(frame, 0.4)
    assert swapped.frame["chosen"].to_list() == ["l0"] and swapped.dropped == 0
    assert swapped.frame.select(*schema.RATINGS).row(0) == (2.0, 1.0, 3.0, 1.0)


@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=20), st.floats(0, 3))
def test_cdpo_chooses_the_higher_and_once_is_enough(rows, lambda_):
    frame = cdpo(rated(*rows), lambda_).frame
    for rating in frame.select(*schema.RATINGS).iter_rows():
        assert rating[0] - rating[1] - lambda_ * (rating[2] - rating[3]) >= 0
    assert cdpo(frame, lambda_).swapped == 0


@pytest.mark.parametrize(
    ("frame", "field", "found"),
    [
        (rated((1.0, 2.0, 3.0, 4.0)).drop("chosen_cost", "rejected_cost"), "chosen_cost, rejected_cost", "no such"),
        (rated((1.0, 2.0, 3.0, 4.0), (1.0, None, 3.0, 4.0)), "rejected_reward", "none on 1 of 2 rows"),
        (rated((1.0, math.nan, math.inf, 4.0)), "rejected_reward, chosen_cost", "none on 1 of 1 rows"),
    ],
)
def test_cdpo_needs_every_rating(frame, field, found):
    for relabel in (lambda: cdpo(frame, 1), lambda: dual_ascent(frame, 0, 0.1, 5)):
        with pytest.raises(InputError, match="ratings that C-DPO") as error:
            relabel()
        details = error.value.details
        assert details["field"] == field and found in details["found"] and "curate rate" in details["remedy"]


@pytest.mark.parametrize("lambda_", [-0.1, math.nan, math.inf])
def test_lambda_is_a_price(lambda_):
    with pytest.raises(UsageError, match="lambda must be 0 or more"):
        cdpo(rated((1.0, 2.0, 3.0, 4.0)), lambda_)


def test_one_step_of_the_ascent_by_hand():
    """At lambda 0: p = sigmoid(1 - 2) = .268941, E[c] = 4 (1 - p) = 2.924234, E[r] = p + 2 (1 - p) = 1.731059; then
    lambda = .1 * (2.924234 - 1) = .192423."""
    lambda_, history = dual_ascent(rated((1.0, 2.0, 0.0, 4.0)), limit=1, eta=0.1, rounds=1)
    assert lambda_ == pytest.approx(0.192423, abs=1e-6)
    assert history.columns == ["round", "lambda", "expected_reward", "expected_cost"]
    assert history.row(0) == pytest.approx((0, 0, 1.731059, 2.924234), abs=1e-6)
    assert history["lambda"][-1] == lambda_ and history.height == 2


def test_the_ascent_ends_where_the_cost_is_the_limit():
    """One pair: E[c] = 4 (1 - p) = 1 at p = 3/4, that is -1 + 4 lambda = ln 3."""
    frame = rated((1.0, 2.0, 0.0, 4.0))
    lambda_, history = dual_ascent(frame, limit=1, eta=0.3, rounds=500)
    assert lambda_ == pytest.approx((1 + math.log(3)) / 4, abs=1e-5)
    assert history.height < 500 and history["expected_cost"][-1] == pytest.approx(1, abs=2e-6)
    assert expected_ratings(frame, lambda_)[1] == history["expected_cost"][-1]


def test_a_limit_that_holds_anyway_costs_nothing():
    lambda_, history = dual_ascent(rated((1.0, 2.0, 0.0, 4.0)), limit=3, eta=0.3, rounds=50)
    assert lambda_ == 0 and history.height == 1


def test_what_no_lambda_can_do_is_an_error():
    with pytest.raises(InputError, match="no lambda keeps") as error:
        dual_ascent(rated((1.0, 2.0, 0.0, 4.0), (1.0, 2.0, 3.0, 2.0)), limit=0.9, eta=0.3, rounds=50)
    assert "at least 1," in error.value.details["expected"]
    with pytest.raises(InputError, match="no pair"):
        dual_ascent(rated((1.0, 2.0, 0.0, 4.0)).head(0), limit=0.9, eta=0.3, rounds=50)
    for eta, rounds in ((0, 5), (math.nan, 5), (0.1, -1)):
        with pytest.raises(UsageError, match="cannot step"):
            dual_ascent(rated((1.0, 2.0, 0.0, 4.0)), limit=1, eta=eta, rounds=rounds)


def test_the_grid_of_the_sample(sample_pairs):
    """A price on cost first leaves the helpful answers to unsafe queries chosen, and ends with none of them."""
    unsafe = sample_pairs.filter(pl.col("query_type") == "unsafe")
    costs = [cdpo(unsafe, lambda_).frame["chosen_cost"].mean() for lambda_ in (0, 0.2, 0.4, 1, 2)]
    assert costs == sorted(costs, reverse=True) and costs[0] > 0.5 and costs[-1] < -1
    assert cdpo(unsafe, 0).swapped > 0.9 * unsafe.height > 0.05 * unsafe.height > cdpo(unsafe, 2).swapped
