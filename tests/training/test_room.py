"""What a run will write is tried before a model loads; what is infinite in params is written so that it reads back."""

import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from curate.base import files
from curate.base.errors import InputError, OutputError
from curate.project import params
from curate.project.params import ArmParams, TrainParams
from curate.training import build, checkpoints, room
from curate.training.plan import plan
from curate.training.train import train

SHORT = TrainParams(epochs=1, batch_pairs=16, evaluations=1, eval_pairs=4, check_pairs=2, checkpoints=1, kl_prompts=0)


@pytest.fixture
def never(monkeypatch):
    """Nothing may load."""
    monkeypatch.setattr(build, "load_tokenizer", lambda *_: pytest.fail("loaded"))


@pytest.mark.parametrize(
    "changes", [{}, {"lora_rank": 4}, {"lora_rank": 4, "dtype": "bfloat16", "save": "both"}], ids=str
)
def test_the_estimate_is_what_a_run_writes(changes, weights, model, tmp_path, monkeypatch):
    """But for the tokenizer and some kilobytes; adapters on every matrix are an upper bound."""
    options = SHORT.model_copy(update={**changes, "check_tolerance": 0.05})
    given = (weights, model, options, ArmParams(), "dpo", tmp_path / "run", tmp_path / "state")
    planned = plan(*given)
    expected, found = room.checkpoint_bytes(planned), []

    def look(folder, **_):
        found.extend(path.stat().st_size for path in folder.rglob("checkpoint-*/*"))

    monkeypatch.setattr("curate.training.save.shutil.rmtree", look)
    train(*given)
    saved = (tmp_path / "run" / "model").rglob("*.safetensors")
    loose = 1.0 if not changes else 0.5
    assert loose * expected <= sum(found) < expected + 200_000
    written = sum(path.stat().st_size for path in saved)
    assert loose * room.model_bytes(planned) <= written < room.model_bytes(planned) + 40_000


@pytest.mark.usefixtures("never")
def test_a_disk_that_is_too_full(weights, model, tmp_path, monkeypatch):
    given = (weights, model, SHORT, ArmParams(), "dpo", tmp_path / "run", tmp_path / "state")
    need = room.checkpoint_bytes(plan(*given)) + room.model_bytes(plan(*given))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=need - 1))
    with pytest.raises(OutputError, match="no room for what the run will write") as caught:
        train(*given)
    assert caught.value.details["expected"].startswith(f"{need / 1e9:.3f} GB") and not (tmp_path / "state").exists()
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=need))
    room.check_room(plan(*given))
    # What a run that was interrupted has written is not written again.
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=need - 1000))
    folder = plan(*given).checkpoints / "checkpoint-3"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    room.check_room(plan(*given))


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize("which", ["run", "state"])
def test_a_folder_that_cannot_be_written(which, weights, model, tmp_path):
    (tmp_path / "file").write_text("")
    places = {"run": tmp_path / "run", "state": tmp_path / "state"} | {which: tmp_path / "file" / "below"}
    with pytest.raises(OutputError, match={"run": "a file stands where", "state": "cannot write here"}[which]):
        train(weights, model, SHORT, ArmParams(), "dpo", places["run"], places["state"])


def test_never_clip_is_recorded_and_reads_back(weights, model, tmp_path):
    arm = ArmParams(train={"max_grad_norm": math.inf})
    train(weights, model, SHORT, arm, "dpo", tmp_path / "run", tmp_path / "state")
    folder = tmp_path / "run" / "model"
    record = files.read_json(folder / "curate.json")
    assert record["train"]["max_grad_norm"] == record["settings"]["train"]["max_grad_norm"] == "inf"
    assert TrainParams.model_validate(record["train"]).max_grad_norm == math.inf
    assert ArmParams.model_validate(record["settings"]).training(SHORT).max_grad_norm == math.inf
    given = yaml.safe_load(params.to_yaml(params.Params()).replace("max_grad_norm: 1.0", "max_grad_norm: .inf"))
    assert params.Params.model_validate(given).train.max_grad_norm == math.inf
    # And it does not clip: a norm that no gradient reaches gives the same bytes.
    large = SHORT.model_copy(update={"max_grad_norm": 1e30})
    train(weights, model, large, ArmParams(), "dpo", tmp_path / "large", tmp_path / "state")
    paths = [Path(tmp_path / name / "model" / "model.safetensors") for name in ("run", "large")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_in_training_is_told_with_what_to_lower(tmp_path, error):
    with pytest.raises(InputError, match="training does not fit") as caught, checkpoints.training_errors(tmp_path):
        raise error
    assert "train.batch_pairs" in caught.value.details["remedy"]
    with pytest.raises(RuntimeError, match="shapes"), checkpoints.training_errors(tmp_path):
        raise RuntimeError("shapes")


def test_a_checkpoint_cut_short_is_told(tmp_path):
    """In torch's words, where a file may not grow on: a limit of its size, or a full disk."""
    words = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"
    with pytest.raises(OutputError, match="cannot write a checkpoint"), checkpoints.training_errors(tmp_path):
        raise RuntimeError(words)
