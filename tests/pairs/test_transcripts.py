"""Prompts that look like whole transcripts where a format takes one text for one user turn. Texts are invented."""

import json

import pytest

from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams

TALK = "Human: Hi\n\nAssistant: Yes?\n\nHuman: How far is it?\n\nAssistant:"
LINES = "Human: Hi\nAssistant: Yes?\nHuman: How far is it?"
ONE_LINE = "Human: Hi Assistant: Yes? Human: How far is it?"
OTHERS = [f"USER: Hi. ASSISTANT: Yes?{' '}USER: How far?", "### Human: Hi\n### Assistant: Yes?", "User: Hi\nAI: Yes?\n"]
PLAIN = ["Human: who is one?", "What does User: mean, Assistant: or not?", "human rights\nassistant: none", "Who?"]
BY_MESSAGES = "as lists of messages, in rows of prompt, chosen and rejected, they are read as turns"


def run(tmp_path, rows, **data):
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(rows))
    return prepare(DataParams(source=str(path), **data), CleaningParams())


def pku(prompt):
    return {"prompt": prompt, "response_0": "yes", "response_1": "no"} | {
        f"is_response_{k}_safe": bool(k) for k in (0, 1)
    }


def beavertails(prompt):
    return [{"prompt": prompt, "response": said, "is_safe": said == "no"} for said in ("yes", "no")]


def rated(prompt):
    completions = [{"response": said, "overall_score": score} for said, score in (("yes", 2), ("no", 1))]
    return {"instruction": prompt, "completions": completions}


def alpaca(prompt):
    return {"instruction": prompt, "chosen": "yes", "rejected": "no"}


@pytest.mark.parametrize(
    ("form", "row"),
    [("pku", pku), ("beavertails", beavertails), ("ultrafeedback_completions", rated), ("alpaca", alpaca)],
)
def test_prompts_that_look_like_transcripts_are_one_turn_and_named(tmp_path, capsys, form, row):
    rows = [row(prompt) for prompt in ("Where?", TALK, "When?", LINES, LINES)]
    rows = [one for both in rows for one in both] if form == "beavertails" else rows
    pairs, _, summary = run(tmp_path, rows)
    assert summary["format"] == form
    assert [len(prompt) for prompt in pairs["prompt"]] == [1] * pairs.height
    assert summary["marks"]["transcript_prompts"] == 2
    (line,) = [line for line in capsys.readouterr().err.replace("\n", " ").split("prepare: ") if "note:" in line]
    first = 3 if form == "beavertails" else 1  # the chosen reply's
    what = "2 prompts look like transcripts (Human: ... Assistant: ...), each is one user turn, first in row"
    assert f"note: {what} {first}; " in line
    assert BY_MESSAGES in line or form == "alpaca"


@pytest.mark.parametrize(
    "row",
    [
        alpaca(TALK),
        {"instruction": TALK, "output": ["yes", "no"]},
        {"prompt": TALK, "response": ["yes", "no"]},
    ],
    ids=["alpaca", "alpaca_output", "ranked_pair"],
)
def test_the_option_that_is_named_splits_them(tmp_path, capsys, row):
    assert len(run(tmp_path, [row]).pairs["prompt"][0]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "1 prompt looks like a transcript (Human: ... Assistant: ...) and is one user turn, in row 0; --field" in said
    )
    words = said.partition("row 0; ")[2].split()
    fields = dict(word.split("=") for word in words if "=" in word)
    assert words[::2][: len(fields)] == ["--field"] * 3 and fields["prompt"] in row
    pairs, _, summary = run(tmp_path, [row], fields=fields)
    assert [turn["role"] for turn in pairs["prompt"][0]] == ["user", "assistant", "user"]
    assert pairs["chosen"][0][0]["content"] == "yes" and "transcript_prompts" not in summary["marks"]


@pytest.mark.parametrize("prompt", [LINES, ONE_LINE, *OTHERS])
def test_where_no_option_splits_them_lists_of_messages_are_named(tmp_path, capsys, prompt):
    for row in (alpaca(prompt), {"prompt": prompt, "chosen": "yes", "rejected": "no"}):
        assert run(tmp_path, [row]).summary["marks"]["transcript_prompts"] == 1
        assert BY_MESSAGES in " ".join(capsys.readouterr().err.split())


def test_other_prompts_are_not_named(tmp_path, capsys):
    rows = [alpaca(prompt) for prompt in PLAIN]
    rows += [{"prompt": [{"role": "user", "content": TALK}] * 3, "chosen": "yes", "rejected": "no"}]
    assert "transcript_prompts" not in run(tmp_path, rows[:-1]).summary["marks"]
    assert "transcript_prompts" not in run(tmp_path, rows[-1:]).summary["marks"]
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "side",
    ["<|im_start|>user\nHi<|im_end|>", "[INST] Hi [/INST]", "Hi<end_of_turn>", "a\n### Instruction:\nHi", "<|eot_id|>"],
)
def test_a_chat_template_s_own_text_in_a_turn_is_counted_and_named(tmp_path, capsys, side):
    rows = [alpaca("Is a[0] <|> b?"), alpaca(f"{side} there"), alpaca("Who?") | {"chosen": f"I. {side}"}]
    assert run(tmp_path, rows).summary["marks"]["template_in_a_turn"] == 2
    assert "2 pairs have a chat template's own text" in (said := " ".join(capsys.readouterr().err.split()))
    assert "first in row 1; " in said and "Hi" not in said


def test_a_system_turn_before_it_does_not_hide_one(tmp_path):
    row = alpaca(TALK) | {"system": "Be of help."}
    assert run(tmp_path, [row]).summary["marks"]["transcript_prompts"] == 1
