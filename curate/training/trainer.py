"""transformers.Trainer with our losses: reference log-probs come with the pairs, training runs no reference model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from curate.base.errors import InputError
from curate.base.light import transformers
from curate.base.progress import Advance
from curate.models.products.cores import Cores, adding, rounds
from curate.models.products.linear import rounding_once
from curate.objectives.registry import Objective
from curate.training.divergence import Divergence
from curate.training.pairs import NUMBERS, PairDataset
from curate.training.policy import Logps
from curate.training.sharding import keep_sums
from curate.training.shares import cost_of, shares, tokens_of

METRICS = (
    "rewards/chosen",  # beta Delta(y_w), nats, unweighted and with train.beta, so that arms compare
    "rewards/rejected",
    "rewards/margins",  # chosen - rejected
    "rewards/accuracies",  # share of pairs with chosen above rejected
    "logps/chosen",  # log pi_theta(y_w|x), nats, summed
    "logps/rejected",
)


class PairTrainer(transformers.Trainer):
    """Trains on `curate.training.pairs.Collator` batches. Evaluation reports the `METRICS` of each dataset apart.

    Args:
        beta: unit of the logged rewards.
        settings: of the objective's loss, all of them.
        divergence: estimates the held-out side's `kl`, nats; None: there is none.

    Attributes:
        measured: by dataset (`eval_heldout`) the step of its last evaluation, and loss and METRICS of each of its pairs
            then: [pairs, 7].
    """

    def __init__(
        self,
        *,
        objective: Objective,
        settings: dict[str, float],
        beta: float,
        divergence: Divergence | None = None,
        **options: Any,
    ) -> None:
        self.objective = objective
        self.settings = settings
        self.beta = beta
        self.divergence = divergence
        self.measured: dict[str, tuple[int, np.ndarray]] = {}
        super().__init__(compute_metrics=_mean_metrics, **options)
        self.cores = Cores()
        self.cost = cost_of(self.model)
        self.share_tokens = tokens_of(self.model, torch.bfloat16 if self.args.bf16 else torch.float32)
        self.in_shares = self.args.device.type == "cpu" and self.accelerator.num_processes == 1
        # The loss is already divided by the pairs of the whole step: not again by its number of batches.
        self.model_accepts_loss_kwargs = True

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            keep_sums(self.accelerator.state.fsdp_plugin)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], int]:
        """A step's batches, and how many pairs they hold over all processes.

        Each batch says how many of its own count, its first ones: where several processes share an epoch's last pairs,
        accelerate fills their batches up with the epoch's first pairs, behind all others.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        each = self.args.per_device_train_batch_size
        together = each * self.accelerator.num_processes
        for batch in batches:
            batch["counted"] = each
        pairs = together * len(batches)
        rest = len(self.train_dataset) % together
        if rest and batches and self.accelerator.gradient_state.end_of_dataloader:
            batches[-1]["counted"] = min(max(rest - each * self.accelerator.process_index, 0), each)
            pairs += rest - together
        return batches, pairs

    def tensors(self, model: Any, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What objectives may ask for (`curate.objectives.registry.TENSORS`), each [pairs]."""
        found: Logps = model(work=inputs["work"])

        def of(role: str, values: torch.Tensor) -> torch.Tensor:
            # A role that the pair does not have is at -1: zero.
            return torch.cat([values, values.new_zeros(1)])[inputs[f"{role}_at"]]

        batch = {name: inputs[name] for name in NUMBERS}
        batch |= {f"policy_{role}_logps": of(role, found["logps"]) for role in ("chosen", "rejected")}
        batch["refusal_logps"] = of("refusal", found["logps"])
        if "alignment" in found:
            batch |= {f"{role}_alignment": of(role, found["alignment"]) for role in ("chosen", "rejected")}
        return batch

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """On a CPU, in one process, the batch goes in shares, two side by side; else as Trainer does it."""
        with rounding_once():
            return self._step(model, inputs, num_items_in_batch)

    def _step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        if not self.in_shares or self.objective.of_batch or num_items_in_batch is None:
            return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[no-any-return]
        model.train()

        def backward(share: dict[str, Any]) -> torch.Tensor:
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, share, num_items_in_batch=num_items_in_batch)
            self.accelerator.backward(loss)
            return loss.detach()  # type: ignore[no-any-return]

        losses: list[torch.Tensor] = []
        for together in rounds(self._shares(self._prepare_inputs(inputs))):
            with adding(model.parameters()):
                losses += self.cores.each(backward, together)
        return torch.stack(losses).sum()

    def _shares(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        return shares(inputs, self.share_tokens, self.cost)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over the batch; within a step (`num_items_in_batch`, its pairs over all processes) the batch's share
        of the step's mean, so that each pair of a step counts the same however it is cut into batches."""
        batch = self.tensors(model, inputs)
        if num_items_in_batch is None:
            loss = self.objective.loss(batch, self.settings).mean()
        else:
            counted = {name: tensor[: inputs["counted"]] for name, tensor in batch.items()}
            # Gradients are averaged over the processes.
            share = self.objective.loss(counted, self.settings).sum() / num_items_in_batch
            loss = share * self.accelerator.num_processes
        if not torch.isfinite(loss):
            raise InputError(
                "training diverged: the loss is no finite number",
                found=f"step {self.state.global_step}",
                remedy="lower train.learning_rate or train.beta",
            )
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """(no loss, loss and METRICS [pairs, 7], labels nobody reads [pairs]).

        Trainer gathers, without the pairs that fill the last batch of several processes; `_mean_metrics` averages.
        A batch's mean loss would have those in it.
        """
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            batch = self._standing_still(model, inputs)
            loss = self.objective.loss(batch, self.settings)
        chosen, rejected = batch["policy_chosen_logps"], batch["policy_rejected_logps"]
        chosen_reward = self.beta * (chosen - batch["ref_chosen_logps"])
        rejected_reward = self.beta * (rejected - batch["ref_rejected_logps"])
        margin = chosen_reward - rejected_reward
        columns = (loss, chosen_reward, rejected_reward, margin, (margin > 0).float(), chosen, rejected)
        metrics = torch.stack([column.float() for column in columns], dim=1)
        return None, metrics, torch.zeros(len(metrics), device=metrics.device)

    def _standing_still(self, model: Any, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """`tensors`, without gradient; on a CPU in shares, too."""
        if not self.in_shares:
            return self.tensors(model, inputs)

        def tensors(share: dict[str, Any]) -> dict[str, torch.Tensor]:
            with torch.no_grad(), self.compute_loss_context_manager():
                return self.tensors(model, share)

        every = self._shares(inputs)
        with rounding_once():
            found = self.cores.each(tensors, every)
        order = torch.tensor([row for share in every for row in share["rows"]]).argsort()
        return {name: torch.cat([batch[name] for batch in found])[order] for name in found[0]}

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **options: Any) -> Any:
        found = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        self.measured[metric_key_prefix] = self.state.global_step, np.asarray(found.predictions)
        if self.divergence is not None and metric_key_prefix == "eval_heldout":
            # One process estimates, the others wait for what it finds.
            kl = [self.divergence(self.model) if self.is_world_process_zero() else None]
            found.metrics[f"{metric_key_prefix}_kl"] = broadcast_object_list(kl)[0]
        return found


def _mean_metrics(prediction: transformers.EvalPrediction) -> dict[str, float]:
    means = np.asarray(prediction.predictions, dtype=np.float64).mean(0)
    return dict(zip(("loss", *METRICS), means.tolist(), strict=True))


class ShowProgress(transformers.TrainerCallback):
    """Moves the progress bar a step on."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance()


class DrawAnew(transformers.TrainerCallback):
    """Tells the dataset which epoch it is: DOOR's beginnings are drawn for each."""

    def __init__(self, dataset: PairDataset) -> None:
        self.dataset = dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.dataset.epoch = int(state.epoch or 0)


class EarlyStop(transformers.TrainerCallback):
    """Stops after `patience` evaluations in a row without a higher held-out reward accuracy."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The history, not a count of our own: a resumed run goes on from it.
        if stopped(state.log_history, self.patience):
            control.should_training_stop = True


def stopped(history: list[dict[str, Any]], patience: int) -> bool:
    """Whether `patience` evaluations have followed the best one; the one before the first step does not count."""
    name = "eval_heldout_rewards/accuracies"
    values = [entry[name] for entry in history if name in entry and entry["step"] > 0]
    return bool(values) and len(values) - 1 - int(np.argmax(values)) >= patience
