"""What can be refused before a model loads, beyond what the plan itself refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import torch

from curate.base import files
from curate.base.errors import UsageError
from curate.base.light import transformers
from curate.project.params import TrainParams
from curate.training.curve import RUN
from curate.training.launched import processes, sharded
from curate.training.plan import Plan
from curate.training.record import record_of
from curate.training.room import check_room


def check(plan: Plan) -> None:
    """Refuse what can be refused before a model loads.

    Raises:
        UsageError: a batch that the processes cannot share, FSDP without GPUs or of version 1, a log that cannot be
            kept.
        OutputError: `out` is a folder that is not ours, or what the run writes cannot be written.
    """
    files.check_replaceable(plan.out, RUN)
    check_processes(plan.params)
    _check_logs(plan.params.report_to)
    _check_save(plan)
    json.dumps(record_of(plan), allow_nan=False)  # a fault of ours, should it fail: better now than after training
    check_room(plan)


def check_processes(params: TrainParams) -> None:
    if params.batch_pairs % processes():
        raise UsageError(
            "the processes cannot share a batch evenly",
            field="train.batch_pairs",
            found=f"{params.batch_pairs} pairs, {processes()} processes",
            expected=f"a multiple of {processes()}",
        )
    if sharded() and not torch.cuda.is_available():
        raise UsageError("FSDP needs GPUs", field="train.accelerate", remedy="use configs/ddp.yaml on a CPU")
    if sharded() and os.environ.get("FSDP_VERSION", "1") != "2":
        raise UsageError(
            "training needs FSDP version 2",
            field="train.accelerate",
            found=f"fsdp_version {os.environ.get('FSDP_VERSION', '1')}",
            expected="fsdp_version: 2, as in configs/fsdp.yaml",
        )


def _check_save(plan: Plan) -> None:
    if plan.params.save != "merged" and (not plan.params.lora_rank or plan.model.adapter):
        raise UsageError(
            "there is no adapter that could be saved by itself",
            field="train.save",
            found=f"{plan.params.save}, and " + ("a base that is an adapter" if plan.model.adapter else "no LoRA"),
            expected="merged",
            remedy="train.lora_rank 16, for one, trains adapters; of a base that is an adapter the whole is saved",
        )


def _check_logs(names: Sequence[str]) -> None:
    known = transformers.integrations.get_available_reporting_integrations()
    for name in names:
        if name not in known:
            raise UsageError(
                "this logging integration is not installed",
                field="train.report_to",
                found=name,
                expected=f"what is installed: {', '.join(known) or 'nothing is'}",
            )
