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


def numpy_lists(value, write=str):
    """The value as numpy writes it: its lists are arrays, as pandas makes them of Parquet's."""
    return write(arrays(value))


def arrays(value):
    if isinstance(value, list):
        made = np.empty(len(value), dtype=object)
        made[:] = [arrays(one) for one in value]
        return made
    return {name: arrays(one) for name, one in value.items()} if isinstance(value, dict) else value


SAID = ["it's", 'a "b"\n']
LISTS = [
    ("alpaca", {"instruction": "Q", "chosen": SAID[0], "rejected": SAID[1], "history": [["how?", "so"], ["?", "!"]]}),
    ("query", {"query": "Q", "chosen": SAID[0], "rejected": SAID[1], "history": [["how?", "so"]]}),
    ("nectar", {"prompt": "Q", "answers": [{"answer": said.strip(), "rank": n} for n, said in enumerate(SAID)]}),
    ("ranking", {"prompt": "Q", "responses": SAID, "ranks": [1, 2]}),
    ("ranking", {"prompt": "Q", "responses": SAID, "scores": [-1.5, -2.0]}),
    ("distilabel", {"instruction": "Q", "generations": SAID, "ratings": [5, 1]}),
    (
        "ultrafeedback_completions",
        {"instruction": "Q", "completions": [{"response": said, "overall_score": -n} for n, said in enumerate(SAID)]},
    ),
    ("ranked_pair", {"prompt": "Q", "response": SAID}),
    ("pku_ranked", {"prompt": "Q", "response": SAID}),
    ("alpaca_output", {"instruction": "Q", "output": SAID, "history": []}),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", [json.dumps, str, numpy_lists, lambda value: numpy_lists(value, repr)])
@pytest.mark.parametrize(("form", "row"), LISTS)
def test_lists_as_text_give_the_pairs_that_lists_give(tmp_path, kind, write, form, row):
    (tmp_path / "lists.jsonl").write_text(json.dumps(row))
    wanted = prepare(DataParams(source=str(tmp_path / "lists.jsonl"), format=form), CleaningParams()).pairs
    cells = {name: value if isinstance(value, str) else write(value) for name, value in row.items()}
    by_name = form in ("ranked_pair", "pku_ranked", "alpaca_output")
    data = DataParams(source=save([cells], tmp_path / f"raw.{kind}"), format=form if by_name else "auto")
    found = prepare(data, CleaningParams())
    assert found.rejects.is_empty() and wanted.height == 1
    assert found.pairs.drop("source").equals(wanted.drop("source"))


@pytest.mark.parametrize("text", ["a", "[", "3", "[['a', 'b']", '{"a": 1}', '[{"answer": "a", "answer": "b"}]'])
def test_a_text_that_is_no_list_refuses_its_row(tmp_path, text):
    sound = {"instruction": "Q", "chosen": "a", "rejected": "b", "history": "[]"}
    source = save([sound, sound | {"history": text}], tmp_path / "raw.csv")
    found = prepare(DataParams(source=source), CleaningParams())
    what = "object" if text[0] == "{" else "text"
    assert found.rejects["reason"].to_list() == [f"history is {what}; expected list of [question, answer]"]
    assert found.pairs["prompt"].to_list() == [[{"role": "user", "content": "Q"}]]


def test_a_list_in_an_answer_makes_no_ranking_of_a_file_of_answers(tmp_path):
    for prompt, answer in (("prompt", "response"), ("instruction", "output")):
        source = save([{prompt: "Q", answer: '["a", "b"]'}], tmp_path / "raw.csv")
        with pytest.raises(InputError, match="in none of the formats known") as caught:
            prepare(DataParams(source=source), CleaningParams())
        assert "lists as text: say --format" in caught.value.details["expected"]


@pytest.mark.parametrize("write", [json.dumps, str, numpy_lists])
def test_a_path_goes_into_a_list_as_text(tmp_path, write):
    rows = [{"q": "Q", "answers": write([{"text": "a", "n": [1, 2]}, {"text": "b", "n": [1, 2]}])}]
    fields = {"prompt": "q", "chosen": "answers.0.text", "rejected": "answers.1.text"}
    found = prepare(DataParams(source=save(rows, tmp_path / "raw.csv"), fields=fields), CleaningParams())
    assert found.pairs["rejected"].to_list() == [[{"role": "assistant", "content": "b"}]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['a' 'b']", ["a", "b"]),
        ("""['it\\'s' "a] ['b"]""", ["it's", "a] ['b"]),
        ("[['a' 'b']\n ['c' 'd']]", [["a", "b"], ["c", "d"]]),
        ("[array(['a', 'b'], dtype=object) array(['c', 'd'],\n dtype=object)]", [["a", "b"], ["c", "d"]]),
        ("[ 1 -2]", [1, -2]),
        ("[1.  2.5]", [1.0, 2.5]),
        ("[1. nan]", "[1. nan]"),
        ("['a' 'b'", "['a' 'b'"),
    ],
)
def test_numpys_lists_lack_commas(text, value):
    assert told.opened(text) == value


def test_parts_of_a_turn_as_pandas_writes_them():
    turns = [{"role": "user", "content": [{"type": "text", "text": "array(['"}, {"type": "text", "text": "b"}]}]
    assert read(numpy_lists(turns)) == read(numpy_lists(turns, repr)) == turns


def test_pairs_of_ours_are_the_same_from_text(tmp_path):
    rows = [{"prompt": f"Q{n}", "chosen": "it's", "rejected": '"b"', "chosen_safe": n > 1} for n in range(9)]
    data = DataParams(source=save(rows, tmp_path / "raw.jsonl"), heldout_fraction=0.5)
    pairs = prepare(data, CleaningParams()).pairs
    for write in (json.dumps, str, numpy_lists):
        cells = [
            {name: write(value) if isinstance(value, list) else value for name, value in row.items()}
            for row in pairs.to_dicts()
        ]
        again = prepare(DataParams(source=save(cells, tmp_path / "pairs.csv")), CleaningParams())
        assert again.summary["format"] == "canonical" and again.pairs.equals(pairs)
