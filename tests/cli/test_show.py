"""`curate show` and `curate report` as a person calls them."""

import json
import re
from pathlib import Path

import artefacts
import polars as pl
import pytest
from typer.testing import CliRunner

from curate.base import files
from curate.base.errors import CurateError, InputError, UsageError
from curate.cli import app
from curate.evaluation import evaluate
from curate.evaluation.items import VALUES, Judgement, Response
from curate.evaluation.suites import suite_of
from curate.evaluation.suites.base import make_item, results, user
from curate.pairs.artefact import read_artefact
from curate.reporting import tables
from curate.scoring.chunks import Pairs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = artefacts.write_all(tmp_path_factory.mktemp("show"))
    artefacts.write_evaluation(root / "evaluation", "bdpo", 1, unjudged=2)
    return root


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # no heading folds


def curate(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, CurateError):
        raise done.exception
    return done


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("data/pairs.parquet", "pairs", ["safe", "sample", "pku", "characters", "no faults found"]),
        ("data/scores.parquet", "scores", ["chosen higher", "nats/token", "tokens", "vllm 0.0", "no faults found"]),
        ("data/splits.parquet", "splits", ["imbalanced", "no faults found"]),
        ("data/weights.parquet", "weights", ["chosen_weight", "sum", "bound", "alpha", "no faults found"]),
        ("data/rejects.parquet", "rejects", ["duplicate", "7, 9", "empty_response"]),
        ("data/reference", "reference", ["tiny", "512"]),
        ("data/split.json", "summary", ["balanced-imbalanced", "length_difference"]),
        ("runs/dpo/seed-0", "run", ["heldout", "rewards/margins", "320", "seed", "objective", "no faults found"]),
        (
            "evaluation",
            "evaluation",
            ["bdpo", "tiny", "safe rate", "(2 of 40 unjudged)", "empty response (2)", "secondary"],
        ),
        ("evaluation/items.parquet", "items", ["prefill 5", "harm judged", "evaluate", "no faults found"]),
        ("evaluation/values.parquet", "values", ["attack success", "prompts", "without a verdict", "no faults found"]),
        ("evaluation/metrics.json", "summary", ["safe rate", "StrongREJECT"]),
    ],
)
def test_every_artefact_is_summarised_without_its_texts(root, path, kind, says):
    done = curate("show", root / path)
    assert done.exit_code == 0 and done.stdout.startswith(f"{kind}: ")
    for words in says:
        assert words in done.stdout
    for secret in ("question", "answer 1", "alert", "secret", "request 1", "I cannot"):
        assert secret not in done.stdout
    record = json.loads(curate("show", root / path, "--json").stdout)
    assert record["kind"] == kind and record["tables"] and not record["faults"]
    assert "answer 1" not in json.dumps(record) and "request 1" not in json.dumps(record)


def test_json_has_every_metric_of_an_evaluation(root):
    """Tables that are cut for the screen are whole there: `prefill` has more metrics than a table has columns."""
    metrics = files.read_json(root / "evaluation/metrics.json")["suites"]
    tables = json.loads(curate("show", root / "evaluation", "--json").stdout)["tables"]
    for suite, found in metrics.items():
        shown = [name for title in (suite, f"{suite}, secondary") for row in tables.get(title, []) for name in row]
        shown = {re.sub(" [↑↓]$", "", name) for name in shown}
        assert shown - {"arm", "seeds", "prompts"} == set(found["metrics"])
    assert not any("continued" in title for title in tables)
    assert "continued" in curate("show", root / "evaluation").stdout


def test_texts_are_printed_when_asked_and_cannot_steer_the_terminal(root):
    done = curate("show", root / "data/pairs.parquet", "--show-text", "2")
    assert "rejected answer 0" in done.stdout and "question 1 " in done.stdout and "answer 2" not in done.stdout
    done = curate("show", root / "data/pairs.parquet", "--show-text", "400")
    assert "alert" in done.stdout and "\x1b" not in done.stdout and r"\x1b[31mred" in done.stdout
    assert '{"secret": "text"}' in curate("show", root / "data/rejects.parquet", "--show-text", "1").stdout
    done = curate("show", root / "evaluation/items.parquet", "--show-text", "40")
    assert "prompt [user]\n    request 3 of" in done.stdout and "response\n    SECRET answer 38" in done.stdout
    assert "request 1 of the safe part" not in done.stdout
    assert "row 0" not in curate("show", root / "evaluation/values.parquet", "--show-text", "1").stdout


def test_the_mean_length_is_of_answers_whose_tokens_were_counted():
    """As metrics.json has it: (5 + 7 + 0) / 3, and nothing is known of the harness's."""
    items = [make_item(user(f"q{number}"), group=group) for number, group in enumerate("aaaah")]
    said = [Response("x", "stop", 5), Response("x", "length", 7), Response("", "stop", 0), Response(None, "too_long")]
    found = results(items, [*said, Response("x", "harness")], [Judgement()] * 5).with_columns(suite=pl.lit("s"))
    table = tables.answers(found)
    assert [row[table.columns.index("mean tokens")] for row in table.rows] == [4.0, None]
    assert evaluate.summary(suite_of("gsm8k"), found, pl.DataFrame(schema=VALUES), 5)["tokens"] == {"a": 4.0}


def test_faults_are_listed(tmp_path):
    frame = artefacts.frame(8).with_row_index()
    row = pl.col("index")
    empty = pl.lit([{"role": "assistant", "content": " "}], dtype=frame.schema["rejected"])
    broken = frame.with_columns(
        pl.when(row == 1).then(pl.lit(frame["pair_id"][0])).otherwise("pair_id").alias("pair_id"),
        pl.lit("same").alias("prompt_key"),
        pl.when(row == 2).then(empty).otherwise("rejected").alias("rejected"),
        pl.when(row == 3).then(float("inf")).otherwise("ref_chosen_logps").alias("ref_chosen_logps"),
        pl.when(row == 4).then(0).otherwise("chosen_tokens").cast(pl.Int32).alias("chosen_tokens"),
        pl.when(row == 5).then(9.0).otherwise("pmi_gap").alias("pmi_gap"),
        pl.when(row == 6).then(-1.0).otherwise("pair_scale").alias("pair_scale"),
        (row == 7).alias("balanced"),
        pl.when(row == 7).then(pl.lit("heldout")).otherwise(pl.lit("train")).cast(frame.schema["split"]).alias("split"),
    ).drop("index")
    files.write_parquet(broken, tmp_path / "broken.parquet", {})
    faults = json.loads(curate("show", tmp_path / "broken.parquet", "--json").stdout)["faults"]
    for words in (
        "pair_id occurs more than once: 2 of 8 rows (row 0, 1)",
        "the prompt is on both sides of the split (train and heldout): 8 of 8",
        "rejected is empty: 1 of 8 rows (row 2)",
        "ref_chosen_logps is no finite number: 1 of 8 rows (row 3)",
        "chosen has no tokens: 1 of 8 rows (row 4)",
        "pmi_gap is not chosen_pmi - rejected_pmi: 1 of 8 rows (row 5)",
        "pair_scale is no weight: 1 of 8 rows (row 6)",
        "a held-out pair is in a subset: 1 of 8 rows (row 7)",
        "the subsets differ in size",
    ):
        assert any(fault.startswith(words) for fault in faults), words
    assert "pair_id occurs more than once" in curate("show", tmp_path / "broken.parquet").stdout


def test_texts_that_were_edited_are_told_of_wherever_the_file_is_read(tmp_path, monkeypatch, capsys):
    """Scores and weights are not theirs. An id of a repeat that was kept ends in its number, and is right."""
    monkeypatch.chdir(tmp_path)
    pairs = artefacts.frame(8).with_columns(
        pair_id=pl.when(pl.int_range(8) == 3).then(pl.col("pair_id") + "-1").otherwise("pair_id")
    )
    edited = pl.col("chosen").list.eval(pl.struct(role=pl.lit("assistant"), content=pl.lit("edited")))
    for rows, says in ((0, ""), (1, "on 1 row, the first of them row 0"), (2, "on 2 rows, the first of them row 0")):
        frame = pairs.with_columns(chosen=pl.when(pl.int_range(8) < rows).then(edited).otherwise("chosen"))
        files.write_parquet(frame, tmp_path / "weights.parquet", {})
        for words in (
            ("split", "weights.parquet", "--out", "s.parquet"),
            ("publish", "weights.parquet", "--repo", "me/data", "--dry-run", "--out", "folder"),
            ("train", "folder", "--model", "none", "--arm", "dpo"),
        ):
            told = CliRunner().invoke(app, list(words)).output
            assert says in told and ("pair_id is not that of the texts" in told) == bool(rows), words
        Pairs.of_file(Path("weights.parquet"))  # as `curate score` reads it
        assert ("pair_id is not that of the texts" in capsys.readouterr().err) == bool(rows)
        faults = " ".join(json.loads(curate("show", "weights.parquet", "--json").stdout)["faults"])
        assert (f"pair_id is not that of the texts, as where they were edited: {rows} of 8" in faults) == bool(rows)


def test_faults_of_an_evaluation_are_listed(root, tmp_path):
    for name, wrong, says in (
        (
            "items",
            {"harm": 2.0},
            ["harm is not between 0 and 1: 1 of", "the item occurs more than once in its suite: 2"],
        ),
        (
            "values",
            {"value": -0.1},
            ["value is not between 0 and 1: 1", "the item occurs more than once in its metric: 2"],
        ),
    ):
        frame = read_artefact(root / f"evaluation/{name}.parquet")
        broken = pl.concat(
            [frame.slice(0, 3), frame.slice(2, 1).with_columns(**{k: pl.lit(v) for k, v in wrong.items()})]
        )
        files.write_parquet(broken, tmp_path / f"{name}.parquet", {})
        faults = json.loads(curate("show", tmp_path / f"{name}.parquet", "--json").stdout)["faults"]
        assert len(faults) == 2 and all(any(fault.startswith(words) for fault in faults) for words in says)


def test_what_is_not_ours_is_an_error(root, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    for name, says in (
        ("none.parquet", "no such file"),
        ("notes.txt", "cannot tell what this is"),
        ("list.json", "does not hold an object"),
        ("torn.parquet", "not a readable Parquet file"),
        ("other.parquet", "no artefact of ours"),
        (".", "cannot tell what this folder is"),
    ):
        with pytest.raises(InputError, match=says):
            curate("show", tmp_path / name)
    with pytest.raises(UsageError):
        curate("show", root / "data/pairs.parquet", "--json", "--show-text", "1")


def test_report_writes_the_page(root, tmp_path):
    done = curate(
        *("report", "--weights", root / "data/weights.parquet", "--runs", root / "runs"),
        *("--prepare", root / "data/prepare.json", "--out", tmp_path / "out"),
    )
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out/index.html").read_text()
    assert "400 kept" in text and "bdpo" in text and "--params" in text
    with pytest.raises(InputError, match="lacks columns"):
        curate("report", "--weights", root / "data/scores.parquet", "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_run_s_measures_stand_beside_those_of_the_same_pairs(tmp_path):
    """What it starts from is of the curve's pairs, which are fewer, and is not shown."""
    artefacts.write_run(tmp_path / "run", "dpo")
    frame = artefacts.frame(40)
    rewards = frame.select("pair_id", side=pl.col("split").cast(pl.String), margin=pl.lit(0.5))
    files.write_parquet(rewards, tmp_path / "run/rewards.parquet", {})
    made = files.read_json(tmp_path / "run/model/curate.json")
    for fraction in (0.0, 0.2):
        files.write_json(made | {"train": {"validation_fraction": fraction}}, tmp_path / "run/model/curate.json")
        record = json.loads(curate("show", tmp_path / "run", "--json").stdout)
        ((title, rows),) = ((title, rows) for title, rows in record["tables"].items() if title.startswith("Metrics"))
        counts = {side: frame.filter(split=side).height for side in ("train", "heldout")}
        assert rows[0] == {"": "pairs measured", **counts} and ("validation pairs" in title) is (fraction > 0)


def test_a_report_is_named_by_its_pairs_and_says_how_they_were_made_where_no_params_are_given(root, tmp_path):
    """Pairs of somebody's own are not said to be the embedded sample; what is shown in place of params.yaml is true."""
    own = tmp_path / "weights.parquet"
    found = files.read_provenance(root / "data/weights.parquet")
    files.write_parquet(artefacts.frame(40).with_columns(source=pl.lit("mine.jsonl")), own, found)
    for more, heading in (((), "B-DPO on mine.jsonl"), (("--title", "Ours <i>"), "Ours &lt;i&gt;")):
        curate("report", "--weights", own, "--out", tmp_path / "out", *more)
        text = (tmp_path / "out/index.html").read_text()
        assert f"<title>{heading}</title>" in text and f"<h1>{heading}</h1>" in text
    assert "dvc repro" not in text and "parameters below" not in text
    assert "scheme tanh" in text and "null_prompt empty_user" in text and "--params" in text
    curate("report", "--weights", root / "data/weights.parquet", "--out", tmp_path / "sample")
    assert "<h1>B-DPO on the embedded sample</h1>" in (tmp_path / "sample/index.html").read_text()


@pytest.mark.parametrize(
    ("option", "file"), [("prepare", "reference/reference"), ("weigh", "score"), ("score", "weigh")]
)
def test_a_summary_of_another_step_is_refused(root, tmp_path, option, file):
    given = root / f"data/{file}.json"
    with pytest.raises(InputError, match=rf"(?s)not the summary of {option}.*found: that of {Path(file).name}"):
        curate("report", "--weights", root / "data/weights.parquet", f"--{option}", given, "--out", tmp_path)
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(InputError, match=rf"(?s)not the summary of {option}.*found: no "):
        curate("report", "--weights", root / "data/weights.parquet", f"--{option}", tmp_path / "none.json")


def test_weights_end_with_a_verdict_and_folders_with_their_arms(root, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = curate("show", root / "data/weights.parquet").stdout.splitlines()
    assert lines[-2].startswith("There is much imbalance to balance: mean |gap| ")
    assert re.match(r"Length explains \d+% of the variance of the gap, measured per token: the weights ", lines[-1])
    runs = curate("show", root / "runs").stdout
    assert runs.startswith("runs: ") and "margin gap ↓" in runs and all(arm in runs for arm in ("dpo", "bdpo"))
    artefacts.write_evaluation(tmp_path / "e/base", "base")
    artefacts.write_evaluation(tmp_path / "e/dpo/seed-0", "dpo", 0)
    found = curate("show", tmp_path / "e").stdout
    assert found.startswith("evaluations: ") and "safe rate" in found and max(map(len, found.splitlines())) <= 100
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).write_text("")
    project = curate("show", root).stdout
    assert "400 pairs" in project and "2 arms: bdpo, dpo" in project and "margin gap ↓" in project
    (root / "dvc.yaml").write_text(
        "stages: {weigh: {cmd: x, outs: [w]}, train: {cmd: y, deps: [w], matrix: {n: [1, 2]}}}"
    )
    project = curate("show", root).stdout
    assert re.search(r"train +weigh +2", project) and max(map(len, project.splitlines())) <= 100
