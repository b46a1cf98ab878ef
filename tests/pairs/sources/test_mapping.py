"""Fields that the user names."""

import pytest

from curate.base.errors import UsageError
from curate.pairs.sources.base import Malformed, Ratings
from curate.pairs.sources.mapping import mapped
from tests.pairs.sources.rows import talk

ROW = {"q": "Q", "answers": [{"text": "yes"}, {"text": "no"}], "system": "Be brief.", "mark": 4}


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
        ({"prompt": "Q", "chosen": "answers.0.text", "rejected": "answers.1.text"}, "Q is missing"),
        ({"chosen": "answers.0.text", "rejected": "answers.1.text"}, "prompt is missing"),
    ],
)
def test_a_field_that_a_row_lacks_is_named(fields, missing):
    with pytest.raises(Malformed, match=missing):
        mapped(fields).parse(ROW)


def test_conversations_need_no_prompt():
    pair = mapped({"chosen": "a", "rejected": "b"}).parse({"a": talk("Q", "yes"), "b": talk("Q", "no")})
    assert pair.prompt == talk("Q")


def test_an_odd_target():
    with pytest.raises(UsageError, match="no such field of a pair"):
        mapped({"answer": "a"})
