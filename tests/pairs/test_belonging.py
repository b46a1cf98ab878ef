"""prepare.json of these pairs, or of others. Texts are invented."""

import json

import polars as pl
import pytest

from curate.base.errors import InputError
from curate.pairs.belonging import check_of_these_pairs, ids_digest
from curate.pairs.prepare import prepare, write
from curate.project.params import CleaningParams, DataParams


def prepared(folder, words, **data):
    """Pairs of prompts made of the words, and the summary as its file has it."""
    folder.mkdir()
    rows = [{"prompt": f"{word}?", "chosen": "yes", "rejected": "no"} for word in words]
    (folder / "raw.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = prepare(DataParams(source=str(folder / "raw.jsonl"), **data), CleaningParams())
    write(found, folder / "pairs.parquet", folder / "rejects.parquet", folder / "prepare.json")
    return found.pairs, json.loads((folder / "prepare.json").read_text())


WORDS = ("how", "why", "when", "who", "where", "what", "which", "whose", "since when", "how far")


def test_all_pairs_are_told_by_their_ids_and_a_part_of_them_by_counts(tmp_path):
    pairs, summary = prepared(tmp_path / "a", WORDS)
    others, other = prepared(tmp_path / "b", [f"{word} then" for word in WORDS])
    for some in (pairs, pairs.reverse(), pairs.with_columns(chosen_reward=1.0), pairs.head(3)):
        check_of_these_pairs(summary, some, "prepare.json")
    for mine, theirs in ((summary, others), (other, pairs)):
        with pytest.raises(InputError, match="the summary is of other pairs") as caught:
            check_of_these_pairs(mine, theirs, "x/prepare.json")
        assert caught.value.details["found"] == "10 pairs with other ids"
        assert str(caught.value.details["file"]) == "x/prepare.json"
    del summary["pair_ids"]  # as versions before wrote it
    check_of_these_pairs(summary, others, "prepare.json")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"source": "mine.jsonl"}, "of mine.jsonl"),
        ({"kept": 9}, "9 pairs kept"),
        ({"read": 4}, "4 rows read"),
        (
            {"kept": 11, "pairs": {"unknown": {"heldout": {"pairs": 9}, "train": 3}}},
            "0 pairs of query type unknown in train",
        ),
        ({"kept": 11, "pairs": {"safe": {"train": {"pairs": 9}}}}, "0 pairs of query type unknown in train"),
    ],
)
def test_what_tells_other_pairs(tmp_path, change, found):
    pairs, summary = prepared(tmp_path / "a", WORDS)
    check_of_these_pairs(summary | {"kept": 11}, pairs, "prepare.json")
    with pytest.raises(InputError, match="of other pairs") as caught:
        check_of_these_pairs(summary | change, pairs, "prepare.json")
    assert caught.value.details["found"] == found


def test_pairs_of_a_file_of_ours_keep_the_source_and_rows_that_they_came_with(tmp_path):
    prepared(tmp_path / "a", WORDS)
    again = prepare(DataParams(source=str(tmp_path / "a/pairs.parquet"), limit=5), CleaningParams())
    assert set(again.pairs["source"]) == {"raw.jsonl"} != {again.summary["source"]}
    check_of_these_pairs(again.summary, again.pairs, "prepare.json")
    check_of_these_pairs(again.summary, again.pairs.tail(2), "prepare.json")


def test_the_digest_is_of_the_ids_alone():
    one, other = pl.DataFrame({"pair_id": ["b", "a"]}), pl.DataFrame({"pair_id": ["a", "b"], "x": [1, 2]})
    assert ids_digest(one) == ids_digest(other) != ids_digest(one.head(1))
