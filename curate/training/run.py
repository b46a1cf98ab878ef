"""The steps of a run, from its last checkpoint on, and what they came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base.light import transformers
from curate.base.progress import progress, say
from curate.training import checkpoints
from curate.training.build import Built
from curate.training.curve import SIDES, curve_of, metrics_of
from curate.training.measure import means, rewards
from curate.training.plan import Plan
from curate.training.trainer import DrawAnew, EarlyStop, PairTrainer, ShowProgress


class Trained(NamedTuple):
    curve: pl.DataFrame
    rewards: pl.DataFrame  # of each pair at the end
    metrics: dict[str, Any]


def run(plan: Plan, built: Built) -> Trained:
    """Train from the last checkpoint on; the curve, the pairs' rewards and the metrics.

    Raises:
        InputError: a run that diverges, or that does not fit the device.
        OutputError: a checkpoint cannot be written.
    """
    trainer, last = built.trainer, built.last
    params, pairs = plan.params, plan.pairs
    on = f", on from {last.name}" if last else ""
    say(f"train {plan.name}: {pairs.training.height:,} pairs, {plan.steps:,} steps{on}")
    with (
        checkpoints.training_errors(plan.checkpoints),
        progress(f"train {plan.name}", plan.steps, "steps") as advance,
    ):
        advance(checkpoints.step(last) if last else 0)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(ShowProgress(advance))
        trainer.add_callback(checkpoints.NoteSizes())
        trainer.add_callback(DrawAnew(trainer.train_dataset))
        if params.early_stop:
            trainer.add_callback(EarlyStop(params.early_stop))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        at_end = trainer.state.global_step
        if not any(entry["step"] == at_end and "eval_heldout_loss" in entry for entry in trainer.state.log_history):
            trainer.evaluate()
        kept = _kept(trainer, at_end) if params.early_stop else at_end
        found = rewards(plan, built, kept)
    curve = curve_of(trainer.state.log_history, at_end, plan.steps_an_epoch)
    known = {"arm": plan.name, "seed": plan.seed, "objective": plan.arm.objective, "pairs": pairs.training.height}
    ends = {side: means(found, side) for side in SIDES} if params.measured_pairs > params.eval_pairs else {}
    return Trained(curve, found, metrics_of(curve, kept, known | {"steps": kept, **pairs.record}, ends))


def _kept(trainer: PairTrainer, at_end: int) -> int:
    """The step whose weights an early stop keeps."""
    best = trainer.state.best_model_checkpoint
    return checkpoints.step(Path(best)) if best else at_end
