"""The commands as a person calls them: help at once, files in and out, exit codes, no traceback."""

import resource
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from command import process
from tiny import many, save_model
from typer.main import get_command
from typer.testing import CliRunner

from curate import cli
from curate.base import files
from curate.pairs.artefact import read_artefact

COMMANDS = (
    *("init", "check", "presets", "prepare", "reference", "rate", "score", "split", "weigh", "objectives", "train"),
    *("suites", "evaluate", "compare", "agreement", "report", "publish", "show", "judge", "store"),
)
CURATE = Path(sys.executable).with_name("curate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """pairs.parquet, raw.jsonl and model/ in one folder."""
    folder = tmp_path_factory.mktemp("cli")
    save_model(folder / "model")
    files.write_parquet(many(40), folder / "pairs.parquet", {"stage": "prepare"})
    many(12).select(
        prompt=pl.col("prompt").list.get(0).struct.field("content"),
        chosen=pl.col("chosen").list.get(0).struct.field("content"),
        rejected=pl.col("rejected").list.get(0).struct.field("content"),
    ).write_ndjson(folder / "raw.jsonl")
    return folder


def test_help_lists_every_command_and_is_quick():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([CURATE, "--help"], capture_output=True, text=True, check=False, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # whatever else the machine does
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in done.stdout
    # Under a second; a heavy import would take three or more.
    assert took < 2.5


def test_help_says_what_each_command_does_to_the_end():
    lines = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "80"}).output.partition("Commands:")[2].splitlines()
    assert len(lines) > len(COMMANDS) and not [line for line in lines if line.endswith("...")]


def test_no_command_offers_what_only_dvc_reads():
    """Its own parameters and those of commands below it."""

    def helps(command):
        yield from (getattr(one, "help", None) or "" for one in command.params)
        for below in getattr(command, "commands", {}).values():
            yield from helps(below)

    assert not [text for text in helps(get_command(cli.app)) if "what DVC watches" in text]


def test_help_imports_nothing_heavy():
    heavy = ("torch", "vllm", "transformers", "datasets", "matplotlib")
    code = f"import sys, curate.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_is_known_here():
    assert tuple(get_command(cli.app).commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = CliRunner().invoke(cli.app, [command, "--help"], prog_name="curate")
    assert done.exit_code == 0 and f"Usage: curate {command} " in done.output


def test_score_split_weigh_train_on_files(folder):
    steps = [
        ("score", "pairs.parquet", "--model", "model", "--engine", "transformers", "--out", "scores.parquet"),
        ("split", "scores.parquet", "--out", "splits.parquet", "--length-bins", "1"),
        ("weigh", "splits.parquet", "--out", "weights.parquet", "--alpha", "2"),
        (
            *("train", "weights.parquet", "--model", "model", "--out", "run", "--arm", "bdpo"),
            *("--epochs", "1", "--eval-pairs", "8", "--evaluations", "1", "--checkpoints", "1"),
        ),
    ]
    for step in steps:
        done = process(*step, cwd=folder)
        assert done.returncode == 0, done.stderr
    record = files.read_provenance(folder / "weights.parquet")
    assert record["params"]["alpha"] == 2 and record["from"]["from"]["model"]["name"] == "model"
    assert (folder / "run" / "model" / "model.safetensors").is_file()
    again = process(*steps[0], cwd=folder)
    assert "computed 0 (0 tokens)" in again.stderr


def test_a_raw_file_is_scored_too(folder):
    done = process(
        *("score", "raw.jsonl", "--model", "model", "--engine", "transformers", "--out", "from_raw.parquet"), cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert read_artefact(folder / "from_raw.parquet", "pairs", "scores").height == 12


def test_match_is_a_list(folder):
    done = process("split", "scores.parquet", "--out", "s2.parquet", "--match", "sign", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = process("split", "scores.parquet", "--out", "s2.parquet", "--match", "sing", cwd=folder)
    assert done.returncode == 2 and "'sign', 'length' or 'total_length'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["score", "none.parquet", "--model", "model", "--out", "x.parquet"], 1, "no such"),
        (["score", "pairs.parquet", "--model", "nowhere", "--out", "x.parquet"], 1, "no such model"),
        (["score", "pairs.parquet", "--model", "model", "--out", "x.parquet", "--engine", "vlm"], 2, "vlm"),
        (["score", "pairs.parquet", "--model", "model", "--out", "x.parquet", "--dtype", "int8"], 2, "int8"),
        (["split", "pairs.parquet", "--out", "x.parquet"], 1, "curate score"),
        (["weigh", "pairs.parquet", "--out", "x.parquet"], 1, "curate score"),
        (["weigh", "scores.parquet", "--out", "x.parquet", "--alpha", "-1"], 2, "greater than or equal to 0"),
        (["train", "scores.parquet", "--model", "model", "--out", "x"], 1, "curate weigh"),
        (["train", "weights.parquet", "--model", "model", "--out", "x", "--arm", "ppo"], 2, "no such arm"),
        (["train", "weights.parquet", "--model", "model", "--out", "model"], 1, "would lose what it holds"),
        (["split", "scores.parquet", "--out", "model"], 2, "a folder"),
        (["split", "scores.parquet", "--out", "scores.parquet"], 2, "would replace the input"),
        (["score", "raw.jsonl", "--model", "model", "--out", "raw.jsonl"], 2, "must name a Parquet file"),
        (["prepare", "raw.jsonl", "--out", "pairs.rejects.parquet"], 2, "kept for rows set aside"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_users_mistake_is_one_message(folder, arguments, code, says):
    done = process(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not list(folder.glob("x*"))
