"""How much a run will write, and whether it can: tried before it trains, not when it is done."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

from curate.base.errors import OutputError
from curate.models.resolve import parameters, shapes
from curate.training.checkpoints import KEPT
from curate.training.plan import Plan

ADAM_BYTES = 12  # of a weight that trains, in a checkpoint: itself and two moments, float32


def check_room(plan: Plan) -> None:
    """Refuse a run that the disk has no room for.

    Raises:
        OutputError: `out` or `state` cannot be written, or the disk is too full for checkpoints and model.
    """
    out, state = (_ground(path) for path in (plan.out.absolute().parent, plan.state.absolute()))
    for folder in {out, state}:
        _write(folder)
    checkpoint, model = checkpoint_bytes(plan), model_bytes(plan)
    there = sum(path.stat().st_size for path in plan.checkpoints.rglob("*") if path.is_file())
    saves = math.ceil(plan.steps / plan.save_every)
    most, at_end = (min(saves, number) * checkpoint - there for number in (KEPT + 1, KEPT))
    if plan.arm.objective == "w-door":
        at_end += model
        most += model
    if out.stat().st_dev == state.stat().st_dev:
        wanted = {state: max(most, at_end + model)}
    else:
        wanted = {state: most, out: model}
    for folder, size in wanted.items():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise OutputError(
                "the disk has no room for what the run will write",
                file=folder,
                found=f"{free / 1e9:,.3f} GB free",
                expected=f"{size / 1e9:,.3f} GB: {checkpoint / 1e9:,.3f} a checkpoint, {model / 1e9:,.3f} the model",
                remedy="free space, or another --out, or another CURATE_STATE; train.checkpoints 1 keeps fewer",
            )


def checkpoint_bytes(plan: Plan) -> int:
    """Of one checkpoint, but for some kilobytes."""
    return ADAM_BYTES * (_adapter_weights(plan) if plan.params.lora_rank else parameters(plan.model))


def model_bytes(plan: Plan) -> int:
    """Of the folder that `train.save` asks for, but for its tokenizer."""
    params = plan.params
    each = 2 if params.lora_rank and params.dtype == "bfloat16" else 4
    whole = each * parameters(plan.model) if params.save != "adapter" else 0
    return whole + (4 * _adapter_weights(plan) if params.save != "merged" else 0)


def _adapter_weights(plan: Plan) -> int:
    """At most: of adapters on every matrix."""
    return plan.params.lora_rank * sum(sum(shape) for shape in shapes(plan.model.path) if len(shape) == 2)


def _ground(path: Path) -> Path:
    """The nearest folder of `path` that is there."""
    while not path.exists():
        path = path.parent
    return path


def _write(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"tried")
    except OSError as error:
        raise OutputError(
            "cannot write here", file=folder, found=error.strerror, remedy="make it writable, or choose another folder"
        ) from error
