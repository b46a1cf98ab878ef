"""Fields that the user names."""

import pytest

from curate.base.errors import UsageError
from curate.pairs.sources.base import Ratings, Refused
from curate.pairs.sources.mapping import mapped
from tests.pairs.sources.rows import talk

ROW = {"q": "Q", "answers": [{"text": "yes"}, {"text": "no"}], "system": "Be brief.", "mark": 4, "none": None}


def test_names_paths_and_names_that_stand_for_themselves():
    pair = mapped({"prompt": "q", "chosen": "answers.0.text", "rejected": "answers.1.text", "margin": "mark"}).parse(
        ROW
    )
    assert pair.prompt == [{"role": "system", "content": "Be brief."}, *talk("Q")]
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("yes", "no")
    assert pair.ratings == Ratings(margin=4.0)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"prompt": "q", "chosen": "answers.0.text", "rejected": "answers.2.text"}, "answers.2.text is missing"),
        ({"prompt": "q", "chosen": "answers.0.text", "rejected": "answers.².text"}, "answers.².text is missing"),
        ({"prompt": "Q", "chosen": "answers.0.text", "rejected": "answers.1.text"}, "Q is missing"),
        ({"chosen": "answers.0.text", "rejected": "answers.1.text"}, "prompt is missing"),
        ({"prompt": "mark", "chosen": "answers.0.text", "rejected": "answers.1.text"}, "mark is integer"),
        ({"prompt": "q", "chosen": "answers", "rejected": "q"}, r"answers\[0\]\.role is missing"),
        ({"prompt": "none", "chosen": "answers.0.text", "rejected": "q"}, "none is null"),
    ],
)
def test_a_field_at_fault_has_the_file_s_name(fields, missing):
    with pytest.raises(Refused, match=missing):
        mapped(fields).parse(ROW)


@pytest.mark.parametrize(
    ("fields", "labels", "ratings"),
    [
        ({"chosen": "rejected", "rejected": "chosen"}, (None, None), Ratings()),
        ({"chosen": "better"}, (None, False), Ratings(None, 1.0, None, 9.0)),
        ({"chosen": "chosen", "rejected": "rejected"}, (True, False), Ratings(3.0, 1.0, 0.0, 9.0, 2.0)),
        (
            {
                "chosen": "rejected",
                "rejected": "chosen",
                "chosen_safe": "rejected_safe",
                "rejected_cost": "chosen_cost",
            },
            (False, None),
            Ratings(rejected_cost=0.0),
        ),
    ],
)
def test_labels_and_ratings_do_not_go_over_to_another_response(fields, labels, ratings):
    row = {"prompt": "Q", "chosen": "yes", "rejected": "no", "better": "oh yes", "chosen_safe": True}
    row |= {"rejected_safe": False, "chosen_reward": 3, "rejected_reward": 1, "chosen_cost": 0, "rejected_cost": 9}
    pair = mapped(fields).parse(row | {"margin": 2, "query_type": "unsafe"})
    assert (pair.chosen_safe, pair.rejected_safe) == labels
    assert (pair.ratings, pair.query_type) == (ratings, "unsafe")


def test_a_part_of_its_own_column_is_no_other_response_and_a_prompt_no_system_text():
    row = {"system": "Q", "chosen": {"text": "yes"}, "rejected": ["no"], "chosen_safe": True}
    pair = mapped({"prompt": "system", "chosen": "chosen.text", "rejected": "rejected.0"}).parse(row)
    assert (pair.prompt, pair.chosen_safe) == (talk("Q"), True)


def test_conversations_need_no_prompt():
    pair = mapped({"chosen": "a", "rejected": "b"}).parse({"a": talk("Q", "yes"), "b": talk("Q", "no")})
    assert pair.prompt == talk("Q")


def test_an_odd_target():
    with pytest.raises(UsageError, match="no such field of a pair"):
        mapped({"answer": "a"})
