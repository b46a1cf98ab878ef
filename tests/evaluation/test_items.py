"""What an evaluation's files say of themselves."""

from pathlib import Path

from curate.evaluation.items import MEANINGS, RESULTS, VALUES
from curate.pairs import schema


def test_the_columns_documented_are_those_of_the_files():
    text = (Path(__file__).resolve().parents[2] / "docs" / "columns.md").read_text()
    for columns in (RESULTS, VALUES):
        assert schema.table(columns, columns, MEANINGS) in text
    assert set(MEANINGS) == {*RESULTS, *VALUES}
