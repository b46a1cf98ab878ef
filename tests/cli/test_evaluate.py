"""`curate evaluate`, `curate suites` and `curate compare` as a person calls them."""

import json
import re
import shutil
import sys

import artefacts
import polars as pl
import pytest
from tiny import save_model

from curate import cli
from curate.base import files
from curate.cli.evaluate import _options
from curate.evaluation import compare, record
from curate.evaluation.items import RESULTS
from curate.evaluation.suites import SUITES
from curate.evaluation.suites.base import layouts
from curate.pairs.artefact import read_artefact
from curate.project.params import EvaluateParams, check

RATE = re.compile(r"(\w+): (.+): (\d\.\d{3}) \[(\d\.\d{3}), (\d\.\d{3})\], n = (\d+)(?:, (\d+) without a verdict)?")
SMALL = ("--option", "sample.queries=5", "--option", "prefill.lengths=[0, 5]", "--limit", "3", "--max-tokens", "16")
SMALL += ("--engine", "transformers")
HOSTILE = "模型 \x1b[31m$x$ <b>\u202e"
WRITTEN_OUT = r"模型 \x1b[31m$x$ <b>\u202e"


@pytest.fixture
def curate(monkeypatch, capsys):
    """Run a command; gives its exit code, what it printed and what it said."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")  # no heading folds
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Where answers are kept: what one test has asked no other waits for."""
    return tmp_path_factory.mktemp("state")


def test_what_is_printed_is_in_metrics_json(curate, reference_model, state, tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_STATE", str(state))
    out = tmp_path / "out"
    suites = ("--suite", "sample", "--suite", "prefill=sample")
    code, printed, said = curate("evaluate", reference_model, *suites, *SMALL, "--out", out)
    assert code == 0, said
    metrics = files.read_json(out / "metrics.json")
    lines = [RATE.fullmatch(line) for line in printed.splitlines()]
    assert all(lines) and len(lines) == sum(len(suite["metrics"]) for suite in metrics["suites"].values()) == 11
    for suite, metric, *numbers in (line.groups() for line in lines):
        found = metrics["suites"][suite]["metrics"][metric]
        assert numbers[:4] == [f"{found[name]:.3f}" for name in ("value", "low", "high")] + [str(found["n"])]
        assert int(numbers[4] or 0) == found["unjudged"]
    assert metrics["name"] == "base" and metrics["seed"] is None and "evaluate base -> " in said
    items = pl.read_parquet(out / "items.parquet")
    assert sorted(items.group_by("suite", "group").len().rows()) == [
        *(("prefill", f"prefill {length}", 3) for length in (0, 5)),
        *(("sample", group, 3) for group in ("safe", "unsafe")),
    ]
    texts = items["response"].drop_nulls().to_list()
    assert any(texts) and not any(text and text in printed + said for text in texts)

    artefacts.write_evaluation(tmp_path / "made", "base")  # what other tests take for an evaluation
    made = files.read_json(tmp_path / "made/metrics.json")
    assert set(made) == set(metrics) and set(made["params"]) == set(metrics["params"])
    for name, suite in made["suites"].items():
        assert set(suite) == set(metrics["suites"][name])
    assert pl.read_parquet(tmp_path / "made/items.parquet").schema == pl.Schema(RESULTS)


def test_the_name_is_the_arm_s_unless_one_is_given(curate, reference_model, state, tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_STATE", str(state))
    model = shutil.copytree(reference_model, tmp_path / "model")
    files.write_json({"arm": "bdpo", "seed": 2}, model / "curate.json")
    call = ("evaluate", model, "--suite", "sample", *SMALL[:2], *SMALL[4:], "--out", tmp_path / "out")
    assert curate(*call)[0] == 0
    found = record.read_one(tmp_path / "out")
    assert (found.name, found.seed, found.metrics["made"]) == ("bdpo", 2, {"arm": "bdpo", "seed": 2})
    code, _, said = curate(*call, "--name", HOSTILE)
    assert code == 0 and WRITTEN_OUT in said and "\x1b" not in said and "\u202e" not in said
    assert record.read_one(tmp_path / "out").name == HOSTILE


def test_an_evaluation_of_another_kind_is_replaced_only_by_name(curate, reference_model, state, tmp_path, monkeypatch):
    """Another model of the same arm and seed, the same under another template, or other suites."""
    monkeypatch.setenv("CURATE_STATE", str(state))
    monkeypatch.chdir(tmp_path)
    call = ("evaluate", reference_model, "--suite", "sample", *SMALL[:2], *SMALL[4:])
    assert curate(*call)[0] == curate(*call)[0] == 0
    before = (tmp_path / "evaluations/base/metrics.json").read_bytes()
    assert not [key for key in json.loads(before)["params"] if "watch" in key]
    other = save_model(tmp_path / "other")
    turned = shutil.copytree(reference_model, tmp_path / "turned")
    template = (turned / "chat_template.jinja").read_text()
    (turned / "chat_template.jinja").write_text(template + "{# another #}")
    (turned / "reference.json").unlink()  # which would be held against it
    for changed, field in (
        ((*call[:1], other, *call[2:]), "model"),
        ((*call[:1], turned, *call[2:]), "tokenizer"),
        ((*call, "--max-tokens", "7"), "max_tokens"),
    ):
        code, _, said = curate(*changed)
        assert code == 1 and "another evaluation stands here already" in said and field in said
        assert (tmp_path / "evaluations/base/metrics.json").read_bytes() == before
    assert curate(*call, "--max-tokens", "7", "--out", "evaluations/base")[0] == 0


@pytest.mark.parametrize("named", [(), ("--out", "evaluations/base")])
def test_two_evaluations_at_once_do_not_share_a_folder(curate, reference_model, state, tmp_path, monkeypatch, named):
    """The one that ends last would replace the other's without a word."""
    from curate.evaluation import evaluate as evaluation

    monkeypatch.setenv("CURATE_STATE", str(state))
    monkeypatch.chdir(tmp_path)
    with evaluation.alone(tmp_path / "evaluations/base", state):
        code, _, said = curate("evaluate", reference_model, "--suite", "sample", *SMALL[:2], *SMALL[4:], *named)
    assert code == 1 and "another process evaluates into evaluations/base" in said
    assert not (tmp_path / "evaluations").exists()


def test_an_adapter_s_name_and_seed_are_its_own_not_its_base_s(curate, tmp_path, monkeypatch):
    """The record lies beside the adapter. The base has one too, of another arm."""
    from curate.evaluation import evaluate as evaluation

    base, adapter = save_model(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    files.write_json({"base_model_name_or_path": str(base)}, adapter / "adapter_config.json")
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    files.write_json({"arm": "sft", "seed": 7}, base / "curate.json")
    files.write_json({"arm": "bdpo", "seed": 2}, adapter / "curate.json")
    given = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *arguments: given.append(arguments) or {"suites": {}})
    assert curate("evaluate", adapter, "--suite", "sample")[0] == 0
    _, _, out, _, name, seed, made = given[0]
    assert (out.as_posix(), name, seed, made) == ("evaluations/bdpo/seed-2", "bdpo", 2, {"arm": "bdpo", "seed": 2})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--option", "sample"], "cannot read an option"),
        (["--option", "queries=5"], "cannot read an option"),
        (["--option", ".queries=5"], "cannot read an option"),
        (["--option", "sample.queries=5", "--option", "sample.queries=6"], "an option is named twice"),
        (["--option", "sample.queries=["], "not a YAML file"),
        (["--option", "sample.queries=0"], "sample.queries"),
        (["--option", "sample.queries="], "sample.queries"),
        (["--option", "sample.questions=5"], "sample.questions"),
        (["--option", "xstest.seed=5"], "a suite that is not evaluated"),
        (["--suite", "nonsense"], "no such suite"),
        (["--suite", "heldout"], "wants a source"),
        (["--limit", "-1"], "limit"),
        (["--judge", "rubric"], "judge_model"),
        (["--judge", "oracle"], "oracle"),
    ],
)
def test_a_call_that_makes_no_sense_is_one_message_and_writes_nothing(curate, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    code, printed, said = curate("evaluate", "model", "--suite", "sample", *arguments, "--out", "out")
    assert code == 2 and says in said and not printed and "Traceback" not in said
    assert said.count("curate: ") + said.count("Error") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_suite_it_is_said_which_there_are_and_how_one_is_named(curate):
    code, printed, said = curate("evaluate", "no model")
    assert code == 2 and not printed and all(name in said for name in SUITES)
    assert said.splitlines()[-1] == "  remedy: curate evaluate 'no model' --suite heldout=weights.parquet"


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (("metrics.json", "curve.csv", "model/config.json"), "evaluate"),  # a run, whose model may be the one evaluated
        (("metrics.json", "index.html"), "evaluate"),  # a report
        (("metrics.json", "values.parquet"), "train"),  # an evaluation
    ],
)
def test_a_run_an_evaluation_and_a_report_do_not_replace_each_other(curate, tmp_path, names, command):
    save_model(tmp_path / "model")
    files.write_parquet(artefacts.frame(40), tmp_path / "weights.parquet", {})
    for name in names:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("{}")
    given = {
        "evaluate": ("evaluate", tmp_path / "model", "--suite", "sample"),
        "train": ("train", tmp_path / "weights.parquet", "--model", tmp_path / "model"),
    }
    code, _, said = curate(*given[command], "--out", tmp_path / "mine")
    assert code == 1 and "would lose what it holds" in said
    assert all((tmp_path / "mine" / name).read_text() == "{}" for name in names)


def test_suites_lists_every_suite_with_options_that_can_be_given_back(curate):
    code, printed, _ = curate("suites")
    assert code == 0
    sections = dict(zip(SUITES, re.split(r"(?m)^(?=\w)", printed)[1:], strict=True))
    for name, suite in SUITES.items():
        lines = sections[name].splitlines()
        assert lines[0] == f"{name}: {suite.about}"
        assert sections[name].count("columns: ") == len(layouts(suite)) and (suite.source or "") in sections[name]
        given = [line.split(" ", 5)[5] for line in lines if "--option" in line]
        fields = suite.options.model_fields
        assert [text.partition("=")[0] for text in given] == [f"{name}.{key}" for key in fields]
        assert all(field.description in sections[name] for field in fields.values())
        shown = [
            text.rpartition(f": {field.description}")[0] for text, field in zip(given, fields.values(), strict=True)
        ]
        must = {key: "x" for key, field in fields.items() if field.is_required()}
        back = _options([text for text in shown if not text.endswith("=")]).get(name, {})
        assert check(suite.options, back | must) == check(suite.options, must)


@pytest.fixture
def evaluations(tmp_path):
    """base; dpo and bdpo with three seeds."""
    artefacts.write_evaluation(tmp_path / "base", "base", safe=0.3, unjudged=2)
    for arm, safe in (("dpo", 0.5), ("bdpo", 0.8)):
        for seed in range(3):
            artefacts.write_evaluation(tmp_path / f"{arm}/seed-{seed}", arm, seed, safe)
    return tmp_path


def test_compare_prints_rates_differences_and_verdicts(curate, evaluations, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a comparison a line
    out = evaluations / "compared.json"
    code, printed, said = curate("compare", evaluations, "--out", out)
    assert code == 0 and not said.strip()
    arms = compare.arms(record.read([evaluations]))
    compared = compare.compare(arms, ["base"])
    for arm in arms:
        for key, found in arm.estimates.items():
            shown = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
            assert shown in printed or not compare.about(arm.runs, key)["headline"]
    assert "(2 of 40 unjudged)" in printed and "secondary" not in printed and "string" not in printed
    assert json.loads(out.read_text()) == [one.record() for one in compared]
    assert [(one.arm, one.other) for one in compared[::5]] == [("bdpo", "base"), ("dpo", "base")]
    rows = [line for line in printed.splitlines() if " − base " in line]
    assert len(rows) == len(compared) == 10
    for row, one in zip(rows, compared, strict=True):
        assert str(one.key) in row and one.verdict in row
        assert f"{one.difference.mean:.3f} [{one.difference.low:.3f}".replace("-", "−") in row
    assert {one.verdict for one in compared} >= {"better", "worse"}


def test_compare_with_arms_of_one_s_own_and_secondary_metrics(curate, evaluations):
    code, printed, _ = curate("compare", evaluations, "--with", "dpo", "--with", "base", "--secondary")
    assert code == 0 and printed.count("bdpo − dpo") == 5 and printed.count("dpo − base") == 10
    assert "sample, secondary" in printed and "refusals by string" in printed
    # A folder that is named twice is read once.
    code, printed, said = curate("compare", evaluations / "dpo", evaluations, "--with", "base")
    assert code == 0 and printed.count("dpo − base") == 10
    code, printed, said = curate("compare", evaluations / "dpo", evaluations / "base", "--with", "dpo")
    assert code == 0 and "base" in printed and "nothing is compared with dpo" in said


def test_compare_says_what_a_comparison_is_worth(curate, tmp_path):
    for name in ("dpo", "bdpo"):
        artefacts.write_evaluation(tmp_path / name, name, 0, judge=False)
    code, printed, said = curate("compare", tmp_path)
    assert code == 0 and "strongreject" not in printed
    assert "trained once" in said and "No judge read the answers of strongreject" in said


def test_names_cannot_steer_the_terminal(curate, tmp_path):
    artefacts.write_evaluation(tmp_path / "a", "base")
    artefacts.write_evaluation(tmp_path / "b", HOSTILE, 0)
    for arguments in ([tmp_path], [tmp_path, "--with", HOSTILE], [tmp_path, "--with", HOSTILE + "x"]):
        code, printed, said = curate("compare", *arguments)
        assert code == (2 if HOSTILE + "x" in arguments else 0)
        assert WRITTEN_OUT in printed + said and not re.search("[\x1b\u202e]", printed + said)


def broken(folder, how):
    if how == "torn":
        (folder / "metrics.json").write_text('{"name"')
    elif how == "foreign":
        pl.DataFrame({"value": [1.0]}).write_parquet(folder / "values.parquet")
    elif how == "nan":
        values = read_artefact(folder / "values.parquet").with_columns(value=pl.lit(float("nan")))
        files.write_parquet(values, folder / "values.parquet", {})
    elif how == "mixed":
        metrics = files.read_json(folder / "metrics.json")
        del metrics["suites"]["prefill"]
        files.write_json(metrics, folder / "metrics.json")
    elif how == "of another":  # of the same suites, as where a copy stopped between two files
        metrics = files.read_json(folder / "metrics.json")
        artefacts.write_evaluation(folder, "bdpo", 0, safe=0.7)
        files.write_json(metrics, folder / "metrics.json")
    elif how in ("better", "headline", "value"):
        metrics = files.read_json(folder / "metrics.json")
        metrics["suites"]["sample"]["metrics"]["safe rate, unsafe prompts"][how] = "?"
        files.write_json(metrics, folder / "metrics.json")
    elif how == "items":
        artefacts.write_evaluation(folder, "bdpo", 0, prompts=41)
    elif how == "unlike":
        params = EvaluateParams(suites=["sample", "prefill=rows.csv"], max_tokens=8)
        artefacts.write_evaluation(folder, "bdpo", 0, params=params)
    elif how == "twice":
        artefacts.write_evaluation(folder, "base")


@pytest.mark.parametrize(
    ("how", "arguments", "code", "says"),
    [
        (None, ["x/nowhere"], 1, "no such file"),
        (None, ["x/empty"], 1, "no evaluation in this folder"),
        (None, ["x", "--with", "ipo"], 2, "base, bdpo"),
        (None, [], 2, "Missing argument"),
        ("torn", ["x"], 1, "not a JSON file"),
        ("foreign", ["x"], 1, "not an evaluation of ours"),
        ("nan", ["x"], 1, "not between 0 and 1"),
        ("mixed", ["x"], 1, "are not of one evaluation"),
        ("of another", ["x"], 1, "are not of one evaluation"),
        *((how, ["x"], 1, "not an evaluation of ours") for how in ("better", "headline", "value")),
        ("items", ["x"], 1, "evaluations of different items"),
        ("unlike", ["x"], 1, "max_tokens"),
        ("twice", ["x"], 1, "two evaluations have one name\n"),
    ],
)
def test_what_cannot_be_compared_is_one_message(curate, tmp_path, monkeypatch, how, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x/empty").mkdir(parents=True)
    artefacts.write_evaluation(tmp_path / "x/base", "base")
    artefacts.write_evaluation(tmp_path / "x/bdpo", "bdpo", 0)
    broken(tmp_path / "x/bdpo", how)
    found, printed, said = curate("compare", *arguments, "--out", "out.json")
    assert found == code and says in said and "Traceback" not in said and not printed
    assert not (tmp_path / "out.json").exists()
