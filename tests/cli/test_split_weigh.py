"""`curate split` and `curate weigh`: one form of the gap in both, and what they warn of."""

import json

import artefacts
import polars as pl
import pytest
from command import curate

from curate.base import files
from curate.base.errors import InputError
from curate.pairs.artefact import read_artefact
from curate.selection import gap, measure


@pytest.fixture
def scores(tmp_path):
    return artefacts.write_all(tmp_path / "made", 240) / "data/scores.parquet"


@pytest.fixture
def run(tmp_path, capsys):
    """A command, its output file and what it said."""

    def run(command, source, *options):
        out = tmp_path / f"{command}.parquet"
        done = curate(command, source, "--out", out, *options)
        return out, done.output + capsys.readouterr().err

    return run


def test_weigh_follows_the_split_and_scores_alone_are_per_token(scores, run):
    frame = read_artefact(scores)
    split, _ = run("split", scores, "--normalisation", "sqrt")
    weighed, _ = run("weigh", split)
    found = read_artefact(weighed, "pairs", "scores", "splits", "weights")
    for name in ("subset_gap", "balance_gap"):
        assert found[name].to_list() == pytest.approx(gap.gap(frame, "sqrt").to_list())
    assert measure.forms(files.read_provenance(weighed)) == {"subset_gap": "sqrt", "balance_gap": "sqrt"}
    other, _ = run("weigh", split, "--normalisation", "total")
    found = read_artefact(other)
    assert found["balance_gap"].to_list() == pytest.approx(gap.gap(frame, "total").to_list())
    assert found["subset_gap"].to_list() == pytest.approx(gap.gap(frame, "sqrt").to_list())
    plain, _ = run("weigh", scores)
    assert read_artefact(plain)["balance_gap"].equals(frame["pmi_gap"].alias("balance_gap"))


def test_old_files_have_no_gap_of_their_own_and_are_read(scores, run):
    """Without the columns, and with a record that knows no form, as the version before wrote them."""
    root = scores.parent
    weights = read_artefact(root / "weights.parquet", "pairs", "scores", "splits", "weights")
    assert not {"subset_gap", "balance_gap"} & set(weights.columns)
    weighed, _ = run("weigh", root / "splits.parquet")
    assert read_artefact(weighed)["chosen_weight"].to_list() == pytest.approx(weights["chosen_weight"].to_list())
    assert files.read_provenance(weighed)["params"]["normalisation"] == "per_token"
    record = json.loads(curate("show", root / "weights.parquet", "--json").stdout)
    (shares,) = (rows for title, rows in record["tables"].items() if "length explains" in title)
    assert [row[""] for row in shares] == ["pmi_gap"] and record["warnings"] == []


def test_subsets_that_differ_in_length_are_warned_of_with_options_that_mend_it(scores, run, tmp_path):
    """The options given whole: one --match alone would lose the others."""
    frame = read_artefact(scores)
    longer = (frame["pmi_gap"].abs().rank(descending=True) * 9).cast(pl.Int32)
    frame = frame.with_columns(chosen_tokens=longer, rejected_tokens=longer)
    files.write_parquet(frame, tmp_path / "long.parquet", files.read_provenance(scores))
    _, said = run("split", tmp_path / "long.parquet")
    assert "D_imbalanced" in said
    assert "; --match sign --match length --match total_length holds that equal" in said


def test_a_gap_that_is_length_and_scores_of_another_meaning_are_warned_of(scores, run, tmp_path):
    """Chosen responses of more tokens have less MI a token, by a line: all of the gap is length."""
    frame = read_artefact(scores)
    frame = frame.with_columns(
        chosen_pmi=2 - pl.col("chosen_tokens") / 40, rejected_pmi=2 - pl.col("rejected_tokens") / 40
    )
    frame = frame.with_columns(pmi_gap=pl.col("chosen_pmi") - pl.col("rejected_pmi"))
    old = {"stage": "score", "params": {"null_prompt": "contrastive", "dtype": "float32"}}
    files.write_parquet(frame, tmp_path / "old.parquet", old)
    split, said = run("split", tmp_path / "old.parquet")
    for words in ("split: warning: length explains 100% of the variance of the gap", "own prompt in the mean"):
        assert words in said
    weighed, said = run("weigh", split)
    assert "weigh: warning: length explains 100%" in said and "own prompt in the mean" in said
    shown = curate("show", weighed).stdout
    assert shown.count("length explains 100%") == 1 and "Beware: length explains 100%" in shown  # said once
    assert "own prompt in the mean" in shown and "no faults found" in shown
    record = json.loads(curate("show", weighed, "--json").stdout)
    assert len(record["warnings"]) == 2
    with pytest.raises(InputError, match="residual cannot be brought to the per-token form's scale"):
        run("split", tmp_path / "old.parquet", "--normalisation", "residual")  # nothing would be left
