"""Two processes train as one does; what starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from curate import cli
from curate.base import files
from curate.base.errors import InputError, UsageError
from curate.models.resolve import Model
from curate.project import params
from curate.project.params import ArmParams
from curate.training import launch as launching
from curate.training.check import check_processes
from curate.training.launch import STARTED, launch
from curate.training.train import train

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATIONS = sorted((ROOT / "configs").glob("*.yaml"))


def curate(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "curate", *map(str, arguments)]
    clean = {key: value for key, value in os.environ.items() if key != STARTED}
    return subprocess.run(
        command, cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
def test_two_processes_train_as_one(weights, model, tmp_path):
    """`curate train --accelerate`: DOOR weighted by a model trained on the way, two steps' batches a step.

    43 training pairs do not come out even: of the last eight places three are theirs, all in the first process. Nor
    do the ten of an evaluation.
    """
    training = weights.filter(pl.col("split") == "train")["pair_id"]
    weights = weights.filter(~pl.col("pair_id").is_in(training.head(5).implode()))
    files.write_parquet(weights, tmp_path / "weights.parquet", {"stage": "weigh"})
    given = {"epochs": 2, "batch_pairs": 8, "accumulation": 2, "evaluations": 2, "eval_pairs": 10, "check_pairs": 4}
    given |= {"learning_rate": 1e-4, "kl_prompts": 4, "kl_tokens": 8}
    options = params.TrainParams(**given)
    flags = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    done = curate(
        *("train", "weights.parquet", "--model", model.path, "--out", "two", "--arm", "w-door"),
        *(*flags, "--accelerate", ROOT / "configs" / "ddp.yaml", "--seed", "3"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("train w-door: 43 pairs, 6 steps") == 1, "one process speaks"
    arm = ArmParams(objective="w-door")
    train(weights, model, options, arm, "w-door", tmp_path / "one", tmp_path / "state", {"stage": "weigh"}, 3)
    one, two = (pl.read_csv(tmp_path / name / "curve.csv") for name in ("one", "two"))
    assert one["step"].to_list() == two["step"].to_list() and one["side"].to_list() == two["side"].to_list()
    assert one["kl"].drop_nulls().n_unique() == 3  # which one process estimates, and both have
    for name in one.columns[3:]:
        scale = max(1.0, one[name].abs().max())
        assert np.abs(one[name] - two[name]).max() < 1e-5 * scale, name
    before, ours, theirs = (
        load_file(folder / "model.safetensors")
        for folder in (model.path, tmp_path / "one" / "model", tmp_path / "two" / "model")
    )
    for name, tensor in ours.items():
        if "k_proj.bias" not in name:  # whose gradient is nothing but rounding
            assert (theirs[name] - tensor).norm() < 1e-5 * tensor.norm() < (tensor - before[name]).norm(), name
    records = [json.loads((tmp_path / name / "model" / "curate.json").read_text()) for name in ("one", "two")]
    assert records[0]["settings"] == records[1]["settings"]
    assert not list((tmp_path / ".curate" / "checkpoints").glob("*"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_accelerate_reads_every_configuration(path):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import FullyShardedDataParallelPlugin

    loaded = load_config_from_file(str(path))
    assert str(loaded.distributed_type.value) in ("MULTI_GPU", "FSDP") and loaded.num_processes > 1
    assert loaded.mixed_precision == "no"  # train.dtype says it
    if loaded.fsdp_config:
        # Every key is one that the plugin knows.
        for name in loaded.fsdp_config:
            known = name.removeprefix("fsdp_")
            fields = set(FullyShardedDataParallelPlugin.__dataclass_fields__)
            renamed = {"offload_params": "cpu_offload"}
            assert name in fields or renamed.get(known, known) in fields, name
    assert yaml.safe_load(path.read_text())["compute_environment"] == "LOCAL_MACHINE"


@pytest.fixture
def started(monkeypatch):
    """What would be started."""
    found = []

    def run(command, env, **_):
        found.append((command, env))
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(launching.subprocess, "run", run)
    monkeypatch.delenv(STARTED, raising=False)
    return found


def test_launch_starts_the_command_again_once(started, monkeypatch):
    configuration = str(ROOT / "configs" / "ddp.yaml")
    assert launch(configuration, "curate", ["train", "a b"]) == 5
    ((command, environment),) = started
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[3:] == ["--config_file", configuration, "-m", "curate", "train", "a b"]
    assert environment[STARTED] == "1" and environment["PATH"] == os.environ["PATH"]
    assert STARTED not in os.environ
    monkeypatch.setenv(STARTED, environment[STARTED])
    assert launch(configuration, "curate", ["train", "a b"]) is None and len(started) == 1


def test_nothing_is_started_without_a_configuration_or_with_one_that_is_not_there(started, tmp_path):
    assert launch(None, "curate", []) is None
    with pytest.raises(InputError, match="no such accelerate configuration") as caught:
        launch(str(tmp_path / "none.yaml"), "curate", [])
    assert caught.value.details["field"] == "train.accelerate" and not started


def test_the_commands_code_is_that_of_the_processes(started, tmp_path):
    """`curate train --accelerate` does nothing of its own: the files it names need not be there."""
    arguments = ["train", "none.parquet", "--model", "nowhere", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(cli.app, [*arguments, "--accelerate", str(ROOT / "configs" / "ddp.yaml")])
    assert done.exit_code == 5 and len(started) == 1 and not (tmp_path / "run").exists()


NOWHERE = Model("nowhere", None, Path("/nowhere"), "0", 256)


def test_fsdp_wants_gpus(weights, tmp_path, monkeypatch):
    """What accelerate sets in each process of configs/fsdp.yaml; said before anything loads."""
    if torch.cuda.is_available():
        pytest.skip("there are GPUs")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match="FSDP needs GPUs") as caught:
        train(weights, NOWHERE, params.TrainParams(), ArmParams(), "dpo", tmp_path / "run", tmp_path / "state")
    assert caught.value.details["field"] == "train.accelerate"


def test_processes_share_a_batch_evenly(weights, tmp_path, monkeypatch):
    """Said before anything loads, and of the arm's own batch."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    check_processes(params.TrainParams(batch_pairs=9))
    arm = ArmParams(train={"batch_pairs": 7})
    with pytest.raises(UsageError, match="cannot share a batch evenly") as caught:
        train(weights, NOWHERE, params.TrainParams(batch_pairs=9), arm, "dpo", tmp_path / "run", tmp_path / "state")
    assert caught.value.details["found"] == "7 pairs, 3 processes"
