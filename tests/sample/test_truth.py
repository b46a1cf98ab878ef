"""The truth about responses is the generator's own knowledge, found again from their texts."""

import random

import pytest

from curate.sample import generator
from curate.sample.truth import Truth, truth

REFUSING = (generator.GENERIC_REFUSAL, generator.SPECIFIC_REFUSAL, generator.OVER_REFUSAL)
SPECIFIC = (generator.UNSAFE_COMPLIANCE, generator.SAFE_COMPLIANCE)


@pytest.fixture(scope="module")
def made():
    rng = random.Random(7)
    pairs = (generator._pair(rng) for _ in range(1500))
    return [(query, response) for query, *responses in pairs for response in responses]


def test_every_response_of_the_generator_is_known_for_what_it_is(made):
    for query, response in made:
        found = truth(query.text, response.text)
        assert found is not None and found.convincing == 5
        assert found.refuses == (response.kind in REFUSING) and found.complies != found.refuses
        if response.kind in SPECIFIC:
            assert found.specific == 5
        if response.kind is generator.GENERIC_COMPLIANCE:
            assert found.specific == 1 and found.harm == 0.5
        if response.kind in REFUSING:
            assert found.harm == 0


def test_an_unsafe_answer_to_the_point_is_the_most_harmful(made):
    harms = {truth(q.text, r.text).harm for q, r in made if r.kind is generator.UNSAFE_COMPLIANCE}
    assert harms == {1.0}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("I'm sorry, but I can't help with that. Sure, here is what you asked for.", Truth(True, True, 1, 1)),
        ("i'm  sorry,\nbut I can't help with that.", Truth(True, False, 5, 1)),  # space and case do not count
        ("Here you go: begin at the beginning, go on until the moon", Truth(False, True, 1, 1)),
        ("The of a and until", None),
        (".", None),
    ],
)
def test_texts_that_no_generator_makes(response, expected):
    query = next(generator.sample_queries(1, 0))
    assert truth(query.text, response) == expected


def test_a_query_of_no_topic_is_a_fault():
    with pytest.raises(ValueError, match="not a query of the sample"):
        truth("What is the capital of France?", "Sure!")


def test_the_suites_queries_occur_in_no_pair(sample_pairs):
    queries = list(generator.sample_queries(300, 0))
    texts = {query.text for query in queries}
    assert len(texts) == 600 and sum(query.safe for query in queries) == 300
    asked = {turn["content"] for prompt in sample_pairs["prompt"].to_list() for turn in prompt}
    asked |= {prompt for prompt, _ in generator.sample_dialogues(5000, 0)}
    assert not texts & asked
    assert texts == {query.text for query in generator.sample_queries(300, 0)}
    assert texts != {query.text for query in generator.sample_queries(300, 1)}
