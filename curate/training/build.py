"""What a run needs in memory: the policy, its pairs, the trainer over them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils import deterministic

from curate.base import memory
from curate.base.device import take_device
from curate.base.light import transformers
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import Model
from curate.project.params import TrainParams
from curate.training import checkpoints
from curate.training.aligned import Train, aligned_model, weights_by_pair
from curate.training.arguments import arguments
from curate.training.arms import DOORS
from curate.training.divergence import divergence_from
from curate.training.launched import sharded
from curate.training.pairs import Collator, PairDataset, Refusals, draw
from curate.training.plan import Plan
from curate.training.policy import add_lora, make_policy
from curate.training.reference import check_reference
from curate.training.sharding import check_one_pass
from curate.training.trainer import PairTrainer

EVALUATED = 0  # seed of the pairs that evaluations draw: the same for every arm and seed


class Built(NamedTuple):
    policy: Any
    tokenizer: Any
    trainer: PairTrainer
    last: Path | None  # the checkpoint to go on from
    measuring: Refusals | None  # DOOR's, of the pairs that are measured: one draw for every arm and seed


def build(plan: Plan, train: Train) -> Built:
    """Load the model, check it against the stored scores, and make the trainer.

    Args:
        train: for an objective that has a model trained first.

    Raises:
        UsageError: a model that does not suit FSDP, or LoRA that finds nothing to adapt.
        InputError: a model that does not load, or that is not the one that scored the pairs.
        OutputError: `state` cannot be written.
    """
    params, pairs = plan.params, plan.pairs
    take_device()
    transformers.set_seed(plan.seed)
    settle()
    tokenizer = load_tokenizer(plan.model)
    policy = plain_policy(plan.model, params)
    if sharded():
        check_one_pass(policy)
    check_reference(policy, tokenizer, draw(pairs.training, params.check_pairs, EVALUATED), params.check_tolerance)
    refusals = _refusals(plan, policy, tokenizer, train)
    # Anew: whether an aligned model was trained just now must not change the adapters' first values.
    transformers.set_seed(plan.seed)
    policy = with_adapters(policy, params)
    with checkpoints.training_errors(plan.checkpoints):
        plan.checkpoints.mkdir(parents=True, exist_ok=True)
        divergence = divergence_from(policy, tokenizer, pairs.heldout, params, plan.model, EVALUATED)
    last = checkpoints.last(plan.checkpoints, params.early_stop)
    evaluated = {"train": pairs.training, "heldout": pairs.heldout}
    measuring = refusals and refusals._replace(seed=EVALUATED)
    trainer = PairTrainer(
        objective=plan.settings.objective,
        settings=plan.settings.loss,
        beta=params.beta,
        divergence=divergence,
        model=policy,
        args=arguments(plan, resuming=last is not None),
        train_dataset=PairDataset(tokenizer, pairs.training, refusals),
        eval_dataset={
            side: PairDataset(tokenizer, draw(rows, params.eval_pairs, EVALUATED), measuring, measured=True)
            for side, rows in evaluated.items()
        },
        data_collator=Collator(alignment="chosen_alignment" in plan.settings.objective.tensors),
    )
    return Built(policy, tokenizer, trainer, last, measuring)


def plain_policy(model: Model, params: TrainParams) -> Any:
    return make_policy(load_model(model, held_in(params)), gradient_checkpointing=params.gradient_checkpointing)


def held_in(params: TrainParams) -> str:
    """The dtype of the weights in memory: what trains is float32; weights that stand still are in the dtype of the
    products, so that a 7B model with adapters needs 15 GB and not 30."""
    return params.dtype if params.lora_rank else "float32"


def with_adapters(policy: Any, params: TrainParams) -> Any:
    return add_lora(policy, params.lora_rank, params.lora_alpha, params.lora_targets) if params.lora_rank else policy


def settle() -> None:
    """Of torch for training: on CUDA deterministic kernels, as far as it has them; on a CPU freed memory is kept."""
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        deterministic.fill_uninitialized_memory = False  # else whatever is made empty is filled with NaN first
    else:
        memory.keep_freed()


def _refusals(plan: Plan, policy: Any, tokenizer: Any, train: Train) -> Refusals | None:
    """What DOOR trains on in place of the pairs' responses; None for other objectives. W-DOOR's token weights are also
    of the held-out pairs that are measured."""
    if plan.arm.objective not in DOORS:
        return None
    data = plan.settings.data
    refusals = Refusals(plan.seed, int(data["longest"]), plan.model.context)
    if plan.arm.objective == "door":
        return refusals
    aligned = aligned_model(plan, train)
    memory.give_back()  # the policy that was trained: models are full of cycles
    measured = draw(plan.pairs.heldout, plan.params.measured_pairs, EVALUATED)
    by_pair = weights_by_pair(policy, aligned, tokenizer, (plan.pairs.training, measured), data["tau"])
    memory.give_back()
    return refusals._replace(token_weights=by_pair)
