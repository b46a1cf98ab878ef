"""A file of pairs is looked at when it is read: what a stage does not write is one message, with column and row."""

import polars as pl
import pytest
from artefacts import frame

from curate.base import files, limits
from curate.base.errors import InputError
from curate.pairs import artefact
from curate.pairs.artefact import check_values, read_artefact, read_with_provenance, scan_artefact

ALL = ("pairs", "scores", "splits", "weights")
PAIRS = frame(20)


def spoiled(column, value, row=7):
    here = pl.int_range(pl.len()) == row
    return PAIRS.with_columns(pl.when(here).then(pl.lit(value, PAIRS[column].dtype)).otherwise(column).alias(column))


@pytest.mark.parametrize("read", [read_artefact, scan_artefact])
def test_what_the_stages_write_is_read(tmp_path, read):
    rated = PAIRS.with_columns(chosen_safe=None, source=pl.lit(None, pl.String)).cast({"chosen_safe": pl.Boolean})
    rated.with_columns(chosen_reward=pl.lit(None, pl.Float64)).write_parquet(tmp_path / "a")
    assert read(tmp_path / "a", *ALL).lazy().collect().height == 20


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("pair_id", None, "null"),
        ("prompt", None, "null"),
        ("prompt", [], "without a turn"),
        ("chosen", [{"role": "assistant", "content": None}], "without role or text"),
        ("rejected", [None], "without role or text"),
        ("query_type", None, "null"),
        ("split", None, "null"),
        ("pmi_gap", float("nan"), "NaN or infinite"),
        ("chosen_pmi", float("inf"), "NaN or infinite"),
        ("ref_chosen_logps", -1e200, "beyond 1e"),
        ("ref_chosen_logps", float("-inf"), "NaN or infinite"),
        ("null_rejected_logps", None, "null"),
        ("ref_rejected_logps", 3.0, "above 0"),
        ("chosen_tokens", -1, "below 0"),
        ("balanced", None, "null"),
        ("chosen_weight", float("inf"), "NaN or infinite"),
        ("rejected_weight", -0.5, "below 0"),
        ("pair_scale", None, "null"),
    ],
)
@pytest.mark.parametrize("read", [read_artefact, scan_artefact])
def test_what_no_stage_writes_is_refused(tmp_path, column, value, says, read):
    spoiled(column, value).write_parquet(tmp_path / "a")
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path / "a", *ALL)
    told = caught.value.details
    assert (told["field"], told["row"], told["file"]) == (column, "7", str(tmp_path / "a"))
    assert "1 row: " in told["found"]


def test_ids_that_stand_twice(tmp_path):
    pl.concat([PAIRS, PAIRS[2:5]]).write_parquet(tmp_path / "a")
    with pytest.raises(InputError, match="3 rows: ids that stand twice") as caught:
        read_artefact(tmp_path / "a", *ALL)
    assert caught.value.details["row"] == "2"


def test_a_rating_that_is_no_number():
    with pytest.raises(InputError, match="NaN") as caught:
        check_values(PAIRS.with_columns(chosen_reward=pl.lit(float("nan"))), "pairs", file="a")
    assert caught.value.details["field"] == "chosen_reward"


def test_columns_of_other_stages_are_not_looked_at(tmp_path):
    spoiled("chosen_weight", float("nan")).write_parquet(tmp_path / "a")
    assert read_artefact(tmp_path / "a", "pairs", "scores").height == 20


def test_more_rows_than_the_file_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FEW_ROWS", 100)
    pl.DataFrame({"a": pl.repeat(None, 100_000, eager=True)}).write_parquet(tmp_path / "a")
    with pytest.raises(InputError, match=r"larger than is read[\s\S]*100,000 rows"):
        read_artefact(tmp_path / "a")


def test_rows_are_not_given_another_files_record(tmp_path, monkeypatch):
    """One writer replaces the file after its rows were read, and before it is asked how it was made."""
    path = tmp_path / "weights.parquet"
    files.write_parquet(PAIRS, path, {"stage": "weigh", "params": {"alpha": 1}})
    assert read_with_provenance(path, *ALL)[1]["params"] == {"alpha": 1}
    read = artefact.read_artefact

    def and_replaced(*asked):
        found = read(*asked)
        files.write_parquet(PAIRS.head(10), path, {"stage": "weigh", "params": {"alpha": 2}})
        return found

    monkeypatch.setattr(artefact, "read_artefact", and_replaced)
    with pytest.raises(InputError, match="replaced while it was read") as caught:
        read_with_provenance(path, *ALL)
    assert caught.value.details["file"] == str(path)
