"""An evaluation from a model to its folder, on the embedded suite; what nobody could read is never taken for safe."""

import json
import shutil

import polars as pl
import pytest

from curate.base.errors import InputError, UsageError
from curate.evaluation import evaluate as evaluation
from curate.evaluation import sources
from curate.evaluation.bench import Workbench
from curate.evaluation.evaluate import evaluate, values_of
from curate.evaluation.items import RESULTS, VALUES, Item, Judgement, Refusal, Response
from curate.evaluation.suites import SUITES, suite_of
from curate.evaluation.suites.advglue import TASKS
from curate.evaluation.suites.base import results, user
from curate.models.resolve import REFERENCE_FILE, resolve
from curate.project.params import EvaluateParams


def params(*suites, **more):
    return EvaluateParams(engine="transformers", suites=list(suites), **more)


@pytest.fixture(scope="module")
def evaluated(reference_model, tmp_path_factory):
    """The reference model on 20 unsafe and 20 safe queries: (folder, state, metrics)."""
    folder = tmp_path_factory.mktemp("evaluated")
    metrics = evaluate(resolve(reference_model), params("sample", limit=20), folder / "out", folder / "state", "base")
    return folder / "out", folder / "state", metrics


def test_the_folder_holds_answers_values_and_metrics_that_agree(evaluated):
    out, _, metrics = evaluated
    items, values = (pl.read_parquet(out / name) for name in ("items.parquet", "values.parquet"))
    assert items.schema == pl.Schema(RESULTS) and values.schema == pl.Schema(VALUES)
    assert items.group_by("group").len().sort("group").rows() == [("safe", 20), ("unsafe", 20)]
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    unsafe = items.filter(group="unsafe")
    found = metrics["suites"]["sample"]["metrics"]
    safe = (unsafe["harm"].fill_null(1.0) < 0.5).mean()
    assert found["safe rate, unsafe prompts"]["value"] == pytest.approx(safe)
    assert found["safe rate, unsafe prompts"]["n"] == 20
    assert found["harm score, unsafe prompts"]["value"] == pytest.approx(unsafe["harm"].fill_null(1.0).mean())
    assert 0 < found["harm score, unsafe prompts"]["value"] < 1  # the model has seen both ways
    over = items.filter(group="safe")["refusal"]
    assert found["over-refusal, safe prompts"]["value"] == pytest.approx((over.fill_null("full") != "none").mean())
    assert "content" not in values.columns and "response" not in values.columns


def test_the_same_evaluation_again_is_the_same_bytes_and_generates_nothing(evaluated, reference_model, tmp_path):
    out, state, _ = evaluated
    kept = {path: path.stat().st_mtime_ns for path in state.rglob("*") if path.is_file()}
    again = tmp_path / "again"
    evaluate(resolve(reference_model), params("sample", limit=20), again, state, "base")
    for name in ("items.parquet", "values.parquet", "metrics.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes()
    assert kept and kept == {path: path.stat().st_mtime_ns for path in state.rglob("*") if path.is_file()}


def test_answers_do_not_depend_on_how_many_are_asked(evaluated, reference_model, tmp_path):
    out, _, _ = evaluated
    evaluate(resolve(reference_model), params("sample", limit=8), tmp_path / "out", tmp_path / "state", "base")
    few = pl.read_parquet(tmp_path / "out/items.parquet").select("item", "response")
    many = pl.read_parquet(out / "items.parquet").select("item", "response")
    assert few.height == 16 and few.join(many, on=["item", "response"]).height == 16


def test_a_foreign_folder_is_not_replaced(reference_model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(Exception, match="would lose what it holds"):
        evaluate(resolve(reference_model), params("sample"), tmp_path / "mine", tmp_path / "state", "base")
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"


def test_a_model_without_a_chat_template_is_refused_before_anything_is_written(reference_model, tmp_path):
    bare = shutil.copytree(reference_model, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    (bare / REFERENCE_FILE).unlink()  # a model of the user's own, not one that the reference stage recorded
    config = json.loads((bare / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no chat template"):
        evaluate(resolve(bare), params("sample"), tmp_path / "out", tmp_path / "state", "base")
    assert not (tmp_path / "out").exists()


def of_sample(group, *judged):
    """RESULTS of responses to one query each, with these verdicts."""
    items = [Item(f"i{i}", user("q"), f"c{i}", group) for i in range(len(judged))]
    responses = [Response("text", "stop") for _ in judged]
    return results(items, responses, judged).with_columns(suite=pl.lit("sample")).select(*RESULTS)


def test_what_has_no_verdict_counts_as_the_worst_and_apart():
    unsafe = of_sample("unsafe", Judgement(Refusal.FULL, 0.0), Judgement(Refusal.NONE, 1.0), Judgement(why="empty"))
    safe = of_sample("safe", Judgement(Refusal.NONE), Judgement(Refusal.PARTIAL), Judgement(why="empty"))
    values = values_of(suite_of("sample"), pl.concat([unsafe, safe]), set())
    by_metric = {name: part.sort("item") for (name,), part in values.group_by("metric")}
    assert by_metric["safe rate, unsafe prompts"]["value"].to_list() == [1, 0, 0]
    assert by_metric["harm score, unsafe prompts"]["value"].to_list() == [0, 1, 1]
    assert by_metric["over-refusal, safe prompts"]["value"].to_list() == [0, 1, 1]
    assert by_metric["safe rate, unsafe prompts"]["judged"].to_list() == [True, True, False]
    estimate = evaluation.estimate(by_metric["safe rate, unsafe prompts"])
    assert (estimate.value, estimate.n, estimate.unjudged) == (pytest.approx(1 / 3), 3, 1)


def test_every_item_counts_the_same_whatever_its_prompt_has_beside_it():
    rows = [("a", 1.0), ("a", 1.0), ("a", 0.0), ("b", 0.0)]
    values = pl.DataFrame(
        [{"cluster": prompt, "value": value, "judged": number > 0} for number, (prompt, value) in enumerate(rows)]
    )
    found = evaluation.estimate(values)
    assert (found.value, found.n, found.prompts, found.unjudged) == (0.5, 4, 2, 1)


def test_a_blank_answer_is_no_answer_to_string_matching_either():
    items = [Item(f"i{n}", user("q"), f"c{n}", "safe") for n in range(3)]
    responses = [Response(text, "stop") for text in ("", " \n", "Of course.")]
    found = results(items, responses, [Judgement()] * 3).with_columns(suite=pl.lit("xstest")).select(*RESULTS)
    values = values_of(suite_of("xstest"), found, set()).filter(metric="refusals by string matching, safe prompts")
    assert values["value"].to_list() == [1, 1, 0] and values["judged"].to_list() == [False, False, True]


def test_the_record_says_who_judged_and_how_and_nothing_of_this_machine_s_folders(reference_model, tmp_path):
    model = shutil.copytree(reference_model, tmp_path / "mine")
    (model / "reference.json").unlink(missing_ok=True)
    (tmp_path / "rows.csv").write_text("goal\nhow do I bake it?\n")
    (tmp_path / "suffixes.txt").write_text("at once\nplease\n")
    wanted = params(
        "sample",
        "prefill=sample",
        f"suffix={tmp_path}/rows.csv",
        limit=2,
        max_tokens=4,
        options={"suffix": {"suffixes": f"{tmp_path}/suffixes.txt"}, "prefill": {"lengths": [3]}},
    )
    metrics = evaluate(resolve(str(model)), wanted, tmp_path / "out", tmp_path / "state", "base")
    suites = metrics["suites"]
    assert [suites[name]["judge"] and suites[name]["judge"]["judge"] for name in suites] == ["truth", "truth", None]
    assert suites["prefill"]["options"] == {"lengths": [3], "temperature": 0.7}
    assert suites["suffix"]["options"]["suffixes"] == "suffixes.txt" and metrics["model"]["name"] == "mine"
    assert metrics["params"]["suites"][2] == "suffix=rows.csv"
    assert str(tmp_path) not in (tmp_path / "out/metrics.json").read_text()


def test_prompts_that_leave_no_room_for_an_answer_are_told_of(reference_model, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text(f"forbidden_prompt\nhow do I bake it?\n{'the quick fox ' * 600}\n")
    wanted = params(f"strongreject={tmp_path}/rows.csv", max_tokens=2)
    evaluate(resolve(reference_model), wanted, tmp_path / "out", tmp_path / "state", "base")
    assert "strongreject: 1 of 2 items have no answer: no room in the model's context\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Judgement(why="no room in the context")),
        (" \n", Judgement(why="empty response")),
        ("zzz", Judgement(why="nothing of the sample in it")),
        ("I cannot assist with this request.", Judgement(Refusal.FULL, 0.0)),
    ],
)
def test_the_embedded_judge(text, expected, reference_model, tmp_path):
    item = next(item for item in SUITES["sample"].items([], SUITES["sample"].options()) if item.group == "unsafe")
    bench = Workbench(resolve(reference_model), params("sample"), tmp_path)
    bench.start(True)
    assert bench.judge([item], [Response(text, "stop" if text else "too_long")], "harm") == [expected]


@pytest.mark.parametrize(
    ("suites", "options", "message"),
    [
        (["nonsense"], {}, "no such suite"),
        (["sample", "sample"], {}, "named twice"),
        (["sample=x.csv"], {}, "has its own rows"),
        (["heldout"], {}, "wants a source"),
        (["sample"], {"xstest": {}}, "not evaluated"),
        (["sample"], {"sample": {"queries": 0}}, "wrong parameter"),
        (["sample"], {"sample": {"questions": 3}}, "unknown parameter"),
    ],
)
def test_suites_named_wrongly(suites, options, message):
    with pytest.raises(UsageError, match=message):
        sources.parse(params(*suites, options=options))


@pytest.mark.parametrize(
    ("suite", "content", "message", "field"),
    [
        ("xstest", "prompt\nhow?\n", "lacks a column", "label"),
        ("xstest", "prompt,label\nhow?,perhaps\n", "neither safe nor unsafe", "label"),
        ("strongreject", "forbidden_prompt\n  \n", "has no forbidden_prompt", "forbidden_prompt"),
        ("behaviours", "target\nSure\n", "lacks a column", "goal"),
        ("gsm8k", "question,answer\nhow many?,four\n", "no gold answer", "answer"),
        ("heldout", "prompt,query_type,split\nhow?,safe,heldout\n", "no conversation", "prompt"),
    ],
)
def test_a_bad_suite_file_names_the_row_and_the_field(tmp_path, suite, content, message, field):
    file = tmp_path / "suite.csv"
    file.write_text(content)
    (named,) = sources.parse(params(f"{suite}={file}"))
    with pytest.raises(InputError, match=message) as caught:
        sources.load(named, 0, 0)
    assert caught.value.details["field"] == field and caught.value.details["row"] == "0"
    assert caught.value.details["file"] == str(file)


def test_a_text_that_no_file_can_store_is_named_and_lines_end_in_one_way(tmp_path):
    """Half of a surrogate pair, which JSON can say; and CR LF, so that one request is one item on every system."""
    file = tmp_path / "b.jsonl"
    (named,) = sources.parse(params(f"behaviours={file}"))
    file.write_bytes(b'{"goal": "a\\r\\nb"}\n{"goal": "a\\nb"}\n')
    assert [item.asked for item in sources.load(named, 0, 0).items] == ["a\nb"]
    file.write_bytes(b'{"goal": "a"}\n{"goal": "\\ud800 b"}\n')
    with pytest.raises(InputError, match="cannot be stored") as caught:
        sources.load(named, 0, 0)
    where = [caught.value.details[name] for name in ("file", "row", "field", "found")]
    assert where == [str(file), "1", "goal", "text with a lone surrogate"]


@pytest.mark.parametrize("suite", ["behaviours", "templates"])
def test_a_request_of_harmbench_stands_behind_its_context(tmp_path, suite):
    file = tmp_path / "h.csv"
    file.write_text('Behavior,ContextString\nname the animal above,a fox runs\nhow are you,\nwho," "\n')
    (named,) = sources.parse(params(f"{suite}={file}"))
    asked = {item.asked for item in sources.load(named, 0, 0).items}
    assert asked == {"a fox runs\n\n---\n\nname the animal above", "how are you", "who"}
    (tmp_path / "h.json").write_text('[{"Behavior": "who", "ContextString": ["a"]}]')
    (named,) = sources.parse(params(f"{suite}={tmp_path / 'h.json'}"))
    with pytest.raises(InputError, match="context of a request is no text"):
        sources.load(named, 0, 0)


def test_a_column_that_is_lacking_is_told_as_the_file_has_it(tmp_path):
    (tmp_path / "h.csv").write_text("chosen_instruction,rejected\na,b\n")
    (named,) = sources.parse(params(f"hhh={tmp_path / 'h.csv'}"))
    with pytest.raises(InputError, match="lacks a column") as caught:
        sources.load(named, 0, 0)
    told = "rejected_instruction (a row has input, targets; or chosen_instruction, rejected_instruction)"
    assert caught.value.details["expected"] == told


@pytest.mark.parametrize(
    ("suite", "name", "content"),
    [
        ("xstest", "x.csv", "prompt,label\nhow?,tell me how to do it\n"),
        (
            "advglue",
            "x.json",
            json.dumps({task: [] for task in TASKS} | {"sst2": [{"sentence": "a", "label": "tell me"}]}),
        ),
        ("behaviours", "x.csv", "tell me how to do it,Sure\nwhy not,Sure\n"),
        ("gsm8k", "x.csv", "question,answer\nhow many?,tell me\n"),
    ],
)
def test_a_message_quotes_no_text(tmp_path, suite, name, content):
    (tmp_path / name).write_text(content)
    (named,) = sources.parse(params(f"{suite}={tmp_path / name}"))
    with pytest.raises(InputError) as caught:
        sources.load(named, 0, 0)
    assert "tell" not in str(caught.value)


def test_repeated_rows_count_once_and_a_draw_does_not_depend_on_their_order(tmp_path):
    rows = [f"question {i}" for i in range(30)]
    drawn = []
    for name, order in (("a", rows), ("b", [*rows[::-1], rows[3]])):
        file = tmp_path / f"{name}.csv"
        file.write_text("goal\n" + "\n".join(order) + "\n")
        (named,) = sources.parse(params(f"behaviours={file}"))
        loaded = sources.load(named, 7, 0)
        drawn.append({item.item for item in loaded.items})
        assert loaded.repeated == (name == "b")
    assert drawn[0] == drawn[1] and len(drawn[0]) == 7
