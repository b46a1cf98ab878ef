"""Which format a file has."""

import pytest

from curate.base.errors import InputError, UsageError
from curate.pairs.sources import FORMATS
from curate.pairs.sources.base import Unreadable
from curate.pairs.sources.choosing import choose
from tests.pairs.sources.rows import turn
from tests.pairs.sources.test_formats import EXAMPLES, PAIR, PKU, TRL

DETECTED = [name for name, known in FORMATS.items() if known.detected and not known.refusal]


def test_every_format_has_an_example_and_a_line_of_help():
    assert set(FORMATS) == set(EXAMPLES)
    assert all(form.about and "\n" not in form.about for form in FORMATS.values())
    assert all(form.fits(EXAMPLES[name]) for name, form in FORMATS.items())


@pytest.mark.parametrize("name", DETECTED)
def test_auto_finds_the_format_even_among_odd_rows(name):
    other = EXAMPLES["trl" if name == "pku" else "pku"]
    assert choose("auto", [None, {"x": 1}, *[EXAMPLES[name]] * 3, other], "f").name == name


def test_no_format_fits():
    with pytest.raises(InputError) as error:
        choose("auto", [{"question": 1, "chosen": 2, "It is a long text, no name": 3}], "quiz.jsonl")
    details = error.value.details
    assert details["found"] == "fields chosen, question, 1 more"
    assert details["expected"].startswith("nearest: orca (lacks rejected)")
    with pytest.raises(InputError, match="found: fields ' chosen', ' rejected', prompt; expected"):
        choose("auto", [{"prompt": "q", " chosen": " a", " rejected": " b"}], "spaced.csv")
    assert "--field prompt=" in details["remedy"]
    assert len(str(error.value).splitlines()) <= 5
    with pytest.raises(InputError, match="found: fields 2 not shown, for their names may be a row's text; expected"):
        choose("auto", [{"A better answer": "a", "": "b"}], "words.csv")
    with pytest.raises(InputError, match="found: fields 'Better answer', Prompt, 1 more; expected"):
        choose("auto", [{"Prompt": "q", "Better answer": "a", "The worse one": "b"}], "excel.csv")
    with pytest.raises(InputError, match="no named fields"):
        choose("auto", [1, "two"], "f")
    with pytest.raises(UsageError, match="pku"):
        choose("pkuu", [PKU], "f")


@pytest.mark.parametrize(
    ("records", "near"),
    [
        ([{"x": 1}, TRL | {"chosen": {"a": 1}}, TRL | {"prompt": 3}], "row 1: chosen is object; expected text or list"),
        ([TRL | {"chosen": Unreadable("broken", "[")}], "row 0: chosen is broken; expected"),
        ([{"prompt": "Q", "chosen": "a"}, {"rejected": "b"}], "trl (no row has all its fields)"),
    ],
)
def test_a_format_whose_fields_are_there_says_which_is_of_another_type(records, near):
    with pytest.raises(InputError, match="none of the formats") as error:
        choose("auto", records, "f")
    assert near in error.value.details["expected"]


def test_no_prompt_is_made_of_plain_texts_unasked():
    with pytest.raises(InputError, match="none of the formats"):
        choose("auto", [{"chosen": "It is 1", "rejected": "It is 2"}], "f")


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([TRL | {"question": "R"}], "trl or orca (1 rows)"),
        ([TRL] * 3 + [PKU] * 3, "trl (3 rows), pku (3 rows)"),
    ],
)
def test_ambiguity_names_the_candidates(records, found):
    with pytest.raises(InputError, match="several formats") as error:
        choose("auto", records, "f")
    assert error.value.details["found"] == found


def test_a_name_of_before_is_accepted(capsys):
    assert choose("response_pair", [PAIR], "f").name == "pku_ranked"
    assert "now called pku_ranked" in capsys.readouterr().err


def test_a_prompt_of_messages_is_found():
    record = {"chosen": [turn("user", "Q"), turn("assistant", "a")], "rejected": None}
    assert choose("auto", [record], "f").name == "trl"
