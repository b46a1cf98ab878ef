"""Weighted pairs -> a trained arm: model folder, learning curve, metrics."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, TrainingArguments, set_seed

from curate import __version__, files
from curate.errors import InputError, OutputError, UsageError
from curate.models import Model
from curate.params import ArmParams, TrainParams
from curate.progress import progress, say
from curate.rendering import load_tokenizer
from curate.scoring.forward import pad, response_logps
from curate.scoring.transformers import load_model
from curate.training.pairs import NUMBERS, PairDataset, collate, draw, select
from curate.training.trainer import METRICS, PairTrainer, ShowProgress

SIDES = ("train", "heldout")
METRICS_FILE = "metrics.json"


def train(
    weights: pl.DataFrame,
    model: Model,
    params: TrainParams,
    arm: ArmParams,
    name: str,
    out: Path,
    state: Path,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train one arm and write `out`/model, `out`/curve.csv and `out`/metrics.json; returns the metrics.

    Checkpoints lie in `state`, under a digest of all that decides the result; a run that was interrupted goes
    on from its last one, and they are removed when the run is written.

    Args:
        weights: columns schema.PAIRS, SCORES, SPLITS and WEIGHTS, scored by `model`.
        name: of the arm, for the record.
        provenance: of `weights`, for the model's folder.

    Raises:
        InputError: no pairs, reference log-probs that are not this model's, or a run that diverges.
        OutputError: `out` or `state` cannot be written.
    """
    files.check_replaceable(out, METRICS_FILE)
    set_seed(params.seed)
    if torch.cuda.is_available():
        # Same params, same bytes, as far as CUDA has deterministic kernels.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    tokenizer = load_tokenizer(model)
    training, heldout = select(weights, arm)
    policy = load_model(model, "float32")
    policy.config.use_cache = False
    check_reference(policy, tokenizer, draw(training, params.check_pairs, params.seed), params.check_tolerance)

    checkpoints = state / "checkpoints" / _digest(training, heldout, model, params, arm)
    with _training_errors(checkpoints):
        checkpoints.mkdir(parents=True, exist_ok=True)
    last = _last_checkpoint(checkpoints)
    steps_an_epoch = math.ceil(math.ceil(training.height / params.batch_pairs) / params.accumulation)
    steps = steps_an_epoch * params.epochs
    say(f"train {name}: {training.height:,} pairs, {steps:,} steps" + (f", on from {last.name}" if last else ""))
    trainer = PairTrainer(
        beta=params.beta,
        model=policy,
        args=_arguments(params, steps, checkpoints, resuming=last is not None),
        train_dataset=PairDataset(tokenizer, training),
        eval_dataset={
            "train": PairDataset(tokenizer, draw(training, params.eval_pairs, params.seed)),
            "heldout": PairDataset(tokenizer, draw(heldout, params.eval_pairs, params.seed)),
        },
        data_collator=collate,
    )
    with _training_errors(checkpoints), progress(f"train {name}", steps, "steps") as advance:
        advance(int(last.name.rpartition("-")[2]) if last else 0)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ShowProgress(advance))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if not any(entry["step"] == steps and "eval_heldout_loss" in entry for entry in trainer.state.log_history):
            trainer.evaluate()
    curve = _curve(trainer.state.log_history, steps, steps_an_epoch)
    metrics = _metrics(curve, name, training.height, steps)
    with files.replacing(out, METRICS_FILE) as folder:
        policy.config.use_cache = True
        policy.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        record = {
            "arm": name,
            "version": __version__,
            "model": model.record(),
            "from": dict(provenance or {}),
        }
        record |= {"train": params.model_dump(exclude={"arms"}), "settings": arm.model_dump()}
        files.write_json(record, folder / "model" / "curate.json")
        curve.write_csv(folder / "curve.csv")
        files.write_json(metrics, folder / METRICS_FILE)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return metrics


@torch.inference_mode()
def check_reference(policy: Any, tokenizer: Any, rows: pl.DataFrame, tolerance: float) -> None:
    """Recompute the reference log-probs of `rows` with the policy before its first step.

    Raises:
        InputError: they differ from the stored ones by more than `tolerance` nats/token in the mean: then the
            pairs were scored by another model, template or dtype, and the loss would start from a wrong ratio.
    """
    policy.eval()
    dataset = PairDataset(tokenizer, rows)
    differences = []
    for row in range(len(dataset)):
        pair = dataset[row]
        batch = pad([pair.chosen, pair.rejected]).to(next(policy.parameters()).device)
        stored = np.array(pair.numbers[:2])
        difference = np.abs(response_logps(policy, batch).double().cpu().numpy() - stored)
        differences.append(difference / batch.response_lengths.cpu().numpy())
    mean = float(np.mean(differences))
    if not mean <= tolerance:
        raise InputError(
            "the stored reference log-probs are not this model's",
            field="ref_chosen_logps, ref_rejected_logps",
            found=f"mean difference {mean:.2g} nats/token over {len(dataset)} pairs",
            expected=f"at most train.check_tolerance = {tolerance:g}",
            remedy="train from the model that scored the pairs, or score again with this one; "
            "scores in bfloat16 want a tolerance of about 2e-2",
        )


def _arguments(params: TrainParams, steps: int, checkpoints: Path, *, resuming: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        use_cpu=not torch.cuda.is_available(),
        bf16=params.dtype == "bfloat16",
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_pairs,
        per_device_eval_batch_size=params.batch_pairs,
        gradient_accumulation_steps=params.accumulation,
        gradient_checkpointing=params.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=params.learning_rate,
        lr_scheduler_type=params.scheduler if params.scheduler != "constant" else "constant_with_warmup",
        warmup_steps=round(params.warmup_fraction * steps),
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        optim="adamw_torch",
        seed=params.seed,
        data_seed=params.seed,
        eval_strategy="steps",
        eval_steps=max(1, steps // params.evaluations),
        eval_on_start=not resuming,
        save_strategy="steps",
        save_steps=max(1, steps // params.checkpoints),
        save_total_limit=2,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.world_size > 1:
        raise UsageError("training runs in one process", found=f"{arguments.world_size} processes", expected="1")
    if arguments.n_gpu > 1:
        # One process, one device: with nn.DataParallel a step would take batch_pairs from each GPU.
        arguments._n_gpu = 1
    return arguments


@contextmanager
def _training_errors(folder: Path) -> Iterator[None]:
    """The ways in which the trainer fails on the machine's limits, each as one clear message."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            "training does not fit the device's memory",
            found=str(error).splitlines()[0],
            remedy="lower train.batch_pairs (and raise train.accumulation), or set train.gradient_checkpointing",
        ) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        raise OutputError(
            "cannot write a checkpoint",
            file=folder,
            found=str(error).splitlines()[0],
            remedy="free space or make the folder writable, then run the same command: it goes on from the last one",
        ) from error


def _digest(training: pl.DataFrame, heldout: pl.DataFrame, model: Model, params: TrainParams, arm: ArmParams) -> str:
    """Of everything that decides the result."""
    digest = hashlib.sha256()
    record = [__version__, model.digest, params.model_dump(exclude={"arms"}), arm.model_dump()]
    digest.update(json.dumps(record, sort_keys=True).encode())
    for rows in (training, heldout):
        digest.update(rows.select("pair_id", *NUMBERS).write_csv().encode())
    return digest.hexdigest()[:16]


def _last_checkpoint(folder: Path) -> Path | None:
    """The latest whole checkpoint; Trainer writes trainer_state.json last, so one without it is torn."""

    def whole(checkpoint: Path) -> bool:
        try:
            return bool(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])
        except (OSError, ValueError, KeyError):
            return False

    found = [path for path in folder.glob("checkpoint-*") if whole(path)]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _curve(history: list[dict[str, Any]], steps: int, steps_an_epoch: int) -> pl.DataFrame:
    """One row an evaluation and side: step, epoch, side, loss, METRICS."""
    rows = {
        (entry["step"], side): {
            "step": entry["step"],
            "epoch": entry["step"] / steps_an_epoch,
            "side": side,
            "loss": entry[f"eval_{side}_loss"],
            **{name: entry[f"eval_{side}_{name}"] for name in METRICS},
        }
        for entry in history
        for side in SIDES
        if f"eval_{side}_loss" in entry
    }
    assert (0, "heldout") in rows and rows, "no evaluation before the first step"
    return pl.DataFrame(list(rows.values())).sort("step", "side").filter(pl.col("step") <= steps)


def _metrics(curve: pl.DataFrame, name: str, pairs: int, steps: int) -> dict[str, Any]:
    """metrics.json: the last evaluation of each side, the one before the first step, and the overfitting gap."""

    def at(step: Any, side: str) -> dict[str, float]:
        row = curve.filter((pl.col("step") == step) & (pl.col("side") == side)).row(0, named=True)
        return {key: row[key] for key in ("loss", *METRICS)}

    last = curve["step"].max()
    metrics: dict[str, Any] = {"arm": name, "pairs": pairs, "steps": steps}
    metrics |= {side: at(last, side) for side in SIDES} | {"start": at(0, "heldout")}
    # How much better the arm does on what it saw (METHOD 6).
    metrics["overfitting"] = {
        key: metrics["train"][f"rewards/{key}"] - metrics["heldout"][f"rewards/{key}"]
        for key in ("margins", "accuracies")
    }
    return metrics
