"""LLaMA-Factory's description beside a file."""

import json
import re

import pytest

from curate.base.errors import InputError
from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams
from tests.pairs.sources.rows import BAD, GOOD, Q, talk

ALPACA = {
    "ranking": True,
    "columns": {"prompt": "ask", "query": "more", "system": "told", "chosen": "better", "rejected": "worse"},
}
TALKS = {
    "ranking": True,
    "formatting": "sharegpt",
    "columns": {"messages": "talk", "chosen": "better", "rejected": "worse"},
    "tags": {"role_tag": "who", "content_tag": "said", "user_tag": "asker", "assistant_tag": "robot"},
}
ROWS = {
    "alpaca": {"ask": "Answer.", "more": Q, "told": "Be brief.", "better": GOOD, "worse": BAD},
    "talks": {
        "talk": [{"who": "asker", "said": Q}],
        "better": {"who": "robot", "said": GOOD},
        "worse": {"who": "robot", "said": BAD},
    },
}


def read(folder, row, info):
    (folder / "a.json").write_text(json.dumps([row]))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return prepare(DataParams(source=str(folder / "a.json"), format="dataset_info"), CleaningParams())


@pytest.mark.parametrize(
    ("name", "entry", "prompt"),
    [
        ("alpaca", ALPACA, [{"role": "system", "content": "Be brief."}, *talk(f"Answer.\n{Q}")]),
        ("talks", TALKS, talk(Q)),
    ],
)
def test_columns_and_tags(tmp_path, name, entry, prompt):
    prepared = read(tmp_path, ROWS[name], {"mine": entry | {"file_name": "a.json"}, "other": {"file_name": "b.json"}})
    pair = prepared.pairs.row(0, named=True)
    assert (pair["prompt"], pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (prompt, GOOD, BAD)
    assert prepared.summary["columns"]["unused"] == []
    assert prepared.summary["format_detected"] is False


@pytest.mark.parametrize(
    ("name", "entry", "change", "found"),
    [
        ("alpaca", ALPACA, {"ask": 3}, "ask is integer"),
        ("alpaca", ALPACA, {"ask": None}, "ask is null"),
        ("talks", TALKS, {"talk": [{"who": "ghost", "said": "x"}]}, "talk[0].who is no known role"),
        ("talks", TALKS, {"worse": {"who": "robot", "said": 3}}, "worse.said is integer"),
    ],
)
def test_a_field_at_fault_has_the_file_s_name(tmp_path, name, entry, change, found):
    with pytest.raises(InputError, match=re.escape(found)):
        read(tmp_path, ROWS[name] | change, {"mine": entry | {"file_name": "a.json"}})


@pytest.mark.parametrize(
    ("beside", "found"),
    [
        ("tool_calls", "text with a tool call"),
        ("reasoning_content", "text with reasoning"),
        ("images", "text with an image"),
    ],
)
def test_what_is_said_beside_a_turn_s_text_is_not_dropped(tmp_path, beside, found):
    row = ROWS["talks"] | {"better": ROWS["talks"]["better"] | {beside: ["x"]}}
    with pytest.raises(InputError, match=found):
        read(tmp_path, row, {"mine": TALKS | {"file_name": "a.json"}})


@pytest.mark.parametrize(
    ("info", "what"),
    [
        ({}, "not described"),
        ({"mine": {"file_name": "a.json"}}, "no preferences"),
        ({"mine": {"file_name": "a.json", "ranking": True, "columns": 3}}, "must be objects"),
        ({"mine": TALKS | {"file_name": "a.json", "columns": {"chosen": ["c"]}}}, "must be text"),
        ({"mine": TALKS | {"file_name": "a.json", "tags": {"role_tag": {}}}}, "must be text"),
        ({"mine": TALKS | {"file_name": "a.json", "columns": TALKS["columns"] | {"system": "x"}}}, "no such column"),
        ({"mine": TALKS | {"file_name": "a.json", "tags": {"role_tag": "x"}}}, "no pair is left"),
    ],
)
def test_what_does_not_describe_the_file(tmp_path, info, what):
    with pytest.raises(InputError, match=what):
        read(tmp_path, ROWS["talks"], info)
