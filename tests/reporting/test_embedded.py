"""What the page holds of the pairs: every number and id as in the file, the texts of as many as wanted."""

import base64
import json
import zlib

import artefacts
import numpy as np
import polars as pl
import pytest

from curate.reporting.embedded import BLOCK, LONGEST_TEXT, embedded, text_rows


def unpacked(text):
    return zlib.decompress(base64.b64decode(text))


def numbers(record):
    """Column -> values, by the record's own account of its layout."""
    content, start, found = unpacked(record["numbers"]), 0, {}
    for name, kind in record["columns"]:
        found[name] = np.frombuffer(content, f"<{kind}", record["pairs"], start)
        start += found[name].nbytes
    assert start == len(content)
    return found


def texts(record):
    return [row for block in record["texts"] for row in json.loads(unpacked(block))]


def test_numbers_and_ids_are_the_file_s():
    frame = artefacts.frame(100)
    record = embedded(frame, [], 0).record
    found = numbers(record)
    for name in ("chosen_pmi", "rejected_pmi", "source_row"):
        assert found[name].tolist() == frame[name].to_list()
    for name in ("chosen_weight", "rejected_weight", "pair_scale"):
        assert found[name] == pytest.approx(frame[name].to_numpy(), rel=1e-6)
    assert [record["query_types"][code] for code in found["query_type"]] == frame["query_type"].to_list()
    assert [record["sides"][code].replace("-", "") for code in found["side"]] == frame["split"].to_list()
    assert record["sources"] == ["sample"] and not found["source"].any()
    assert json.loads(unpacked(record["ids"])) == frame["pair_id"].to_list()


def test_texts_are_those_of_the_rows_that_point_to_them():
    frame = artefacts.frame(400)
    held = embedded(frame, [399, 7], BLOCK + 10)
    places = numbers(held.record)["text"]
    assert held.texts[399] == 0 and held.texts[7] == 1 and len(held.texts) == BLOCK + 10
    assert {row: place for row, place in enumerate(places) if place >= 0} == held.texts
    found = texts(held.record)
    for row, place in held.texts.items():
        prompt, chosen, rejected = (frame[name][row][0]["content"] for name in ("prompt", "chosen", "rejected"))
        assert found[place] == [f"[user] {prompt}", chosen, rejected]


def test_long_texts_are_cut_and_odd_ones_kept():
    frame = artefacts.frame(2)
    long, odd = "é" * (LONGEST_TEXT + 1234), "\0 \u2028 </script> 𝔘 {}"
    said = [[{"role": "user", "content": long}, {"role": None, "content": None}], [{"role": "user", "content": odd}]]
    frame = frame.with_columns(pl.Series("prompt", said, dtype=frame.schema["prompt"]))
    cut, kept = (row[0] for row in texts(embedded(frame, [], 2).record))
    whole = f"[user] {long}\n\n[] "
    assert cut == f"{whole[:LONGEST_TEXT]} … ({len(whole) - LONGEST_TEXT} more characters)"
    assert kept == f"[user] {odd}"


def test_a_missing_source_weight_or_row_has_a_place():
    frame = artefacts.frame(4).with_columns(
        source=pl.lit(None, pl.String), chosen_weight=pl.lit(None, pl.Float64), source_row=pl.lit(None, pl.Int64)
    )
    record = embedded(frame, [], 4).record
    found = numbers(record)
    assert record["sources"] == ["–"] and not found["source"].any()
    assert np.isnan(found["chosen_weight"]).all() and np.isnan(found["source_row"]).all()


def test_rows_with_texts_are_as_many_as_wanted_the_first_first():
    assert text_rows(10, [3, 1], 0) == []
    assert text_rows(10, [3, 1], 1) == [3]
    some = text_rows(1000, [3, 1], 100)
    assert some[:2] == [3, 1] and some[2:] == sorted(set(some[2:]) - {1, 3}) and len(some) == 100
    assert some == text_rows(1000, [3, 1], 100)
    assert sorted(text_rows(10, [3, 1], 99)) == list(range(10))
