"""Balanced, imbalanced and random subsets (docs/method.md)."""

import random

import polars as pl
import pytest

from curate.base.errors import InputError
from curate.pairs.schema import SUBSETS
from curate.project import params
from curate.selection import gap, measure
from curate.selection.length import explained
from curate.selection.subsets import split, standardised_difference, summarise, wider

SIDES = ("chosen", "rejected")


def scores(count, seed=0):
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        gap = draw.gauss(0.1, 0.5)
        rows.append(
            {
                "pair_id": f"{i:08d}",
                "split": "train" if draw.random() < 0.8 else "heldout",
                "query_type": "unsafe" if draw.random() < 0.4 else "safe",
                "pmi_gap": gap,
                # Length goes with |gap|: what an unmatched split would pass for imbalance.
                "chosen_tokens": 20 + int(60 * abs(gap)) + draw.randrange(10),
                "rejected_tokens": 25,
            }
        )
    return pl.DataFrame(rows)


def test_one_size_train_only_and_disjoint():
    frame = split(scores(2000), params.SplitParams())
    sizes = {name: frame[name].sum() for name in SUBSETS}
    assert len(set(sizes.values())) == 1 and sizes["balanced"] > 450
    assert not frame.filter(pl.col("split") == "heldout").select(pl.any_horizontal(*SUBSETS).any()).item()
    assert not frame.filter(pl.col("balanced") & pl.col("imbalanced")).height


def test_unmatched_is_the_lowest_and_highest_third_of_each_query_type():
    frame = split(scores(1000), params.SplitParams(match=[]))
    for query_type in ("safe", "unsafe"):
        rows = frame.filter((pl.col("split") == "train") & (pl.col("query_type") == query_type))
        gaps = rows["pmi_gap"].abs().sort()
        size = int(rows.height / 3)
        assert sorted(rows.filter("balanced")["pmi_gap"].abs()) == gaps.head(size).to_list()
        assert sorted(rows.filter("imbalanced")["pmi_gap"].abs()) == gaps.tail(size).to_list()


def test_matching_holds_the_confounders():
    def smd(**options):
        wanted = params.SplitParams(**options)
        return summarise(split(scores(4000), wanted), wanted)["smd"]["balanced-imbalanced"]

    plain, matched = smd(match=[]), smd(length_bins=8)
    assert matched["sign"] == pytest.approx(0, abs=1e-9) and matched["query_type"] == pytest.approx(0, abs=1e-9)
    assert abs(plain["length_difference"]) > 1
    assert abs(matched["length_difference"]) < abs(plain["length_difference"]) / 4
    assert plain["length"] < -1  # the imbalanced pairs are the longer ones here


def test_total_length_is_held_equal_where_asked_for_and_warned_of_else():
    """Here pairs of small gaps are longer on both sides alike, so that the length difference says nothing of it."""
    frame = scores(4000)
    longer = frame["pmi_gap"].abs().rank(descending=True) / 40 + pl.Series(
        [random.Random(n).uniform(0, 100) for n in range(4000)]
    )
    frame = frame.with_columns(pl.col("chosen_tokens", "rejected_tokens") + longer.cast(pl.Int32))
    found = {}
    for match in (("sign", "length"), ("sign", "length", "total_length")):
        wanted = params.SplitParams(match=list(match), length_bins=8)
        summary = summarise(split(frame, wanted), wanted)
        told = [one for one in measure.warnings({}, summary, " ".join(wider(wanted))) if "D_balanced" in one]
        found[match[-1]] = summary["smd"]["balanced-imbalanced"]["length"], told
    (without, warned), (matched, quiet) = found.values()
    assert without > 0.25 and abs(matched) < without / 5 and not quiet
    assert warned[0].startswith(
        f"pairs of D_balanced are longer than those of D_imbalanced (standardised mean difference {without:.2f}"
    )
    assert warned[0].endswith("; sign length total_length holds that equal")


@pytest.mark.parametrize("form", ["total", "sqrt", "residual"])
def test_subsets_go_by_the_form_that_is_named(form):
    """Sizes, signs and bounds are of that form's gap; the per-token columns stay as they are."""
    frame = scores(1500).with_columns(chosen_pmi=pl.col("pmi_gap") + 0.5, rejected_pmi=pl.lit(0.5))
    frame = frame.with_columns(
        **{f"ref_{side}_logps": pl.col(f"{side}_pmi") * pl.col(f"{side}_tokens") - 300 for side in SIDES},
        **{f"null_{side}_logps": pl.lit(-300.0) for side in SIDES},
    )
    wanted = params.SplitParams(normalisation=form, match=["sign"])
    found = split(frame, wanted)
    assert found["subset_gap"].equals(gap.gap(frame, form).alias("subset_gap")) and found["pmi_gap"].equals(
        frame["pmi_gap"]
    )
    training = found.filter(pl.col("split") == "train")
    assert training["subset_gap"].abs().median() == pytest.approx(training["pmi_gap"].abs().median())
    for _, rows in training.group_by("query_type", pl.col("subset_gap") > 0):
        size = int(rows.height / 3)
        ordered = rows.sort(pl.col("subset_gap").abs())
        assert ordered.head(size)["balanced"].all() and ordered.tail(size)["imbalanced"].all()
    summary = summarise(found, wanted)
    assert summary["normalisation"] == form and summary["gap_scale"] == pytest.approx(gap.scale(frame, form))
    told = summary["length_explains"]
    assert told["pairs"] == training.height and told["gap"] == pytest.approx(explained(found, "subset_gap").gap)
    assert form != "residual" or told["gap"] == pytest.approx(0, abs=1e-12)
    assert summary["smd"]["balanced-imbalanced"]["sign"] == pytest.approx(0, abs=1e-9)
    assert not found["balanced"].equals(split(frame, params.SplitParams(match=["sign"]))["balanced"])


@pytest.mark.parametrize("fraction", [0.29, 0.07, 0.14, 0.28, 1 / 3, 0.5])
def test_a_subset_has_the_whole_of_its_fraction(fraction):
    """.29 of 100 is 28.999999999999996 in floats, and 29 pairs."""
    training = scores(300).with_columns(query_type=pl.lit("safe"), split=pl.lit("train")).head(100)
    found = split(training, params.SplitParams(fraction=fraction, match=[]))
    assert [found[name].sum() for name in SUBSETS] == [int(fraction * 100 + 0.001)] * 3


def test_the_order_of_the_rows_does_not_matter():
    frame = scores(500)
    once = split(frame, params.SplitParams())
    again = split(frame.sample(fraction=1, shuffle=True, seed=3), params.SplitParams())
    assert once.equals(again.sort("pair_id"))


def test_the_seed_moves_only_the_random_subset():
    a, b = (split(scores(500), params.SplitParams(seed=seed)) for seed in (0, 1))
    assert a["balanced"].equals(b["balanced"]) and a["imbalanced"].equals(b["imbalanced"])
    assert not a["random"].equals(b["random"])


def test_splitting_again_replaces_the_subsets():
    once = split(scores(300), params.SplitParams())
    assert split(once, params.SplitParams(fraction=0.2))["balanced"].sum() < once["balanced"].sum()


def test_too_few_pairs():
    with pytest.raises(InputError, match="too few training pairs"):
        split(scores(3), params.SplitParams())


def test_standardised_difference_by_hand():
    """means 2 and 4, variances 1 and 1: (2 - 4) / 1 = -2."""
    assert standardised_difference(pl.Series([1.0, 2, 3]), pl.Series([3.0, 4, 5])) == pytest.approx(-2)
    assert standardised_difference(pl.Series([1.0, 1]), pl.Series([1.0, 1])) == 0
    assert standardised_difference(pl.Series([1.0, 1]), pl.Series([2.0, 2])) is None
