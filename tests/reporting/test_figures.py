"""What the figures of the pairs say in numbers."""

import artefacts
import polars as pl
import pytest

from curate.evaluation.statistics import wilson
from curate.reporting import figures


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
    assert title == f"safe queries, mean {said or '0.500 [−0.742, 1.742]'}"
