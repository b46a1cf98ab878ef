"""Two processes train as one does; what starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import byte_tokenizer, many, small
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from curate.base import files
from curate.base.device import device
from curate.base.errors import InputError, UsageError
from curate.models.resolve import Model, resolve
from curate.project import params
from curate.project.params import ArmParams
from curate.scoring.score import score
from curate.selection.weights import weigh
from curate.training import build
from curate.training.check import check_processes
from curate.training.launch import PARENT, STARTED, launch
from curate.training.plan import plan
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
    # Before the first step every margin is nothing but rounding, and so is its sign.
    one, two = (curve.with_columns(pl.when(pl.col("step") > 0).then("rewards/accuracies")) for curve in (one, two))
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


@pytest.mark.slow
def test_two_processes_train_a_model_whose_vision_tower_gets_no_gradient(tmp_path):
    tokenizer = byte_tokenizer()
    text = small("gemma3_text", vocab_size=len(tokenizer), initializer_range=0.1).to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1, image_token_index=5)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    scored = score(many(20), resolve(tmp_path / "model"), params.ScoreParams(engine="transformers"), tmp_path / "store")
    files.write_parquet(weigh(scored.scores, params.WeighParams()), tmp_path / "weights.parquet", {"stage": "weigh"})
    done = curate(
        *("train", "weights.parquet", "--model", "model", "--out", "run", "--epochs", "1", "--batch-pairs", "8"),
        *("--kl-prompts", "0", "--evaluations", "1", "--accelerate", ROOT / "configs" / "ddp.yaml"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "run/model"))
    seen = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert seen and not any("vision" in name for name in seen)


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


WORKER = """
import os, sys, time
from pathlib import Path
from curate.base.errors import InputError
from curate.base.exits import told
from curate.training.launch import launch

kind, folder = sys.argv[1], Path(sys.argv[2])
with told():
    assert launch("not there", "worker", []) is None  # in a worker, whatever it says
    rank = os.environ["RANK"]
    (folder / f"{rank}.{os.getppid()}.{os.getpid()}").write_text(" ".join(sys.argv[3:]))
    if kind == "mistake of the second" and rank == "1":
        raise InputError("a mistake", found=rank, remedy="mend it")
    if kind == "fault" and rank == "1":
        raise ZeroDivisionError
    while kind != "done":
        time.sleep(0.1)
"""
COMMAND = """
import sys
from curate.base.exits import told
from curate.training.launch import launch

with told():
    sys.exit(launch(sys.argv[1], "worker", sys.argv[2:]))
"""


class Launched:
    """Two workers that do nothing, under the launcher, under a command."""

    def __init__(self, tmp_path, kind, *arguments):
        (tmp_path / "worker.py").write_text(WORKER)
        self.folder = tmp_path / "started"
        self.folder.mkdir()
        paths = os.pathsep.join([str(tmp_path), str(ROOT)])
        environment = {key: value for key, value in os.environ.items() if key not in (STARTED, PARENT)}
        self.command = subprocess.Popen(
            [sys.executable, "-c", COMMAND, CONFIGURATIONS[0], kind, self.folder, *arguments],
            env=environment | {"PYTHONPATH": paths},
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_workers(self):
        """(launcher, workers): their numbers."""
        until(lambda: len(list(self.folder.iterdir())) == 2)
        found = [path.name.split(".") for path in sorted(self.folder.iterdir())]
        assert [rank for rank, *_ in found] == ["0", "1"] and found[0][1] == found[1][1]
        return int(found[0][1]), [int(worker) for *_, worker in found]

    def end(self):
        _, said = self.command.communicate(timeout=60)
        return self.command.returncode, said


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "too late"
        time.sleep(0.05)


def gone(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_command_is_started_again_in_each_process(tmp_path):
    launched = Launched(tmp_path, "done", "a b", "--c")
    assert launched.end() == (0, "")
    assert [path.read_text() for path in launched.folder.iterdir()] == ["a b --c"] * 2


def test_a_mistake_is_said_once_by_whichever_process_meets_it(tmp_path):
    code, said = Launched(tmp_path, "mistake of the second").end()
    assert (code, said) == (1, "curate: a mistake\n  found: 1\n  remedy: mend it\n")


def test_a_fault_of_ours_has_its_own_traceback_alone(tmp_path):
    code, said = Launched(tmp_path, "fault").end()
    assert code == 1 and said.count("Traceback") == 1 and said.rstrip().endswith("ZeroDivisionError")


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_all_of_them(signal_number, tmp_path):
    launched = Launched(tmp_path, "wait")
    launcher, workers = launched.wait_for_workers()
    launched.command.send_signal(signal_number)
    code, said = launched.end()
    assert code == 128 + signal_number and said.count("\n") == 1 and "what was finished is kept" in said
    until(lambda: all(map(gone, [launcher, *workers])), 5)


@pytest.mark.parametrize("which", ["command", "launcher", "worker"])
def test_no_kill_leaves_a_process_behind(which, tmp_path):
    launched = Launched(tmp_path, "wait")
    launcher, workers = launched.wait_for_workers()
    killed = {"command": launched.command.pid, "launcher": launcher, "worker": workers[1]}
    os.kill(killed[which], signal.SIGKILL)
    code, said = launched.end()
    until(lambda: all(map(gone, [launcher, *workers])), 15)
    says = {"command": "", "launcher": "what started the training", "worker": "process 1 of the training"}[which]
    assert code == (1 if says else -9) and said.count("\n") == bool(says)
    assert not says or f"curate: {says} was ended by SIGKILL" in said


def test_nothing_is_started_without_a_configuration_or_with_one_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv(STARTED, raising=False)
    assert launch(None, "curate", []) is None
    with pytest.raises(InputError, match="no such accelerate configuration") as caught:
        launch(str(tmp_path / "none.yaml"), "curate", [])
    assert caught.value.details["field"] == "train.accelerate"


def test_the_commands_code_and_message_are_those_of_the_processes(tmp_path):
    """`curate train --accelerate` does nothing of its own; what is wrong with the files is said once."""
    arguments = ["train", "none.parquet", "--model", "nowhere", "--out", "run"]
    done = curate(*arguments, "--accelerate", ROOT / "configs" / "ddp.yaml", cwd=tmp_path)
    alone = curate(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (alone.returncode, alone.stderr) and done.stderr.count("curate: ") == 1
    assert not list(tmp_path.iterdir())


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


def test_fsdp_is_the_second(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    check_processes(params.TrainParams())
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(UsageError, match="needs FSDP version 2") as caught:
        check_processes(params.TrainParams())
    assert caught.value.details["found"] == "fsdp_version 1"


def test_each_process_has_a_gpu_of_its_own(weights, model, tmp_path, monkeypatch):
    """Also where each sees its own alone; and nothing loads before it is taken."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device() == torch.device("cuda:1")
    monkeypatch.setattr(build, "settle", lambda: None)
    monkeypatch.setattr(build, "load_tokenizer", lambda _: 1 / len([]))
    planned = plan(weights, model, params.TrainParams(), ArmParams(), "dpo", tmp_path / "run", tmp_path / "state")
    with pytest.raises(ZeroDivisionError):
        build.build(planned, train)
    assert taken == [torch.device("cuda:1")]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device() == torch.device("cuda:0")
