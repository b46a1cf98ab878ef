"""Our params as transformers' Trainer takes them."""

from __future__ import annotations

import torch

from curate.base.light import transformers
from curate.training.checkpoints import KEPT
from curate.training.launched import processes
from curate.training.plan import Plan

OPTIMIZER = "adamw_torch_fused"  # as transformers names it
EVALUATED_TOGETHER = 64
ORDERS_APART = 1_000_003
"""Between the seeds of two runs' orders of the pairs. accelerate orders an epoch by this seed plus the epoch's number:
were it the run's own, epochs 1, 2, ... of seed 0 would have the orders of epochs 0, 1, ... of seed 1."""


def arguments(plan: Plan, *, resuming: bool) -> transformers.TrainingArguments:
    params, seed, every = plan.params, plan.seed, plan.evaluate_every
    found = transformers.TrainingArguments(
        output_dir=str(plan.checkpoints),
        use_cpu=not torch.cuda.is_available(),
        bf16=params.dtype == "bfloat16",
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_pairs // processes(),
        per_device_eval_batch_size=_evaluated_together(plan),
        gradient_accumulation_steps=params.accumulation,
        learning_rate=params.learning_rate,
        lr_scheduler_type=params.scheduler if params.scheduler != "constant" else "constant_with_warmup",
        warmup_steps=round(params.warmup_fraction * plan.steps),
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        optim=OPTIMIZER,
        seed=seed,
        data_seed=seed * ORDERS_APART,
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=not resuming,
        save_strategy="steps",
        save_steps=plan.save_every,
        save_total_limit=KEPT,
        load_best_model_at_end=bool(params.early_stop),
        metric_for_best_model="eval_heldout_rewards/accuracies" if params.early_stop else None,
        greater_is_better=True if params.early_stop else None,
        logging_strategy="steps" if params.report_to else "no",
        logging_steps=every,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        report_to=params.report_to or "none",
        disable_tqdm=True,
        ddp_find_unused_parameters=True,  # a vision tower beside the texts, an expert that no token came to
    )
    if found.n_gpu > 1:
        # One process, one device: with nn.DataParallel a step would take batch_pairs from each GPU.
        found._n_gpu = 1
    return found


def _evaluated_together(plan: Plan) -> int:
    """Pairs in a batch of an evaluation: on a CPU several of training's, as they run in shares anyhow."""
    each = plan.params.batch_pairs // processes()
    in_shares = processes() == 1 and not torch.cuda.is_available() and not plan.settings.objective.of_batch
    return max(each, EVALUATED_TOGETHER) if in_shares else each
