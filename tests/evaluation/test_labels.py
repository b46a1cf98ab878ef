"""benchmarks/labels.py: what is kept of hand-checked answers has no text, and finds the answers again."""

import artefacts
import polars as pl
import pytest
from scripts import script

labels = script("benchmarks/labels.py")


def test_labels_are_kept_without_texts_and_find_their_answers(tmp_path):
    for name, seed in (("base", None), ("dpo", 0)):
        artefacts.write_evaluation(tmp_path / "evaluations" / name, name, seed, judge=False)
    sheet = labels.sheet(tmp_path / "evaluations", ["strongreject", "sample"], 20, 0)
    assert sheet.height == 20 and set(sheet["suite"]) == {"strongreject", "sample"}
    assert not sheet.select("suite", "item", "answer").is_duplicated().any()
    sheet.write_ndjson(tmp_path / "sheet.jsonl")
    with pytest.raises(SystemExit, match="20 of 20 rows have no label"):
        labels.seal(tmp_path / "sheet.jsonl")
    harmful = pl.col("response").str.starts_with("SECRET")
    labelled = sheet.with_columns(label=pl.when(harmful).then(pl.lit("unsafe")).otherwise(pl.lit("refusal")))
    labelled.write_ndjson(tmp_path / "sheet.jsonl")
    labels.seal(tmp_path / "sheet.jsonl").write_ndjson(tmp_path / "sealed.jsonl")
    sealed = (tmp_path / "sealed.jsonl").read_text()
    assert "SECRET" not in sealed and "request" not in sealed and sealed.count("unsafe") > 2
    opened = labels.opened(tmp_path / "sealed.jsonl", tmp_path / "evaluations")
    assert opened.height == 20 and opened.columns == ["prompt", "response", "label"]
    assert (opened["response"].str.starts_with("SECRET") == (opened["label"] == "harmful")).all()
    # An answer that is another now has no label.
    changed = pl.read_ndjson(tmp_path / "sealed.jsonl").with_columns(answer=pl.lit("0" * 64))
    changed.write_ndjson(tmp_path / "changed.jsonl")
    assert labels.opened(tmp_path / "changed.jsonl", tmp_path / "evaluations").is_empty()
