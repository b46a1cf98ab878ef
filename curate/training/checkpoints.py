"""Checkpoints: which run one is of, whose it is, which is the last whole one, and why none can be written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import PartialState
from safetensors import SafetensorError

from curate.base import files, locks, memory
from curate.base.errors import InputError, OutputError, first_line
from curate.base.light import transformers
from curate.models.resolve import Model
from curate.objectives.registry import OBJECTIVES
from curate.project.params import IDLE_KEYS, PIPELINE_KEYS, ArmParams, TrainParams
from curate.training import code
from curate.training.arms import Pairs
from curate.training.launched import first, processes, sharded
from curate.training.pairs import NUMBERS
from curate.training.trainer import stopped

KEPT = 2  # of a run at most; while one is written there is one more
SIZES = "sizes.json"  # in a checkpoint: its other files and their sizes, written last


def key(pairs: Pairs, model: Model, params: TrainParams, arm: ArmParams, seed: int) -> str:
    """SETTINGS-CODE: digests of everything that decides a run's result.

    How it was launched is among that where it matters: shards have checkpoints of another form, and the losses of a
    pass as a whole are the processes' own. Other runs end the same however many processes they have.
    """
    digest = hashlib.sha256()
    shared = params.model_dump(exclude={*PIPELINE_KEYS, *IDLE_KEYS})
    record: list[Any] = [model.digest, model.tokenizer_digest, shared, arm.model_dump(exclude={"train"}), seed]
    if sharded():
        record.append("in shards")
    if OBJECTIVES[arm.objective].of_batch and processes() > 1:
        record.append({"processes": processes()})
    digest.update(json.dumps(record, sort_keys=True).encode())
    read = (*NUMBERS, "chosen_safe", "rejected_safe")
    for rows in (pairs.training, pairs.heldout):
        known = rows.select("pair_id", *(name for name in read if name in rows.columns))
        digest.update(known.write_csv().encode())
    return f"{digest.hexdigest()[:16]}-{code.code_digest()}"


@contextmanager
def alone(state: Path, key: str, doing: str = "trains this very arm", *, wait: bool = False) -> Iterator[None]:
    """Within this block no other run in `state` has the key. Of a run's processes the first one sees to it.

    Raises:
        locks.Held: another has it.
    """
    if not first():
        yield
        return
    with locks.held(state / "locks" / key, doing, wait=wait):
        yield


def remove_superseded(folder: Path, state: Path) -> None:
    """Remove what lies beside `folder`, which is named by its key, of the same settings and other code.

    But for what a run holds just now: one of another installed version.
    """
    if not first():
        return
    for other in folder.parent.glob(f"{folder.name.partition('-')[0]}-*"):
        if other.name != folder.name:
            with suppress(locks.Held), alone(state, other.name):
                shutil.rmtree(other, ignore_errors=True)


class NoteSizes(transformers.TrainerCallback):
    """Notes in each checkpoint, once every process has written its part, what files it has and of what size."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (checkpoint / SIZES).write_text(json.dumps(_sizes(checkpoint)))
            # Trainer removes what the clock calls the oldest: one that was set back would have it remove the newest.
            os.utime(checkpoint, (state.global_step, state.global_step))


def _sizes(checkpoint: Path) -> dict[str, int]:
    """Bytes of each of its files, by its path within."""
    found = {path.relative_to(checkpoint).as_posix(): path for path in checkpoint.rglob("*") if path.is_file()}
    return {name: path.stat().st_size for name, path in found.items() if name != SIZES}


def last(folder: Path, patience: int = 0) -> Path | None:
    """The latest whole checkpoint: with every file that it had, in its size. Trainer would go on without an optimizer's
    state, and end elsewhere.

    With `patience`, the latest before an early stop: Trainer would take a step from the one that stopped.
    """

    def good(checkpoint: Path) -> bool:
        try:
            if files.read_json(checkpoint / SIZES) != _sizes(checkpoint):
                return False
            state = files.read_json(checkpoint / "trainer_state.json")
            return bool(state["global_step"]) and not (patience and stopped(state["log_history"], patience))
        except (InputError, ValueError, KeyError, TypeError, AttributeError):
            return False

    named = (path for path in folder.glob("checkpoint-*") if re.fullmatch(r"[0-9]+", path.name.rpartition("-")[2]))
    return max((path for path in named if good(path)), key=step, default=None)


def step(checkpoint: Path) -> int:
    """Of how many steps it is."""
    return int(checkpoint.name.rpartition("-")[2])


@contextmanager
def training_errors(folder: Path) -> Iterator[None]:
    """The ways in which training into `folder` fails on the machine's limits, each as one clear message."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if memory.no_room(error):
            raise InputError(
                "training does not fit the device's memory",
                found=first_line(error),
                remedy="lower train.batch_pairs (and raise train.accumulation), or set train.gradient_checkpointing; "
                "train.kl_prompts 0 holds no second copy of the model",
            ) from error
        if isinstance(error, RuntimeError) and not re.search(r"PytorchStreamWriter|inline_container\.cc", str(error)):
            raise
        raise OutputError(
            "cannot write a checkpoint",
            file=folder,
            found=first_line(error),
            remedy="free space or make the folder writable, then run the same command: it goes on from the last one",
        ) from error
