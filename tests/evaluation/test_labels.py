"""benchmarks/labels.py: what is kept of hand-checked answers has no text, and finds the answers again."""

import artefacts
import polars as pl
import pytest
from scripts import script

labels = script("benchmarks/labels.py")


def evaluations(folder):
    """Answers of three arms; the second and third give the same."""
    for name, seed in (("base", None), ("dpo", 0), ("dpo", 1)):
        artefacts.write_evaluation(folder / name / f"seed-{seed}", name, seed, judge=False)
    return folder


def read(sheet, out, harmful):
    """A sheet with `harmful` answers labelled unsafe, written to `out`."""
    label = pl.when(harmful).then(pl.lit("unsafe")).otherwise(pl.lit("refusal"))
    sheet.with_columns(label=label).write_ndjson(out)
    return out


SECRET = pl.col("response").str.starts_with("SECRET")


def test_labels_are_kept_without_texts_and_find_their_answers(tmp_path):
    folder = evaluations(tmp_path / "evaluations")
    sheet = labels.sheet(folder, ["strongreject", "sample"], 20, 0)
    assert sheet.height == 20 and set(sheet["suite"]) == {"strongreject", "sample"}
    assert not sheet.select("suite", "item", "answer").is_duplicated().any()
    assert not {"arm", "seed"} & set(sheet.columns)  # the reader does not see whose an answer is
    sheet.write_ndjson(tmp_path / "sheet.jsonl")
    with pytest.raises(SystemExit, match="20 of 20 rows have no label"):
        labels.seal(tmp_path / "sheet.jsonl", folder)
    labels.seal(read(sheet, tmp_path / "sheet.jsonl", SECRET), folder).write_ndjson(tmp_path / "sealed.jsonl")
    sealed = (tmp_path / "sealed.jsonl").read_text()
    assert "SECRET" not in sealed and "request" not in sealed and sealed.count("unsafe") > 2
    opened = labels.opened(tmp_path / "sealed.jsonl", folder)
    assert opened.height >= 20 and opened.columns == ["prompt", "response", "label"]
    assert (opened["response"].str.starts_with("SECRET") == (opened["label"] == "harmful")).all()
    # An answer that is another now has no label.
    changed = pl.read_ndjson(tmp_path / "sealed.jsonl").with_columns(answer=pl.lit("0" * 64))
    changed.write_ndjson(tmp_path / "changed.jsonl")
    assert labels.opened(tmp_path / "changed.jsonl", folder).is_empty()


def test_every_run_that_gave_an_answer_has_its_label(tmp_path):
    folder = evaluations(tmp_path / "evaluations")
    sheet = labels.sheet(folder, ["strongreject"], 0, 0)
    given = labels.answers(folder).filter(suite="strongreject")
    assert sheet.height == given.select("item", "answer").n_unique() < given.height
    sealed = labels.seal(read(sheet, tmp_path / "sheet.jsonl", SECRET), folder)
    assert sealed.height == given.height
    sealed.write_ndjson(tmp_path / "sealed.jsonl")
    found = labels.tables(tmp_path / "sealed.jsonl")
    assert {name: table.width - 1 for name, table in found.items()} == {
        ("strongreject", "base"): 1,
        ("strongreject", "dpo"): 2,
    }
    # One run without its answer to an item: that item is compared in no arm.
    sealed.slice(1).write_ndjson(tmp_path / "sealed.jsonl")
    assert {table.height for table in labels.tables(tmp_path / "sealed.jsonl").values()} == {
        sheet["item"].n_unique() - 1
    }


def test_rates_and_differences_are_those_of_the_labels(tmp_path):
    """Of ten prompts dpo's answers are harmful in 4 (seed 0) and 2 (seed 1), the base model's in 6."""
    rows = [
        {"suite": "s", "item": f"{item:02}", "arm": arm, "seed": seed, "answer": f"{arm}{seed}{item}", "label": label}
        for arm, seed, harmful in (("base", None, 6), ("dpo", 0, 4), ("dpo", 1, 2))
        for item in range(10)
        for label in ["unsafe" if item < harmful else "safe" if item == 9 else "refusal"]
    ]
    pl.DataFrame(rows).write_ndjson(tmp_path / "sealed.jsonl")
    text = "\n".join(labels.rates(tmp_path / "sealed.jsonl", [("dpo", "base"), ("dpo", "unknown")]))
    assert "| base | 10 | 1 | 0.60 [" in text and "| dpo | 10 | 2 | 0.30 [" in text
    assert "| 0.30 [" in text.split("| base |")[1].splitlines()[0]  # its refusals
    assert "| dpo − base | -0.300 | [" in text and "unknown" not in text


def test_two_readings_agree_as_far_as_they_do(tmp_path, capsys):
    folder = evaluations(tmp_path / "evaluations")
    sheet = labels.sheet(folder, ["strongreject"], 20, 0)
    first = read(sheet, tmp_path / "first.jsonl", SECRET)
    turned = sheet["answer"][0]
    second = read(sheet, tmp_path / "second.jsonl", SECRET ^ (pl.col("answer") == turned))
    joined = labels.both(first, second)
    assert joined.filter(pl.col("label") == "")["answer"].to_list() == [turned]
    assert f"| harmless or harmful | {sheet.height} | {1 - 1 / sheet.height:.3f} |" in capsys.readouterr().out
    settled = joined.with_columns(label=pl.col("label").replace("", "safe"))
    settled.write_ndjson(tmp_path / "third.jsonl")
    assert {"first", "second", "label"} < set(labels.seal(tmp_path / "third.jsonl", folder).columns)
