"""How numbers are written."""

import pytest

from curate.reporting.table import Spread, Within, written


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (Within(-0.0003, -0.017, 0.0171), "0.000 [−0.017, 0.017]"),
        (Within(-0.0003, -0.0006, -0.0001), "−3.0e-04 [−6.0e-04, −1.0e-04]"),
        (Within(0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
        (Spread(-0.0003, 0.017, 3), "0.000 ± 0.017"),
        (Spread(0.0003, 0.0001, 3), "3.0e-04 ± 1.0e-04"),
        (-0.0003, "−3.0e-04"),
    ],
)
def test_a_number_next_to_nothing_has_the_decimals_of_what_it_stands_with(cell, said):
    """And never a sign before nothing but zeros."""
    assert written(cell) == said
