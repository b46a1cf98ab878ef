"""Suites of general ability: by log-probabilities, by the last number, and through lm-evaluation-harness."""

import json
import shutil
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from tiny import break_weights, byte_tokenizer, save_model, small
from transformers import AutoModelForCausalLM

from curate.base.device import device_type
from curate.base.errors import InputError, OutputError, UsageError
from curate.evaluation import sources
from curate.evaluation.evaluate import evaluate
from curate.evaluation.suites import advglue, gsm8k
from curate.evaluation.suites.gsm8k import gold, value_of
from curate.evaluation.suites.harness import Harness, HarnessOptions, _scores, _task, _tasks, answered
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer, render_responses
from curate.models.resolve import resolve
from curate.project.params import EvaluateParams
from curate.reporting import summary
from curate.scoring.packing.forward import pad, response_logps


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("model") / "tiny", context=512))


def run(model, folder, *suites, **options):
    params = EvaluateParams(engine="transformers", suites=list(suites), options=options, max_tokens=8)
    metrics = evaluate(model, params, folder / "out", folder / "state", "base")
    return metrics["suites"], pl.read_parquet(folder / "out/items.parquet")


def logps(model, prompt, choices):
    """By the model's own forward pass, one sequence at a time: (summed, per token)."""
    turns = [[{"role": "user", "content": prompt}]] * len(choices)
    sequences = render_responses(load_tokenizer(model), turns, choices, ["x"] * len(choices))
    net = load_model(model, "float32").eval()
    summed = np.array([float(response_logps(net, pad([one]).to(net.device))[0].detach()) for one in sequences])
    return summed, summed / [len(one.response_ids) for one in sequences]


HHH = [
    ("which fox", "the quick brown fox", "no"),
    ("what dog", "a dog", "the lazy dog jumps over it"),
    ("who", "x", "y"),
]


@pytest.mark.parametrize("layout", ["original", "prometheus"])
def test_hhh_is_the_share_of_better_answers_that_are_likelier(model, tmp_path, layout):
    template = "###The instruction to evaluate:\n{}\n\n###Response to evaluate:\n{}\n\n###Score Rubrics:\n..."
    rows = [
        {"input": prompt, "targets": {"choices": [worse, better], "labels": [0, 1]}}
        if layout == "original"
        else {
            "chosen_instruction": template.format(prompt, better),
            "rejected_instruction": template.format(prompt, worse),
        }
        for prompt, better, worse in HHH
    ]
    (tmp_path / "hhh.json").write_text(json.dumps(rows))
    found, items = run(model, tmp_path, f"hhh={tmp_path / 'hhh.json'}")
    for group, of in (("summed", 0), ("per token", 1)):
        expected = [bool(np.greater(*logps(model, prompt, [better, worse])[of])) for prompt, better, worse in HHH]
        assert found["hhh"]["metrics"][f"accuracy, {group}"]["value"] == pytest.approx(np.mean(expected))
        assert items.filter(group=group)["score"].to_list() == [float(value) for value in expected]


def test_on_a_cpu_log_probs_are_of_transformers_as_answers_are(model, tmp_path):
    if device_type() != "cpu":
        pytest.skip("this machine has a GPU")
    row = {"input": "which fox", "targets": {"choices": ["no", "the quick brown fox"], "labels": [0, 1]}}
    (tmp_path / "hhh.json").write_text(json.dumps([row]))
    params = EvaluateParams(suites=[f"hhh={tmp_path / 'hhh.json'}"])
    assert params.engine == "auto"
    evaluate(model, params, tmp_path / "out", tmp_path / "state", "base")
    (scope,) = (tmp_path / "state/scores").glob("*/scope.json")
    assert json.loads(scope.read_text())["engine"].startswith("transformers")


def test_log_probs_that_are_no_numbers_are_no_wrong_answers(tmp_path):
    broken = resolve(break_weights(save_model(tmp_path / "model")))
    row = {"input": "which fox", "targets": {"choices": ["no", "the quick brown fox"], "labels": [0, 1]}}
    (tmp_path / "hhh.json").write_text(json.dumps([row]))
    with pytest.raises(InputError, match="no finite number"):
        run(broken, tmp_path, f"hhh={tmp_path / 'hhh.json'}")
    assert not list((tmp_path / "state").rglob("*.arrow"))


def items_of(targets, path):
    pl.DataFrame([{"input": "Q", "targets": targets}]).write_csv(path)
    (named,) = sources.parse(EvaluateParams(engine="transformers", suites=[f"hhh={path}"]))
    return sources.load(named, 0, 0).items


@pytest.mark.parametrize("write", [json.dumps, str])
def test_hhh_reads_its_choices_as_text(tmp_path, write):
    items = items_of(write({"choices": ["no", "it's"], "labels": [0, 1]}), tmp_path / "hhh.csv")
    assert {(item.gold, item.other) for item in items} == {("it's", "no")}


@pytest.mark.parametrize(
    "targets",
    [
        *('{"choices": ["a", "b"], "labels": [0.4, 1.2]}', '{"choices": ["a", "b"], "labels": [1, 1]}', "a", "[]"),
        *('{"choices": ["a", " "], "labels": [1, 0]}', '{"choices": ["", "b"], "labels": [1, 0]}'),
        *('{"choices": ["a", 3], "labels": [0, 1]}', '{"choices": ["a", "b"], "labels": [1]}', '{"labels": [0, 1]}'),
    ],
)
def test_hhh_names_a_row_that_is_no_comparison(tmp_path, targets):
    with pytest.raises(InputError, match="no comparison") as caught:
        items_of(targets, tmp_path / "hhh.csv")
    assert (caught.value.details["row"], caught.value.details["field"]) == ("0", "targets")


def test_advglue_takes_the_likeliest_label_word(model, tmp_path):
    data = {
        "sst2": [{"sentence": "the quick fox", "label": 1}, {"sentence": "a lazy dog", "label": 0}],
        "qqp": [{"question1": "a?", "question2": "b?", "label": 0}],
        "mnli": [{"premise": "it rains", "hypothesis": "it is wet", "label": 2}],
        "mnli-mm": [{"premise": "it rains", "hypothesis": "it is dry", "label": 1}],
        "qnli": [{"question": "who?", "sentence": "the fox", "label": 0}],
        "rte": [{"sentence1": "a fox", "sentence2": "an animal", "label": 1}],
    }
    (tmp_path / "dev.json").write_text(json.dumps(data))
    found, items = run(model, tmp_path, f"advglue={tmp_path / 'dev.json'}")
    prompt = items.filter(group="mnli")["prompt"][0][0]["content"]
    likeliest = int(logps(model, prompt, ["Yes", "Maybe", "No"])[0].argmax())
    assert items.filter(group="mnli")["response"][0] == ("Yes", "Maybe", "No")[likeliest]
    assert items.filter(group="mnli")["score"][0] == float(likeliest == 2)
    assert found["advglue"]["metrics"]["accuracy"]["n"] == 7
    data["rte"][0]["label"] = 7
    (tmp_path / "dev.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="no such label"):
        run(model, tmp_path, f"advglue={tmp_path / 'dev.json'}")


@pytest.mark.parametrize(
    ("example", "message", "field"),
    [
        ({"sentence1": "a fox", "sentence2": None, "label": 1}, "has no sentence2", "sentence2"),
        ({"sentence1": " ", "sentence2": "a dog", "label": 1}, "has no sentence1", "sentence1"),
        ({"sentence1": "a fox", "label": 1}, "has no sentence2", "sentence2"),
        ({"sentence1": "a fox", "sentence2": "a dog"}, "lacks a field", "rte"),
        ("a fox", "lacks a field", "rte"),
    ],
)
def test_advglue_asks_no_example_without_its_texts(tmp_path, example, message, field):
    good = {"sentence1": "a fox", "sentence2": "an animal", "label": 1}
    (tmp_path / "dev.json").write_text(json.dumps({task: [] for task in advglue.TASKS} | {"rte": [good, example]}))
    (named,) = sources.parse(EvaluateParams(suites=[f"advglue={tmp_path / 'dev.json'}"]))
    with pytest.raises(InputError, match=message) as caught:
        sources.load(named, 0, 0)
    assert (caught.value.details["row"], caught.value.details["field"]) == ("1", field)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7.", "7"),
        ("it costs $1,234.50 in all", "1234.50"),
        ("a loss of -$1,234", "-1234"),
        ("a loss of $-12.", "-12"),
        ("-5", "-5"),
        ("x = \u22125", "-5"),  # a Unicode minus
        ("x=(-5)", "-5"),
        ("10-12", "12"),  # a range
        ("10\u221212", "12"),
        *((f"it is {dash}7", "-7") for dash in "\u2010\u2011\u2012\u2013\ufe63\uff0d"),  # what models write for it
        ("10\u201312", "12"),
        ("5 \u2013 12", "12"),
        ("from 3 to .5", "0.5"),
        ("x = -.5", "-0.5"),
        ("so ...5", "5"),
        ("1, 2,3", "3"),
        ("one of 12,34", "34"),
        ("12.00%", "12"),
        ("The answer is 18.\n#### 20", "20"),  # the last number, whatever stands before it
        ("none at all", None),
        ("", None),
    ],
)
def test_the_last_number_of_an_answer_as_the_harness_filters_it(text, number):
    found = filtered(text)
    assert value_of(found) == (None if number is None else Decimal(number))
    assert gsm8k._right({"answer": number or "0"}, [found]) == {"exact_match": float(number is not None)}


def filtered(text):
    """What the task's own filter makes of an answer."""
    from lm_eval.api.instance import Instance

    task = gsm8k._task([{"question": "How many?", "answer": "3"}], 8)
    instance = Instance("generate_until", {}, (), 0)
    instance.resps = [text]
    task._instances = [instance]
    task.apply_filters()
    return instance.filtered_resps["last-number"]


def test_the_gold_answer_is_what_follows_the_marks():
    assert gold("3 * 4 = <<3*4=12>>12\n#### 1,012", 0) == "1012"
    assert gold("10 - 12 = <<10-12=-2>>-2\n#### -2 ", 0) == "-2"
    for answer in ("the answer is 12", "#### four", "#### 4 apples"):
        with pytest.raises(InputError, match="no gold answer"):
            gold(answer, 5)


def test_gsm8k_runs_offline_and_marks_answers_without_a_number_as_wrong_and_apart(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [{"question": f"How many, {number}?", "answer": f"#### {number}"} for number in (3, 4, 5)]
    (tmp_path / "gsm.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, items = run(model, tmp_path, f"gsm8k={tmp_path / 'gsm.jsonl'}", gsm8k={"max_tokens": 4, "batch": 2})
    read = [value_of(filtered(text)) for text in items["response"]]
    expected = [float(got == number) for got, number in zip(read, (3, 4, 5), strict=True)]
    assert found["gsm8k"]["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(expected))
    assert found["gsm8k"]["unjudged"] == ({"no number": read.count(None)} if None in read else {})
    assert [file.name.count("-") for file in (tmp_path / "state/harness").glob("*.db")] == [2]  # model, dtype, versions


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A multiple-choice task of our own, in the harness's format, over a local file."""
    pytest.importorskip("lm_eval")
    tmp_path = tmp_path_factory.mktemp("task")
    rows = [{"q": f"question {i}", "choices": ["fox", "the lazy dog", "x"], "gold": i % 3} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "own.yaml").write_text(
        "task: curate_own\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_target: gold\n"
        "doc_to_choice: choices\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    return folder


def test_a_task_of_the_harness_gives_its_own_values_item_by_item(model, tmp_path, task):
    options = {"tasks": ["curate_own"], "include_path": str(task)}
    found, items = run(model, tmp_path, "harness", harness=options)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    net = HFLM(pretrained=load_model(model, "float32").eval(), tokenizer=load_tokenizer(model), batch_size=1)
    alone = simple_evaluate(
        model=net,
        tasks=["curate_own"],
        task_manager=_tasks(str(task), shipped=False),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    assert found["harness"]["metrics"]["accuracy"]["value"] == pytest.approx(alone["results"]["curate_own"]["acc,none"])
    assert items["score"].to_list() == [sample["acc"] for sample in alone["samples"]["curate_own"]]
    assert found["harness"]["metrics"]["accuracy, curate_own"]["n"] == 6


def test_the_harness_keeps_no_answer_for_another_tokenizer(model, tmp_path, task):
    """The weights are the same, and so are the texts that its cache goes by."""
    other = shutil.copytree(model.path, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))

    def said(which, state):
        bench = SimpleNamespace(model=which, dtype="float32", state=tmp_path / state)
        own = _task("curate_own", str(task))
        found = answered(bench, [own], {"curate_own": [0]}, shots=0, chat_template=True, batch=1)
        return found["curate_own"][0]["resps"]

    first, second = said(model, "state"), said(resolve(other), "state")
    assert resolve(other).digest == model.digest and first != second == said(resolve(other), "new")


def test_an_answer_through_the_harness_is_not_moved_by_padding(tmp_path, task):
    """A recurrent state reads it."""
    kinds = {"block_types": ["recurrent", "attention"], "attention_window_size": 64}
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_config(small("recurrent_gemma", **kinds))
    with torch.no_grad():
        for weight in net.parameters():  # else it says one token whatever it is asked
            weight.add_(0.2 * torch.randn(weight.shape))
    net.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    rows = [{"q": "zyxw " * length, "choices": ["fox"]} for length in (1, 9, 2, 5)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = (task / "own.yaml").read_text().replace(str(task.parent / "rows.jsonl"), str(tmp_path / "rows.jsonl"))
    own = own.replace("multiple_choice", "generate_until").replace("metric: acc", "metric: exact_match")
    own = own.replace("doc_to_choice: choices\n", "generation_kwargs: {max_new_tokens: 12, until: []}\n")
    (tmp_path / "own.yaml").write_text(own.replace("doc_to_target: gold", "doc_to_target: '{{choices[0]}}'"))

    def said(batch):
        bench = SimpleNamespace(model=resolve(tmp_path), dtype="float32", state=tmp_path / f"{batch}", counts={})
        wanted = {"curate_own": [0, 1, 2, 3]}
        found = answered(bench, [_task("curate_own", str(tmp_path))], wanted, shots=0, chat_template=True, batch=batch)
        return [one["resps"] for one in found["curate_own"]]

    assert said(4) == said(1)


@pytest.mark.parametrize("kind", ["choices", "answers"])
def test_examples_that_the_harness_cuts_are_counted_and_told(tmp_path, task, kind, capsys, caplog):
    """Of four, the two that are longer than 128 tokens with their answer; the second time from the harness's cache."""
    model = resolve(save_model(tmp_path / "model", context=128))
    rows = [{"q": text, "choices": ["fox", "x"], "gold": 0} for text in ("a", "zyxw " * 60, "b", "wzyx " * 60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = (task / "own.yaml").read_text().replace(str(task.parent / "rows.jsonl"), str(tmp_path / "rows.jsonl"))
    if kind == "answers":
        own = own.replace("multiple_choice", "generate_until").replace("metric: acc", "metric: exact_match")
        own = own.replace("doc_to_choice: choices\n", "generation_kwargs: {max_new_tokens: 4, until: []}\n")
    (tmp_path / "own.yaml").write_text(own.replace("doc_to_target: gold", "doc_to_target: '{{choices[0]}}'"))
    for _ in range(2):
        found, _ = run(model, tmp_path, "harness", harness={"tasks": ["curate_own"], "include_path": str(tmp_path)})
        assert found["harness"]["counts"] == {"beginning cut off": 2}
        assert "2 of 4 examples are too long for the context" in capsys.readouterr().err
    assert not [line for line in caplog.records if line.name.startswith("lm_eval")]  # a line an example
    (first, *_) = summary.summarise(tmp_path / "out").tables
    assert ["harness: beginning cut off", 2] in first.rows


def test_a_damaged_cache_of_the_harness_is_one_message(model, tmp_path, task):
    call = (model, tmp_path, "harness")
    options = {"tasks": ["curate_own"], "include_path": str(task)}
    found, _ = run(*call, harness=options)
    (cache,) = (tmp_path / "state/harness").glob("*.db")
    cache.write_bytes(cache.read_bytes()[:3000] * 2)
    with pytest.raises(OutputError, match="cache is damaged") as caught:
        run(*call, harness=options)
    assert caught.value.details["file"] == str(cache) and "remove this" in caught.value.details["remedy"]
    cache.unlink()
    assert run(*call, harness=options)[0] == found


def test_harness_tasks_and_metrics_named_wrongly(task):
    options = {"tasks": ["no_such_task"], "include_path": str(task)}
    (named,) = sources.parse(EvaluateParams(engine="transformers", suites=["harness"], options={"harness": options}))
    with pytest.raises(UsageError, match="no such task"):
        sources.load(named, 0, 0)
    samples = [{"doc_id": 0, "filter": "none", "metrics": ["perplexity"], "perplexity": 12.0}]
    with pytest.raises(InputError, match="no share"):
        _scores("t", samples, HarnessOptions())
    with pytest.raises(UsageError, match="no such metric"):
        _scores("t", samples, HarnessOptions(metric="acc"))


@pytest.mark.parametrize(
    ("metric", "found"),
    [
        ("{metric: mcc}", "tuple"),  # there is none but over all examples
        ("{metric: acc, aggregation: mean, higher_is_better: false}", "a metric of which less is better"),
    ],
)
def test_a_metric_that_is_no_share_of_right_answers_is_refused(model, tmp_path, task, metric, found):
    own = (task / "own.yaml").read_text().partition("metric_list")[0]
    (tmp_path / "own.yaml").write_text(f"{own}metric_list: [{metric}]\n")
    with pytest.raises(InputError, match="no share") as caught:
        run(model, tmp_path, "harness", harness={"tasks": ["curate_own"], "include_path": str(tmp_path)})
    assert caught.value.details["found"] == found


def test_what_has_no_room_in_the_context_counts_as_wrong_and_is_told(tmp_path):
    """The middle rows are longer than 128 tokens. Nothing is scored of them."""
    model = resolve(save_model(tmp_path / "model", context=128))
    long = "zyxw " * 40
    rows = [
        {"input": prompt, "targets": {"choices": ["yes", "no"], "labels": [1, 0]}}
        for prompt in ("a fox", long, "a dog")
    ]
    (tmp_path / "hhh.json").write_text(json.dumps(rows))
    data = {task: [] for task in advglue.TASKS}
    data["sst2"] = [{"sentence": text, "label": 1} for text in ("a fox", long, "a dog")]
    (tmp_path / "dev.json").write_text(json.dumps(data))
    rows = [{"question": text, "answer": f"#### {n}"} for n, text in enumerate(("a fox", long, "a dog"))]
    (tmp_path / "gsm.jsonl").write_text("\n".join(map(json.dumps, rows)))
    suites = [f"hhh={tmp_path / 'hhh.json'}", f"advglue={tmp_path / 'dev.json'}", f"gsm8k={tmp_path / 'gsm.jsonl'}"]
    found, items = run(model, tmp_path, *suites, gsm8k={"max_tokens": 8})
    for suite, key, count in (("hhh", "accuracy, summed", 2), ("advglue", "accuracy", 1), ("gsm8k", "accuracy", 1)):
        of = items.filter(suite=suite)
        assert found[suite]["unjudged"]["no room in the context"] == count
        beyond = of.filter(unjudged="no room in the context")
        assert beyond["score"].null_count() == beyond["response"].null_count() == count
        assert all(long.strip() in prompt[0]["content"] for prompt in beyond["prompt"])
        assert found[suite]["metrics"][key]["n"] == 3
        scores = of.filter(group="summed")["score"] if suite == "hhh" else of["score"]
        assert found[suite]["metrics"][key]["value"] == pytest.approx(scores.fill_null(0).mean())
    asked = items.filter(suite="gsm8k").filter(finish="harness")
    assert [prompt[0]["content"] for prompt in asked["prompt"]] == ["a fox", "a dog"]
    with pytest.raises(UsageError, match="no room") as caught:
        run(model, tmp_path, suites[2])
    assert caught.value.details["field"] == "gsm8k.max_tokens" and caught.value.details["expected"] == "less than 128"


def test_a_task_whose_answers_are_longer_than_the_context_is_one_message(model, tmp_path, task):
    long = gsm8k._task([{"question": "How many?", "answer": "3"}], 512)
    bench = SimpleNamespace(model=model, dtype="float32", state=tmp_path)
    with pytest.raises(InputError, match="no room in the model's context"):
        answered(bench, [long], {"gsm8k": [0]}, shots=0, chat_template=True, batch=1)
    (tmp_path / "own.yaml").write_text((task / "own.yaml").read_text().replace("choices\n", "'{{[q * 99, q]}}'\n"))
    with pytest.raises(InputError, match="a choice longer than it"):
        run(model, tmp_path, "harness", harness={"tasks": ["curate_own"], "include_path": str(tmp_path)})


def test_shots_that_the_harness_would_leave_out_are_refused(task, tmp_path):
    own = (task / "own.yaml").read_text()
    (tmp_path / "own.yaml").write_text(own)
    (tmp_path / "fixed.yaml").write_text(own.replace("curate_own", "curate_fixed") + "num_fewshot: 0\n")
    for name, shots, refused in (("curate_fixed", 2, True), ("curate_fixed", 0, False), ("curate_own", 2, False)):
        options = HarnessOptions(tasks=[name], shots=shots, include_path=str(tmp_path))
        if refused:
            with pytest.raises(UsageError, match="takes no examples") as caught:
                Harness().items([], options)
            assert caught.value.details["field"] == "harness.shots" and "curate_fixed" in caught.value.details["found"]
        else:
            assert len(Harness().items([], options)) == 6


@pytest.mark.realdata
def test_the_real_files_are_read(realdata):
    expected = {"hhh_alignment_prometheus_dev.json": ("hhh", 178), "gsm8k_train.jsonl": ("gsm8k", 7473)}
    expected |= {"advglue_dev_dev.json": ("advglue", 358), "xstest_prompts.csv": ("xstest", 450)}
    expected |= {"strongreject_dataset.csv": ("strongreject", 313)}
    for file, (suite, count) in expected.items():
        (named,) = sources.parse(EvaluateParams(engine="transformers", suites=[f"{suite}={realdata / 'eval' / file}"]))
        assert len(sources.load(named, 0, 0).items) == count
