"""Turns that a field holds as text: the same from every kind of file. Texts are invented."""

import csv
import json

import numpy as np
import polars as pl
import pytest

from curate.base.errors import InputError
from curate.pairs.prepare import prepare
from curate.pairs.sources import told
from curate.pairs.sources.base import Unreadable
from curate.pairs.sources.told import Talks, with_turns
from curate.project.params import CleaningParams, DataParams

TURNS = [{"role": "user", "content": 'It\'s "Q"'}, {"role": "assistant", "content": "a"}]
NAMED = [{"content": "Q", "role": "user", "name": None, "loss": True}, {"content": "a", "role": "assistant"}]
KINDS = ("csv", "tsv", "json", "jsonl", "parquet")


def numpy_of(turns, write=str):
    return write(np.array(turns, dtype=object))


def save(rows, path):
    """The rows, whose values are texts, as a file of each kind."""
    match path.suffix:
        case ".parquet":
            pl.DataFrame(rows).write_parquet(path)
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        case kind:
            with path.open("w", newline="") as file:
                lines = csv.writer(file, delimiter="\t" if kind == ".tsv" else ",")
                lines.writerows([rows[0].keys(), *(row.values() for row in rows)])
    return str(path)


def read(value):
    return with_turns({"field": value})["field"]


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        (json.dumps(TURNS), TURNS),
        (json.dumps(TURNS, indent=1), TURNS),
        (f"\ufeff\u00a0{json.dumps(TURNS)}\n", TURNS),
        (str(TURNS), TURNS),
        (str(NAMED), NAMED),
        (numpy_of(TURNS), TURNS),
        (numpy_of(TURNS, repr), TURNS),
        (numpy_of(NAMED), NAMED),
        (numpy_of([TURNS[0] | {"content": "long " * 50}, TURNS[1]]), [TURNS[0] | {"content": "long " * 50}, TURNS[1]]),
        (numpy_of([TURNS[0] | {"content": "} {'} {"}] * 2), [TURNS[0] | {"content": "} {'} {"}] * 2),
        (json.dumps(TURNS[0]), TURNS[0]),
        (json.dumps({"messages": TURNS}), {"messages": TURNS}),
    ],
)
def test_a_text_that_is_turns_is_read_as_them(text, turns):
    assert read(text) == turns


def test_numpy_has_no_commas_also_on_one_line():
    assert "} {" in numpy_of([{"role": "user", "content": "Q"}] * 2)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1] is a footnote", "[", "[]", "{}", "{role}", "[user] Q", '"[{"'),
        *('{"value": 3, "unit": "m"}', '[{"value": 3}]', '{"role": "admin", "x": 1}', '{"role": "admin", ...'),
        *('{"content": "a" ...', '[{"name": "Ann"', json.dumps([TURNS]), '[{"from": "A", "to": "B"}]'),
        '[{"role": "moderator", "content": "x"}]',
    ],
)
def test_a_text_that_is_none_stays_one(text):
    assert read(text) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(TURNS)[:-3], told.NOT_JSON),
        ('{"messages": [{"role": "user"', told.NOT_JSON),
        ("\n".join(map(json.dumps, TURNS)), told.NOT_JSON),
        ('[{"user","Q"}, {"assistant","a"}]', told.NOT_JSON),
        ("[{'role': user, 'content': Q}]", told.NOT_JSON),
        (json.dumps(TURNS)[:-1] + "," + "[" * 3000, "turns nested too deeply"),
        ('[{"role": "user", "content": "a", "content": "b"}]', "an object with a field that stands twice (content)"),
        ("[{'role': 'user', 'role': 'x'}]", "an object with a field that stands twice (role)"),
    ],
)
def test_what_begins_as_turns_and_cannot_be_read_is_marked(text, found):
    value = read(text)
    assert (type(value), str(value), value.found) == (Unreadable, text, found)


def test_a_list_is_no_text_in_a_field_that_mostly_has_turns():
    values = [
        json.dumps(TURNS),
        TURNS,
        "[]",
        '[{"name": "Ann"}]',
        '[{"name": "Ann"',
        '[{"role": "x", "content": ""}]',
        "Q",
    ]
    talks = Talks()
    assert [talks.told({"field": value})["field"] for value in values[2:]] == values[2:]
    assert talks.fields_of_turns() == frozenset()
    for value in values[:2] * 2:
        talks.told({"field": value})
    assert talks.fields_of_turns() == {"field"}
    again = [Talks({"field"}).told({"field": value})["field"] for value in values]
    assert [again[0], again[1], again[5], again[6]] == [TURNS, TURNS, [{"role": "x", "content": ""}], "Q"]
    assert [value.found for value in again[2:5]] == [told.NO_TURNS, told.NO_TURNS, told.NOT_JSON]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", [json.dumps, str, numpy_of, lambda turns: numpy_of(turns, repr)])
def test_every_kind_of_file_gives_the_same_pairs_and_rejects(tmp_path, kind, write):
    yes, no = ([TURNS[0], {"role": "assistant", "content": said}] for said in ("yes", "no"))
    rows = [{"chosen": write(yes), "rejected": write(no), "note": '{"value": 3}'} for _ in range(3)]
    rows += [rows[0] | {"rejected": text} for text in ("[]", write([[TURNS[0]]]), write(no)[:-3])]
    rows += [rows[0] | {"rejected": write([{"role": "moderator", "content": "x"}])}]
    source = save(rows, tmp_path / f"raw.{kind}")
    found = prepare(DataParams(source=source, keep=["note"]), CleaningParams(duplicates="keep"))
    assert found.pairs["prompt"].to_list() == [TURNS[:1]] * 3
    assert found.pairs["chosen"].to_list() == [yes[1:]] * 3
    assert found.pairs["note"].to_list() == ['{"value": 3}'] * 3
    unread = [told.NO_TURNS, told.NO_TURNS, told.NOT_JSON]
    reasons = [f"rejected is {what}; expected turns as JSON" for what in unread]
    assert found.rejects["reason"].to_list()[:3] == reasons
    assert found.rejects["reason"][3].startswith("rejected[0].role is no known role; expected one of system,")
    assert [json.loads(row) for row in found.rejects["row"]] == rows[3:]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_in_json_is_a_text_from_every_kind_of_file(tmp_path, kind):
    answers = [
        '{"value": 3}',
        '[{"content": "x"}]',
        '{"role": "admin", ...',
        "[]",
        '[{"role": "x", "content": "y"}]',
        "no",
    ]
    rows = [{"prompt": f"Q{n}", "chosen": said, "rejected": "never"} for n, said in enumerate([*answers, "a", "b"])]
    pairs, rejects, _ = prepare(DataParams(source=save(rows, tmp_path / f"raw.{kind}")), CleaningParams())
    assert rejects.is_empty()
    assert pairs["chosen"].list.first().struct.field("content").to_list() == [*answers, "a", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_turns_by_unknown_speakers_is_no_column_of_texts(tmp_path, kind):
    talk = [{"role": "moderator", "content": "Q"}, {"role": "guest", "content": "a"}]
    rows = [{"prompt": "Q", "chosen": json.dumps(talk), "rejected": json.dumps(talk[:1])}] * 2
    with pytest.raises(InputError, match="no pair is left") as caught:
        prepare(DataParams(source=save(rows, tmp_path / f"raw.{kind}")), CleaningParams())
    assert "chosen[0].role is no known role" in caught.value.details["remedy"]
