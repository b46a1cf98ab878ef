"""A run that was killed goes on from its last checkpoint and ends in the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from transformers.trainer_utils import rotate_checkpoints

from curate.base import files
from curate.models.resolve import resolve
from curate.objectives.door import prefix_length
from curate.project import params
from curate.project.params import ArmParams
from curate.scoring.score import score
from curate.selection import relabelling
from curate.training import checkpoints
from curate.training import trainer as trainers
from curate.training.pairs import MEASURED, PairDataset
from curate.training.train import train

SHORT = params.TrainParams(
    epochs=1, batch_pairs=8, evaluations=2, eval_pairs=16, checkpoints=3, kl_prompts=4, kl_tokens=8
)
FILES = ("model/model.safetensors", "model/curate.json", "curve.csv", "rewards.parquet", "metrics.json")

TRAINERS = """
# Imports everything once; then forks a process for each line read, which trains until the moment it is to die.
import json, os, signal, sys
from pathlib import Path
import curate.base.threads
from curate.models.resolve import resolve
from curate.pairs.artefact import read_artefact
from curate.project import params
from curate.training import card
from curate.training.train import train
from curate.training.trainer import PairTrainer, ShowProgress
import peft, transformers.models.qwen2.modeling_qwen2

for line in sys.stdin:
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    weights, model, state, options, arm, step = json.loads(line)
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if step is None:
        card.model_card = die
    else:
        def on_step_end(self, args, state, control, **_):
            if state.global_step == step:
                die()
        ShowProgress.on_step_end = on_step_end
    arm, options = params.ArmParams(**arm), params.TrainParams(**options)
    frame, state = read_artefact(Path(weights)), Path(state)
    train(frame, resolve(model), options, arm, "arm", state / "never", state)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def killed(model):
    """Train in a process of its own until SIGKILL: (frame, state, options, arm, step, or None: as it writes)."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def run(frame, state, options, arm, step):
        files.write_parquet(frame, state / "weights.parquet", {})
        line = [str(state / "weights.parquet"), str(model.path), str(state)]
        print(json.dumps([*line, options.model_dump(), arm.model_dump(), step]), file=process.stdin, flush=True)
        assert int(process.stdout.readline()) == -signal.SIGKILL
        assert not (state / "never").exists()
        (checkpoints,) = (state / "checkpoints").iterdir()
        return {int(path.name.rpartition("-")[2]): path for path in checkpoints.iterdir()}

    with process:
        yield run
        process.stdin.close()


def same(one, other):
    for file in FILES:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def test_after_a_kill_and_a_torn_checkpoint(killed, weights, model, tmp_path, capsys):
    state, arm = tmp_path / "state", params.DEFAULT_ARMS["bdpo"]
    found = killed(weights, state, SHORT, arm, 5)
    assert sorted(found) == [2, 4]
    for number, file in enumerate(("trainer_state.json", "optimizer.pt", "model.safetensors"), 5):
        torn = found[4].with_name(f"checkpoint-{number}")
        shutil.copytree(found[4], torn)
        os.truncate(torn / file, 10)
    half_removed = found[4].with_name("checkpoint-9")
    shutil.copytree(found[4], half_removed)
    (half_removed / "scheduler.pt").unlink()
    train(weights, model, SHORT, arm, "arm", tmp_path / "run", state)
    assert "on from checkpoint-4" in capsys.readouterr().err
    train(weights, model, SHORT, arm, "arm", tmp_path / "whole", tmp_path / "other")
    same(tmp_path / "run", tmp_path / "whole")
    divergences = pl.read_csv(tmp_path / "run" / "curve.csv").filter(pl.col("side") == "heldout")["kl"]
    assert divergences.null_count() == 0 and divergences.n_unique() == len(divergences) == 3
    assert not list((state / "checkpoints").glob("*"))


def test_a_clock_that_was_set_back_has_no_new_checkpoint_removed(killed, weights, tmp_path):
    found = killed(weights, tmp_path, SHORT, ArmParams(), 5)
    new = found[4].with_name("checkpoint-6")
    new.mkdir()
    os.utime(new, (time.time() - 3600,) * 2)
    rotate_checkpoints(str(new.parent), save_total_limit=checkpoints.KEPT, use_mtime=True)
    assert {path.name for path in new.parent.iterdir()} == {"checkpoint-4", "checkpoint-6"}


@pytest.fixture
def drawn(monkeypatch):
    """(epoch, pair, beginning) of each refusal that training draws."""
    found = []
    get = PairDataset.__getitem__

    def watched(self, row):
        pair = get(self, row)
        if pair.refusal is not None and self.epoch != MEASURED:
            rendered = self.rendered.row(row, named=True)
            length = len(pair.refusal.prompt_ids) - len(rendered["prompt_ids"])
            found.append((self.epoch, rendered["pair_id"], len(rendered["rejected_ids"]), length))
        return pair

    monkeypatch.setattr(PairDataset, "__getitem__", watched)
    return found


def test_doors_beginnings_are_the_epochs_own_and_a_kill_in_the_second_changes_none(
    killed, weights, model, tmp_path, capsys, drawn
):
    arm = ArmParams(objective="door", settings={"longest": 20})
    options = SHORT.model_copy(update={"epochs": 2, "checkpoints": 6, "learning_rate": 1e-3})
    train(weights, model, options, arm, "arm", tmp_path / "whole", tmp_path / "other", seed=0)
    of_epoch = {epoch: {pair: length for at, pair, _, length in drawn if at == epoch} for epoch in (0, 1)}
    training = weights.filter((pl.col("split") == "train") & (pl.col("query_type") == "unsafe"))["pair_id"]
    assert {epoch for epoch, *_ in drawn} == {0, 1} and len(drawn) == 2 * len(training)
    for epoch, pair, tokens, length in drawn:
        assert length == prefix_length(pair, seed=0, epoch=epoch, harmful_tokens=tokens, longest=20)
    assert of_epoch[0].keys() == of_epoch[1].keys() == set(training)
    assert sum(of_epoch[0][pair] != of_epoch[1][pair] for pair in training) > len(training) / 3
    whole = list(drawn)
    drawn.clear()
    found = killed(weights, tmp_path / "state", options, arm, 9)  # of twelve steps, the third of the second epoch
    assert sorted(found) == [6, 8]
    train(weights, model, options, arm, "arm", tmp_path / "run", tmp_path / "state", seed=0)
    assert "on from checkpoint-8" in capsys.readouterr().err
    # What is left, in the same order, all drawn for the second epoch (the skipped batches are not rendered).
    assert drawn == whole[-len(drawn) :] and {epoch for epoch, *_ in drawn} == {1}
    same(tmp_path / "run", tmp_path / "whole")


def test_at_the_very_end_of_an_epoch(killed, weights, model, tmp_path, capsys, drawn):
    """The checkpoint of step 12 says epoch 2.0: the third epoch's beginnings follow, not the second's."""
    arm = ArmParams(objective="door")
    options = SHORT.model_copy(update={"epochs": 3, "checkpoints": 3, "evaluations": 1, "eval_pairs": 4})
    assert sorted(killed(weights, tmp_path / "state", options, arm, 13)) == [6, 12]
    train(weights, model, options, arm, "arm", tmp_path / "run", tmp_path / "state")
    assert "on from checkpoint-12" in capsys.readouterr().err and {epoch for epoch, *_ in drawn} == {2}
    train(weights, model, options, arm, "arm", tmp_path / "whole", tmp_path / "other")
    same(tmp_path / "run", tmp_path / "whole")


def test_adapters(killed, weights, model, tmp_path, capsys):
    arm, options = ArmParams(), SHORT.model_copy(update={"lora_rank": 4, "learning_rate": 1e-2, "accumulation": 2})
    found = killed(weights, tmp_path / "state", options, arm, 2)
    assert (found[1] / "adapter_model.safetensors").is_file() and not (found[1] / "model.safetensors").exists()
    train(weights, model, options, arm, "arm", tmp_path / "run", tmp_path / "state")
    assert "on from checkpoint-1" in capsys.readouterr().err
    train(weights, model, options, arm, "arm", tmp_path / "whole", tmp_path / "other")
    same(tmp_path / "run", tmp_path / "whole")


STOPPING = SHORT.model_copy(update={"epochs": 4, "evaluations": 12, "learning_rate": 1e-3, "early_stop": 3})
"""24 steps, an evaluation every second."""


@pytest.fixture(scope="module")
def mixed(weights):
    """Every other pair turned round: nothing can be learned of them but by heart."""
    return relabelling.swap(weights, pl.col("source_row") % 2 == 0)


@pytest.fixture(scope="module")
def stopped(mixed, model, tmp_path_factory):
    """(run, metrics, curve of the held-out side) of a run that stops early."""
    folder = tmp_path_factory.mktemp("stopped")
    metrics = train(mixed, model, STOPPING, ArmParams(), "arm", folder / "run", folder / "state")
    curve = pl.read_csv(folder / "run" / "curve.csv").filter(pl.col("side") == "heldout")
    return folder / "run", metrics, curve


def test_early_stop_keeps_the_best_checkpoint(stopped, mixed, tmp_path):

    run, metrics, curve = stopped
    after = curve.filter(pl.col("step") > 0)
    best = int(np.argmax(after["rewards/accuracies"]))
    assert after.height < 12, "the run was to stop early"
    assert after.height - 1 - best == STOPPING.early_stop
    kept = after.row(best, named=True)
    assert metrics["steps"] == kept["step"] < curve["step"].max()
    for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen"):
        assert metrics["heldout"][name] == kept[name] != after[name][-1] or name == "rewards/accuracies"
    # And the weights are that step's.
    heldout = mixed.filter(pl.col("split") == "heldout")
    engine = params.ScoreParams(engine="transformers")
    found = score(heldout, resolve(run / "model"), engine, tmp_path / "store").scores
    assert found["ref_chosen_logps"].mean() == pytest.approx(kept["logps/chosen"], abs=1e-4)


def test_early_stop_after_a_kill(killed, stopped, mixed, model, tmp_path):
    """After the best evaluation, and with all done but the writing."""
    run, metrics, curve = stopped
    last = int(curve["step"].max())
    assert metrics["steps"] < last - 1
    for step in (last - 1, None):
        state = tmp_path / f"state-{step}"
        killed(mixed, state, STOPPING, ArmParams(), step)
        train(mixed, model, STOPPING, ArmParams(), "arm", tmp_path / f"run-{step}", state)
        same(tmp_path / f"run-{step}", run)


def test_early_stop_with_adapters_keeps_the_best_ones(mixed, model, tmp_path):
    options = STOPPING.model_copy(update={"lora_rank": 2, "learning_rate": 0.05})
    metrics = train(mixed, model, options, ArmParams(), "arm", tmp_path / "run", tmp_path / "state")
    assert metrics["steps"] < pl.read_csv(tmp_path / "run" / "curve.csv")["step"].max()
    heldout = mixed.filter(pl.col("split") == "heldout")
    engine = params.ScoreParams(engine="transformers")
    found = score(heldout, resolve(tmp_path / "run" / "model"), engine, tmp_path / "store").scores
    assert found["ref_chosen_logps"].mean() == pytest.approx(metrics["heldout"]["logps/chosen"], abs=1e-3)


def test_what_is_no_checkpoint_of_ours_is_passed_over(tmp_path):
    for name, state in {
        "3": "[1]",
        "4": "null",
        "5": "[" * 9000,
        "6": '{"global_step": 6}',
        "x": '{"global_step": 9}',
    }.items():
        (tmp_path / f"checkpoint-{name}").mkdir()
        (tmp_path / f"checkpoint-{name}" / "trainer_state.json").write_text(state)
        (tmp_path / f"checkpoint-{name}" / checkpoints.SIZES).write_text(json.dumps({"trainer_state.json": len(state)}))
    (tmp_path / "checkpoint-7").mkdir()
    os.mkfifo(tmp_path / "checkpoint-7" / "trainer_state.json")
    assert checkpoints.last(tmp_path) == tmp_path / "checkpoint-6"


def test_patience_does_not_count_the_evaluation_before_the_first_step():
    """All rewards are zero there but for rounding, and its accuracy is chance."""
    from transformers import TrainerControl, TrainerState

    def stops(*accuracies, patience=2):
        history = []
        for number, accuracy in enumerate(accuracies):
            history.append({"eval_train_rewards/accuracies": 1.0, "step": number})
            history.append({"eval_heldout_rewards/accuracies": accuracy, "step": number})
        control = TrainerControl()
        trainers.EarlyStop(patience).on_evaluate(None, TrainerState(log_history=history), control)
        return control.should_training_stop

    assert not stops(0.9) and not stops(0.9, 0.5) and not stops(0.9, 0.5, 0.5)
    assert stops(0.9, 0.5, 0.5, 0.5) and stops(0.0, 0.5, 0.4, 0.5)
    assert not stops(0.0, 0.5, 0.4, 0.6) and not stops(0.0, 0.5, 0.4)
    assert stops(0.0, 0.5, 0.4, patience=1)
