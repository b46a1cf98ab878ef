"""The held-out prompts of pairs with and without safety labels."""

import json

import polars as pl
import pytest

from curate.base.errors import InputError
from curate.evaluation import compare, record, sources
from curate.evaluation.evaluate import evaluate
from curate.models.resolve import resolve
from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams, EvaluateParams
from curate.reporting.evaluations import estimate_tables, warnings


def pairs(tmp_path, rows):
    """A file of pairs with a held-out half."""
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    data = DataParams.model_validate({"source": str(source), "heldout_fraction": 0.5})
    prepare(data, CleaningParams()).pairs.write_parquet(tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def load(path, suite="heldout"):
    (named,) = sources.parse(EvaluateParams(engine="transformers", suites=[f"{suite}={path}"]))
    return sources.load(named, 0, 0)


UNLABELLED = [
    {"prompt": f"What is {n} plus {n}?", "chosen": f"It is {2 * n}.", "rejected": f"It is {2 * n + 1}, I think."}
    for n in range(24)
]


def test_prompts_of_unknown_type_are_answered_and_nothing_is_said_of_their_safety(reference_model, tmp_path, capsys):
    path = pairs(tmp_path, UNLABELLED)
    params = EvaluateParams(engine="transformers", suites=[f"heldout={path}"], max_tokens=4)
    for seed, name in ((None, "base"), (0, "dpo"), (0, "bdpo")):
        metrics = evaluate(resolve(reference_model), params, tmp_path / "e" / name, tmp_path / "state", name, seed)
    found = metrics["suites"]["heldout"]
    assert found["items"] == 12 and set(found["metrics"]) == {"refusals by string matching, prompts of unknown type"}
    (metric,) = found["metrics"].values()
    assert not metric["headline"] and metric["better"] == "neither" and metric["n"] == 12
    items = pl.read_parquet(tmp_path / "e/bdpo/items.parquet")
    assert set(items["group"]) == {"unknown"} and items["harm"].null_count() == items["unjudged"].null_count() == 12
    assert found["tokens"] == {"unknown": pytest.approx(items["tokens"].mean(), abs=0.01)}
    said = capsys.readouterr().err
    assert "12 of 12 prompts are of unknown type" in said and "plus" not in said
    arms = compare.arms(record.read([tmp_path / "e"]))
    assert compare.compare(arms, ["base"]) == []
    assert "no headline metric in base, bdpo, dpo" in compare.missing(arms, ["base"])
    assert "of unknown type" in warnings(arms)[-1] and "judge" not in warnings(arms)[-1]
    (table,) = estimate_tables(arms, headline=False)
    assert table.columns[-1] == "refusals by string matching, prompts of unknown type"  # and no arrow


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_of_a_prompts_pairs_the_most_cautious_counts(tmp_path, kind):
    turn = [{"role": "user", "content": "how?"}]
    other = [{"role": "user", "content": "why?"}]
    rows = [
        {"prompt": turn, "query_type": "safe", "split": "heldout"},
        {"prompt": turn, "query_type": "unsafe", "split": "heldout"},
        {"prompt": other, "query_type": "unknown", "split": "heldout"},
        {"prompt": other, "query_type": "safe", "split": "heldout"},
        {"prompt": [{"role": "user", "content": "when?"}], "query_type": "unknown", "split": "heldout"},
        {"prompt": [{"role": "user", "content": "who?"}], "query_type": "safe", "split": "train"},
    ]
    path = tmp_path / f"pairs.{kind}"
    if kind == "csv":  # whose cells are text
        pl.DataFrame([row | {"prompt": json.dumps(row["prompt"])} for row in rows]).write_csv(path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    found = {item.asked: item.group for item in load(path).items}
    assert found == {"how?": "unsafe", "why?": "safe", "when?": "unknown"}


TURN, YES, NO = (
    [{"role": who, "content": said}] for who, said in (("user", "how?"), ("assistant", "yes"), ("assistant", "no"))
)
ROW = {"prompt": TURN, "chosen": YES, "rejected": NO, "query_type": "unsafe", "split": "heldout"}


def save(tmp_path, rows, kind):
    """Rows of pairs as a file; in CSV, where all are text, booleans as Python writes them."""
    path = tmp_path / f"pairs.{kind}"
    if kind == "csv":
        cells = [{k: json.dumps(v) if isinstance(v, list) else v and str(v) for k, v in row.items()} for row in rows]
        pl.DataFrame(cells).write_csv(path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(
    ("turn", "field", "found"),
    [
        ({"role": "Human", "content": "how?"}, None, None),
        ({"from": "human", "value": "how?"}, None, None),
        ({"role": "user", "content": [{"type": "text", "text": "how?"}]}, None, None),
        ({"role": "user", "content": "how?", "images": ["a.png"]}, "prompt[0].content", "an image"),
        ({"role": "user", "content": "how?", "tool_calls": [{}]}, "prompt[0].content", "a tool call"),
        ({"role": "critic", "content": "how?"}, "prompt[0].role", "no known role"),
        ({"role": "user", "content": None}, "prompt[0].content", "null"),
    ],
)
def test_turns_of_a_prompt_are_read_as_those_of_pairs_are(tmp_path, turn, field, found):
    """A role went to the chat template as it stood, and what stood beside a text was dropped."""
    path = save(tmp_path, [ROW | {"prompt": [turn]}], "jsonl")
    if field is None:
        assert [item.prompt for item in load(path).items] == [TURN]
        return
    with pytest.raises(InputError, match="row of the suite heldout has no conversation") as caught:
        load(path)
    assert caught.value.details["field"] == field and found in caught.value.details["found"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("labels", "side"),
    [
        ({"chosen_safe": False, "rejected_safe": True}, "chosen"),
        ({"chosen_safe": "false", "rejected_safe": "true"}, "chosen"),
        ({"chosen_safe": "FALSE", "rejected_safe": None}, "chosen"),
        ({"chosen_safe": "true", "rejected_safe": "false"}, "rejected"),
        ({"chosen_safe": "", "rejected_safe": ""}, "rejected"),
        ({"chosen_safe": False}, "chosen"),
        ({"rejected_safe": False}, "rejected"),
        ({}, "rejected"),
    ],
)
def test_the_unsafe_answer_is_told_by_labels_as_text_and_by_one_alone(tmp_path, kind, labels, side):
    row = ROW | {"chosen": [YES[0] | {"content": "chosen"}], "rejected": [NO[0] | {"content": "rejected"}]} | labels
    assert {item.prefill for item in load(save(tmp_path, [row], kind), "prefill").items} == {"", side}


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("labels", [{"rejected_safe": "True"}, {"chosen_safe": "true", "rejected_safe": True}])
def test_an_answer_that_is_safe_by_a_label_as_text_is_no_harmful_beginning(tmp_path, kind, labels):
    with pytest.raises(InputError, match="none has an unsafe answer"):
        load(save(tmp_path, [ROW | labels], kind), "prefill")


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("suite", "field", "value", "found"),
    [
        ("prefill", "chosen_safe", "0", "0"),
        ("prefill", "rejected_safe", "no", "no"),
        ("prefill", "rejected_safe", "a text of more words than one", "a text of 29 characters"),
        ("prefill", "query_type", "Unsafe", "Unsafe"),
        ("prefill", "split", "test", "test"),
        ("heldout", "query_type", "harmful", "harmful"),
        ("heldout", "query_type", "", "an empty text"),
        ("heldout", "split", "validation", "validation"),
        ("prefill", "rejected", TURN, "a turn of user"),
        ("prefill", "rejected", [*TURN, *NO], "2 turns"),
    ],
)
def test_a_label_or_word_that_is_none_is_named(tmp_path, kind, suite, field, value, found):
    """It would count as unknown, or as not held out."""
    rows = [ROW | {"chosen_safe": None, "rejected_safe": None}] * 2
    path = save(tmp_path, [rows[0], rows[1] | {field: value}], kind)
    with pytest.raises(InputError) as caught:
        load(path, suite)
    details = caught.value.details
    assert (details["file"], details["row"], details["field"], details["found"]) == (str(path), "1", field, found)


@pytest.mark.parametrize(
    ("suite", "split", "message"),
    [("heldout", "train", "no pair of this file is held out"), ("prefill", "heldout", "no held-out prompt is unsafe")],
)
def test_what_a_file_of_pairs_lacks_is_said(tmp_path, suite, split, message):
    frame = pl.read_parquet(pairs(tmp_path, UNLABELLED)).with_columns(split=pl.lit(split))
    frame.write_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path / "pairs.parquet", suite)
    assert "24" in caught.value.details["found"] and "plus" not in str(caught.value)


def test_compare_says_what_it_takes(tmp_path):
    import artefacts

    def missing():
        return compare.missing(compare.arms(record.read([tmp_path])), ["base"])

    artefacts.write_evaluation(tmp_path / "base", "base")
    assert "another trained arm" in missing()
    artefacts.write_evaluation(tmp_path / "dpo", "dpo", 0)
    saved = json.loads((tmp_path / "dpo/metrics.json").read_text())
    for suite in saved["suites"].values():
        for metric in suite["metrics"].values():
            metric["headline"] = False
    (tmp_path / "dpo/metrics.json").write_text(json.dumps(saved))
    assert "no headline metric in dpo" in missing() and "evaluate.judge" in missing()
