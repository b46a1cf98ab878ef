"""What the figures of the pairs say in numbers."""

from itertools import pairwise

import artefacts
import polars as pl
import pytest

from curate.evaluation.statistics import wilson
from curate.reporting import canvas, figures, tables, verdict


@pytest.mark.parametrize("pairs", [1, 3, 40])
def test_shares_have_wilson_s_interval(pairs):
    """Of pairs that all lie on one side, too: three of three say little."""
    frame = artefacts.frame(80).filter(query_type="safe").head(pairs).with_columns(chosen_pmi=0.9, rejected_pmi=0.4)
    figure = figures.scatter(frame.with_columns(pmi_gap=0.5), 10).figure
    low, high = wilson(pairs, pairs)
    above, below = (text.get_text() for text in figure.axes[0].texts)
    assert above.startswith(f"100% [{low:.0%}, {high:.0%}] above") and low < 0.95
    assert below.startswith(f"0% [0%, {1 - low:.0%}] below")


@pytest.mark.parametrize(("gaps", "said"), [([0.25], "0.250"), ([0.0, 0.5], "0.250"), ([0.0, 0.5, 1.0], None)])
def test_the_mean_gap_has_an_interval_where_pairs_tell_one(gaps, said):
    """Student's t of 0, .5, 1: .5 -+ 4.3027 * .5 / sqrt(3)."""
    frame = artefacts.frame(80).filter(query_type="safe").head(len(gaps))
    gap = pl.Series("pmi_gap", gaps)
    drawn = figures.gap_histogram(frame.with_columns(gap, gap.alias("subset_gap")))
    title = drawn.figure.axes[0].get_title()
    assert title == f"safe queries\nmean {said or '0.500 [−0.742, 1.742]'}"


@pytest.mark.parametrize("types", [["unsafe"], ["safe", "unsafe"]])
@pytest.mark.parametrize("scale", [0.001, 0.03, 1.0, 1000.0])
def test_the_numbers_of_an_axis_do_not_run_into_each_other(types, scale):
    frame = artefacts.frame(80).filter(pl.col("query_type").is_in(types))
    small = frame.with_columns(pl.col("chosen_pmi", "rejected_pmi", "pmi_gap") * scale)
    small = small.with_columns(subset_gap="pmi_gap", balance_gap="pmi_gap")
    with canvas.style():
        for drawn in (figures.scatter(small, 10), figures.gap_histogram(small), figures.weights(small, 10)):
            drawn.figure.draw_without_rendering()
            for axis in drawn.figure.axes:
                shown = [text.get_window_extent() for text in axis.get_xticklabels() if text.get_text()]
                assert all(one.x1 < other.x0 for one, other in pairwise(shown)), drawn.name


def test_the_gap_s_figure_is_as_wide_for_one_query_type_as_for_two():
    frame = artefacts.frame(80)
    one, two = (figures.gap_histogram(part).figure for part in (frame.filter(query_type="safe"), frame))
    assert one.get_figwidth() == two.get_figwidth()


def test_a_subset_s_share_of_higher_mi_is_of_the_mi_in_any_form_of_the_gap():
    """In a form that turns signs round the gap's sign is not which response has the higher MI."""
    frame = artefacts.frame(200)
    turned = frame.with_columns(subset_gap=-pl.col("pmi_gap"))
    (row, *_), (same, *_) = (tables.subset_sizes(one).rows for one in (turned, frame))
    share = (frame.filter("balanced")["pmi_gap"] > 0).mean()
    assert row[-1] == same[-1] == share != 1 - share
    assert tables.subset_sizes(frame).columns[4:6] == ["mean |gap|", "largest |gap|"]
    assert tables.subset_sizes(turned).columns[4:6] == ["mean |subset gap|", "largest |subset gap|"]


def test_subsets_are_counted_by_the_query_types_that_are_there():
    frame = artefacts.frame(100).with_columns(query_type=pl.lit("unknown").cast(artefacts.frame(2)["query_type"].dtype))
    found = tables.subset_sizes(frame)
    assert found.columns[1:3] == ["pairs", "unknown"] and all(row[1] == row[2] > 0 for row in found.rows)


def test_the_verdict_names_the_form_of_its_mean_gap():
    """The page has another mean |gap|, per token, beside it."""
    frame = artefacts.frame(100).with_columns(balance_gap=pl.col("pmi_gap") * 3)
    for form, said in (
        ("sqrt", "nats/token (gap measured by the root of the length, scaled);"),
        ("per_token", "token;"),
    ):
        found = verdict.imbalance(frame, {"stage": "weigh", "params": {"normalisation": form}})
        assert f"mean |gap| {3 * frame['pmi_gap'].abs().mean():.3f}" in verdict.sentences(found)[0]
        assert said in verdict.sentences(found)[0]
