"""transformers.Trainer with our loss: reference log-probs come with the pairs, no reference model in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, Trainer, TrainerCallback

from curate.errors import InputError
from curate.objectives.bdpo import Losses, bdpo
from curate.progress import Advance
from curate.scoring.forward import Batch, response_logps

METRICS = (
    "rewards/chosen",  # beta Delta(y_w), nats, unweighted, so that arms compare
    "rewards/rejected",
    "rewards/margins",  # chosen - rejected
    "rewards/accuracies",  # share of pairs with chosen above rejected
    "logps/chosen",  # log pi_theta(y_w|x), nats, summed
    "logps/rejected",
)


class PairTrainer(Trainer):
    """Trains on `curate.training.pairs` batches. Evaluation reports the `METRICS` of each dataset apart."""

    def __init__(self, *, beta: float, **options: Any) -> None:
        self.beta = beta
        super().__init__(compute_metrics=_mean_metrics, **options)
        # The loss is a mean over the batch: accumulation divides it by the number of batches.
        self.model_accepts_loss_kwargs = False

    def pair_losses(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[Losses, torch.Tensor, torch.Tensor]:
        """(losses, log pi(y_w|x), log pi(y_l|x)), each [pairs]."""
        logps = response_logps(model, Batch(*(inputs[name] for name in Batch._fields)))
        chosen, rejected = logps.chunk(2)
        losses = bdpo(
            chosen,
            rejected,
            inputs["ref_chosen_logps"],
            inputs["ref_rejected_logps"],
            inputs["chosen_weight"],
            inputs["rejected_weight"],
            inputs["pair_scale"],
            beta=self.beta,
        )
        return losses, chosen.detach(), rejected.detach()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        losses, _, _ = self.pair_losses(model, inputs)
        loss = losses.loss.mean()
        if not torch.isfinite(loss):
            raise InputError(
                "training diverged: the loss is no finite number",
                found=f"step {self.state.global_step}",
                remedy="lower train.learning_rate or train.beta",
            )
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(mean loss, METRICS [pairs, 6], labels nobody reads [pairs]): Trainer gathers, `_mean_metrics` averages."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            losses, chosen, rejected = self.pair_losses(model, inputs)
        margin = losses.chosen_rewards - losses.rejected_rewards
        columns = (
            losses.chosen_rewards,
            losses.rejected_rewards,
            margin,
            (margin > 0).float(),
            chosen,
            rejected,
        )
        metrics = torch.stack([column.float() for column in columns], dim=1)
        return losses.loss.mean().detach(), metrics, torch.zeros(len(metrics), device=metrics.device)


def _mean_metrics(prediction: EvalPrediction) -> dict[str, float]:
    means = np.asarray(prediction.predictions, dtype=np.float64).mean(0)
    return dict(zip(METRICS, means.tolist(), strict=True))


class ShowProgress(TrainerCallback):
    """Moves the progress bar a step on."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance()
