"""What every command does alike: default outputs that spare what is not ours, the next command, -h, completion."""

import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from command import curate
from tiny import many, save_model
from typer.main import get_command
from typer.testing import CliRunner

from curate import cli
from curate.base import files
from curate.base.errors import CurateError
from curate.models.resolve import write_reference
from curate.pairs.artefact import read_artefact
from curate.project.create import next_commands
from curate.project.params import ModelParams

ROOT = Path(__file__).resolve().parents[2]
FAST = ("--epochs", "1", "--eval-pairs", "8", "--evaluations", "1", "--checkpoints", "1", "--kl-prompts", "0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """raw.jsonl, a model/ from scratch, and what every step made of them under the names that it gives by itself."""
    folder = tmp_path_factory.mktemp("manners")
    save_model(folder / "model")
    write_reference(folder / "model", ModelParams(name="scratch"))
    text = pl.element().struct.field("content")
    many(40).select(pl.col("prompt", "chosen", "rejected").list.eval(text).list.first()).write_ndjson(
        folder / "raw.jsonl"
    )
    before = Path.cwd()
    os.chdir(folder)
    try:
        said = {}
        for step in (
            ("prepare", "raw.jsonl"),
            ("score", "pairs.parquet", "--model", "model", "--engine", "transformers"),
            ("split", "scores.parquet", "--length-bins", "1"),
            ("weigh", "splits.parquet"),
            ("train", "weights.parquet", "--model", "model", "--limit", "6", *FAST),
            ("publish", "weights.parquet", "--repo", "o/n", "--license", "mit", "--dry-run", "--out", "dataset"),
        ):
            said[step[0]] = curate(*step).stderr
    finally:
        os.chdir(before)
    return folder, said


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder[0])
    return folder[0]


def test_a_next_command_takes_no_path_for_an_option(here):
    said = curate("weigh", "splits.parquet", "--out=./-w.parquet").stderr
    (here / "-w.parquet").unlink()
    assert "next: curate train ./-w.parquet --model" in said
    assert next_commands(Path("-project"))[0] == "cd ./-project"


def test_every_step_says_the_next_and_the_next_takes_its_output(folder):
    place, said = folder
    lasts = {name: text.rpartition("next: ")[2].splitlines()[0] for name, text in said.items()}
    assert lasts == {
        "prepare": "curate score pairs.parquet --model MODEL",
        "score": "curate split scores.parquet",
        "split": "curate weigh splits.parquet",
        "weigh": "curate train weights.parquet --model model --arm bdpo",
        "train": "curate evaluate runs/bdpo/seed-0/model --suite heldout=weights.parquet",
        "publish": "the same command without --dry-run",
    }
    made = ("pairs.parquet", "scores.parquet", "splits.parquet", "weights.parquet", "runs/bdpo/seed-0/model")
    assert all((place / name).exists() for name in made)


def test_the_model_that_scored_is_named_only_where_it_is_found(here, tmp_path, monkeypatch):
    """A folder's last part is recorded, and no more: elsewhere it names nothing. A record of before has `scratch`."""
    assert files.read_provenance(here / "scores.parquet")["model"]["name"] == "model"
    monkeypatch.chdir(tmp_path)
    said = curate("weigh", here / "splits.parquet").stderr
    assert "next: curate train weights.parquet --model MODEL --arm bdpo" in said
    known = {"stage": "score", "model": {"name": "owner/name", "commit": "0" * 40}}
    files.write_parquet(read_artefact(here / "splits.parquet"), tmp_path / "hub.parquet", {"from": known})
    assert "--model owner/name" in curate("weigh", "hub.parquet", "--out", "w.parquet").stderr


def test_a_trained_run_is_not_replaced_unless_it_is_named(here):
    call = ("train", "weights.parquet", "--model", "model")
    with pytest.raises(CurateError, match="a finished run stands here already"):
        curate(*call)
    assert files.read_json(here / "runs/bdpo/seed-0/metrics.json")["pairs"] == 6


GOES_ON = "what was finished is kept, run the same command to go on"
TINY = ("--steps", "3", "--vocab-size", "400", "--hidden-size", "64", "--heads", "2", "--layers", "1")
INTERRUPTED = {
    "train weights.parquet --model model --limit 6 --batch-pairs 2 --checkpoints 3": (
        "curate.training.trainer.ShowProgress.on_step_end", 2, GOES_ON
    ),
    "evaluate runs/bdpo/seed-0/model --suite heldout=weights.parquet --limit 3 --max-tokens 4": (
        "curate.evaluation.generation.transformers.TransformersGeneration.generate", 2, GOES_ON
    ),
    "reference --texts raw.jsonl": (
        "torch.nn.utils.clip_grad_norm_",
        3,
        "no model is kept half-trained, the same command trains it from the start",
    ),
}  # fmt: skip
"""Command -> what it does three times, how often it is left to do after an interruption in the second, what is said."""


@pytest.mark.parametrize("command", INTERRUPTED, ids=lambda command: command.split()[0])
@pytest.mark.usefixtures("here")
def test_ctrl_c_in_the_midst_says_how_to_go_on_and_the_same_command_does(tmp_path, monkeypatch, capsys, command):
    repeated, left, says = INTERRUPTED[command]
    more = {"train": FAST[:6] + FAST[8:], "reference": TINY}.get(command.split()[0], ())
    monkeypatch.setattr(sys, "argv", ["curate", *command.split(), *more, "--out", str(tmp_path / "out")])
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("curate.evaluation.generation.local.BATCH_TOKENS", {"cpu": 1})
    real, done = pkgutil.resolve_name(repeated), []

    def once_more(*given, **named):
        done.append(given)
        if len(done) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*given, **named)

    monkeypatch.setattr(repeated, once_more)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 130 and said.splitlines()[-1] == f"curate: interrupted; {says}"
    assert "Traceback" not in said and not (tmp_path / "out").exists() and len(done) == 2
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and (tmp_path / "out").exists() and len(done) - 2 == left


@pytest.mark.parametrize("step", ["prepare raw.jsonl", "split scores.parquet", "weigh splits.parquet"])
@pytest.mark.usefixtures("here")
def test_a_file_that_is_not_ours_stays(tmp_path, step):
    command, source = step.split()
    mine = tmp_path / "mine.parquet"
    pl.DataFrame({"prompt": ["mine"]}).write_parquet(mine)
    before = mine.read_bytes()
    with pytest.raises(CurateError, match="a file that curate did not write"):
        curate(command, source, "--out", mine)
    assert mine.read_bytes() == before and list(tmp_path.iterdir()) == [mine]


@pytest.mark.usefixtures("here")
def test_a_limit_takes_the_first_pairs(tmp_path):
    curate("prepare", "raw.jsonl", "--limit", "7", "--out", tmp_path / "p.parquet")
    assert pl.read_parquet(tmp_path / "p.parquet")["source_row"].to_list() == list(range(7))
    call = ("score", "pairs.parquet", "--model", "model", "--engine", "transformers", "--limit", "5")
    curate(*call, "--out", tmp_path / "s.parquet")
    limited, whole = read_artefact(tmp_path / "s.parquet", "scores"), read_artefact("scores.parquet", "scores")
    assert limited["pair_id"].to_list() == whole["pair_id"].head(5).to_list()


def test_a_published_dataset_s_folder_is_read(here, tmp_path):
    shown = curate("show", "dataset")
    assert shown.stdout.startswith("weights: dataset") and "no faults found" in shown.stdout
    assert "from." not in shown.stdout
    call = ("score", "dataset", "--model", "model", "--engine", "transformers")
    curate(*call, "--out", tmp_path / "s.parquet")
    assert read_artefact(tmp_path / "s.parquet", "scores").height == 40
    done = curate("train", "dataset", "--model", "model", "--limit", "6", *FAST, "--out", tmp_path / "run")
    assert "held-out accuracy" in done.stderr
    for name in ("model", "runs/bdpo/seed-0/model"):  # the second has a curate.json as well
        with pytest.raises(CurateError, match="no dataset that curate published"):
            curate("score", name, "--model", "model", "--out", tmp_path / "x.parquet")
    torn = next((here / "dataset" / "data").glob("train*.parquet"))
    kept = torn.read_bytes()
    torn.write_bytes(kept + b" ")
    try:
        with pytest.raises(CurateError, match="is not the one that was published"):
            curate("show", "dataset")
    finally:
        torn.write_bytes(kept)


@pytest.mark.usefixtures("here")
def test_the_model_within_a_run_is_named():
    with pytest.raises(CurateError) as caught:
        curate("evaluate", "runs/bdpo/seed-0", "--suite", "sample")
    assert caught.value.details["remedy"] == "give runs/bdpo/seed-0/model"


@pytest.mark.parametrize("command", ["split", "weigh", "report"])
def test_a_missing_file_names_the_command_that_makes_it(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    arguments = ["report", "--weights", "none.parquet"] if command == "report" else [command, "none.parquet"]
    with pytest.raises(CurateError) as caught:
        curate(*arguments)
    named = caught.value.details["remedy"].partition("`curate ")[2].rstrip("`")
    assert named in get_command(cli.app).commands


@pytest.mark.parametrize(
    ("call", "made_by"),
    [
        (("weigh", "splits.parquet"), "split"),
        (("train", "weights.parquet", "--model", "m"), "weigh"),
        (("train", "weights.parquet", "--model", "m", "--subset", "balanced"), "weigh"),
    ],
)
def test_what_a_missing_file_is_made_by_is_the_step_before(tmp_path, monkeypatch, call, made_by):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CurateError, match=f"make it first with `curate {made_by}`"):
        curate(*call)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "call",
    [
        ("split", "raw.jsonl"),
        ("weigh", "raw.jsonl"),
        ("train", "raw.jsonl", "--model", "model", "--out", "other"),
        ("rate", "raw.jsonl", "--reward", "model"),
        ("publish", "raw.jsonl", "--repo", "o/n", "--dry-run"),
        ("report", "--weights", "raw.jsonl"),
        ("judge", "train", "raw.jsonl", "--model", "model"),
        ("show", "raw.jsonl"),
    ],
)
def test_raw_data_in_a_later_step_s_place_is_led_to_prepare(call):
    with pytest.raises(CurateError) as caught:
        curate(*call)
    assert caught.value.details["remedy"] == "raw data becomes pairs by `curate prepare`"


def test_what_is_missing_is_said_before_anything_is_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CurateError, match="no such file"):
        curate("score", "nosuch.parquet", "--model", "owner/name")


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (("weigh", "pipe.parquet"), "this is a pipe"),
        (("split", "pipe.parquet"), "this is a pipe"),
        (("weigh", "loop.parquet"), "no such file"),
        (("prepare", "loop.parquet"), "cannot read|no such file"),
    ],
)
def test_a_pipe_or_a_link_to_itself_in_an_input_s_place_is_a_message(tmp_path, monkeypatch, step, says):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.parquet")
    Path("loop.parquet").symlink_to("loop.parquet")
    with pytest.raises(CurateError, match=says):
        curate(*step)


def test_a_link_to_itself_in_an_output_s_place_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("raw.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n' * 2)
    Path("pairs.parquet").symlink_to("pairs.parquet")
    curate("prepare", "raw.jsonl")
    assert pl.read_parquet("pairs.parquet").height == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.usefixtures("here")
def test_a_folder_that_cannot_be_written_is_a_message(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CurateError, match="cannot write the output"):
        curate("split", "scores.parquet", "--length-bins", "1", "--out", tmp_path / "a" / "b" / "x.parquet")


@pytest.mark.usefixtures("here")
def test_a_file_in_the_way_of_two_missing_levels_is_a_message(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CurateError, match="a file stands where the output needs a folder"):
        curate("split", "scores.parquet", "--length-bins", "1", "--out", tmp_path / "file" / "b" / "c" / "x.parquet")


@pytest.mark.parametrize("command", [(), ("train",), ("store", "merge")])
def test_h_is_help(command):
    assert CliRunner().invoke(cli.app, [*command, "-h"]).output.startswith("Usage: ")


@pytest.mark.parametrize(
    ("typed", "offers"),
    [
        ("train w --arm bdp", {"bdpo"}),
        ("prepare x --format a", {"auto"}),
        ("init --preset pku", {"pku-small", "pku-experiments"}),
        ("presets hh", {"hh-small"}),
        ("evaluate m --suite xs", {"xstest"}),
        ("score p --engine v", {"vllm"}),
    ],
)
def test_a_shell_completes_values(typed, offers):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_CURATE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"curate {typed}",
        "COMP_CWORD": str(len(typed.split())),
    }
    code = "import sys; sys.argv = ['curate']; from curate.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert offers <= set(done.stdout.split()), done.stderr
