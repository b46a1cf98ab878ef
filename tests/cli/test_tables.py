"""Tables fit the screen: headings fold, numbers never, and what is left over goes into further tables."""

import pytest

from curate.cli.tables import parts, print_table
from curate.reporting.table import Spread, Table, Within, written

WIDE = Table(
    "sample",
    ["arm", "seeds", "safe rate, unsafe prompts ↑", "over-refusal, safe prompts ↓", "attack success, prefill 5 ↓"],
    [
        ["base", 1, Within(0.5, 0.412, 0.588, 2, 40), Within(0.25, 0.2, 0.3), Spread(0.912, 0.003, 3)],
        ["bdpo", 3, Within(0.75, 0.7, 0.8), None, Spread(0.9, None, 1)],
    ],
)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_screen_and_no_number_is_torn(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for number in ("0.500 [0.412, 0.588] (2 of 40 unjudged)", "0.250 [0.200, 0.300]", "0.912 ± 0.003"):
        assert sum(number in line for line in lines) == 1
    assert sum(line.split()[:1] == ["base"] for line in lines) == len(parts(WIDE, width))


def test_parts_repeat_the_first_column_and_lose_nothing():
    found = parts(WIDE, 60)
    assert [part.title for part in found] == ["sample", *["sample, continued"] * (len(found) - 1)] and len(found) > 1
    assert {part.columns[0] for part in found} == {"arm"}
    assert [name for part in found for name in part.columns[1:]] == WIDE.columns[1:]
    assert [part.rows[1][0] for part in found] == ["bdpo"] * len(found)
    assert parts(WIDE, 200) == [WIDE]


def test_a_column_wider_than_the_screen_stands_alone_and_folds(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_table(Table("", ["", "settings"], [["step", "word " * 30]]))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_every_number_below_zero_has_the_sign_that_intervals_have():
    cells = [-0.0341, -7.3e-4, -1234, Spread(-0.02, 0.01, 3), Within(-0.02, -0.03, 0.01)]
    assert list(map(written, cells)) == ["−0.034", "−7.3e-04", "−1,234", "−0.020 ± 0.010", "−0.020 [−0.030, 0.010]"]
