"""The synthetic sample: the same every time, of both kinds in equal parts, with the known faults."""

import hashlib
import json
from collections import Counter

import polars as pl
import pytest

from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams
from curate.sample.generator import FAULTS, sample_dialogues, sample_records
from curate.sample.topics import SAFE, UNSAFE

FIELDS = {
    "prompt",
    "response_0",
    "response_1",
    "is_response_0_safe",
    "is_response_1_safe",
    "better_response_id",
    "safer_response_id",
    "prompt_source",
}
RATINGS = {f"response_{i}_{rating}" for i in (0, 1) for rating in ("reward", "cost")}


def test_the_same_arguments_give_the_same_rows():
    assert sample_records(300, 5) == sample_records(300, 5)
    assert sample_records(300, 5) != sample_records(300, 6)
    assert sample_dialogues(300, 5) == sample_dialogues(300, 5)


@pytest.mark.parametrize("count", [1, 2, 10, 200, 1600])
def test_the_number_of_rows_and_their_fields(count):
    records = sample_records(count, 0)
    assert len(records) == count
    assert all(record.keys() == FIELDS | RATINGS for record in records)


def test_half_of_the_queries_are_unsafe_and_most_prompts_are_distinct():
    records = sample_records(1600, 0)
    both_safe = sum(record["is_response_0_safe"] and record["is_response_1_safe"] for record in records)
    assert 0.45 < both_safe / 1600 < 0.55
    assert len({record["prompt"] for record in records}) > 0.9 * 1600
    first = Counter(record["safer_response_id"] for record in records)
    assert 0.45 < first[0] / 1600 < 0.55


def test_the_cleaning_rules_find_the_faults_that_were_put_in():
    """A contradiction is two rows, so that its rule drops twice as many as were added."""
    prepared = prepare(DataParams(), CleaningParams())
    found = Counter(prepared.rejects["rule"].to_list())
    expected = {name: int(1600 * share) for name, share in FAULTS.items()}
    expected["contradiction"] *= 2
    assert found.keys() == expected.keys()
    for rule, number in expected.items():
        # Sound rows may repeat each other by chance.
        assert number <= found[rule] <= number + 3, rule
    assert 0.03 < sum(FAULTS.values()) < 0.04


def test_the_safe_response_is_chosen_on_unsafe_queries_and_prompts_stay_on_one_side(sample_pairs):
    unsafe = sample_pairs.filter(pl.col("query_type") == "unsafe")
    assert unsafe["chosen_safe"].all() and not unsafe["rejected_safe"].any()
    sides = sample_pairs.group_by("prompt_key").agg(pl.col("split").n_unique())
    assert sides["split"].max() == 1


def test_every_topic_is_complete_and_named_once():
    for topics in (SAFE, UNSAFE):
        assert len({topic.action for topic in topics}) == len(topics) >= 36
        assert all(len(set(topic.things)) == 3 and topic.instead for topic in topics)


def test_no_slot_is_left_and_sentences_begin_with_a_capital():
    for record in sample_records(1600, 1):
        for name in ("response_0", "response_1", "prompt"):
            assert "{" not in record[name] and "  " not in record[name]
            assert record[name] == "" or record[name][0].isupper()


def test_the_texts_are_those_of_the_recorded_numbers():
    """What the ratings must never move: docs/results.md and dvc.lock stand on these very records."""
    records = [{name: record[name] for name in FIELDS} for record in sample_records(1600, 0)]
    for value, digest in ((records, "da1562d58a84d3f3"), (sample_dialogues(1600, 0), "db60704477d178f6")):
        assert hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16] == digest


def test_ratings_say_what_the_responses_are(sample_pairs):
    """A refusal costs less and helps less; what is safe on a safe query costs the same either way."""
    means = {
        query_type: rows.select(pl.col("^(chosen|rejected)_(reward|cost)$").mean()).row(0, named=True)
        for (query_type,), rows in sample_pairs.group_by("query_type")
    }
    assert means["unsafe"]["chosen_cost"] < -1 < 0.8 < means["unsafe"]["rejected_cost"]
    assert means["unsafe"]["chosen_reward"] < 0 < means["unsafe"]["rejected_reward"]
    assert abs(means["safe"]["chosen_cost"] - means["safe"]["rejected_cost"]) < 0.1
    assert means["safe"]["chosen_reward"] > means["safe"]["rejected_reward"] + 0.5


def test_equal_responses_to_a_query_are_rated_alike():
    seen = {}
    for record in sample_records(1600, 0):
        for i in (0, 1):
            if record[f"response_{i}"]:
                rated = record[f"response_{i}_reward"], record[f"response_{i}_cost"]
                assert seen.setdefault((record["prompt"], record[f"response_{i}"]), rated) == rated
