"""Weighted pairs -> a trained arm: model folder, learning curve, metrics."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations

from curate import __version__
from curate.base import files, memory
from curate.base.errors import InputError, OutputError, UsageError
from curate.base.progress import progress, say
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import Model, resolve
from curate.objectives.door import token_weights
from curate.pairs.identity import digest
from curate.project.params import ArmParams, TrainParams, WeighParams
from curate.training import arms, card
from curate.training.divergence import divergence_from
from curate.training.pairs import NUMBERS, Collator, PairDataset, Refusals, draw
from curate.training.policy import add_lora, as_plain, make_policy, token_logps_of
from curate.training.trainer import METRICS, DrawAnew, EarlyStop, PairTrainer, ShowProgress, stopped
from curate.training.work import Work

SIDES = ("train", "heldout")
METRICS_FILE = "metrics.json"
CURVE_FILE = "curve.csv"  # what tells a run from other folders with metrics: an evaluation, a report
EVALUATED = 0  # seed of the pairs that evaluations draw: the same for every arm and seed


def train(
    weights: pl.DataFrame,
    model: Model,
    params: TrainParams,
    arm: ArmParams,
    name: str,
    out: Path,
    state: Path,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train one arm and write `out`/model, `out`/curve.csv and `out`/metrics.json; returns the metrics.

    Checkpoints lie in `state`, under a digest of all that decides the result; a run that was interrupted goes
    on from its last one, and they are removed when the run is written. Under `accelerate launch` every process calls
    this and the first one writes.

    Args:
        weights: columns schema.PAIRS, SCORES, SPLITS and WEIGHTS, scored by `model`.
        params: what the arms share.
        name: of the arm, for the record.
        provenance: of `weights`, for the model's folder.
        seed: of the order of the pairs, and of what an objective draws.

    Raises:
        UsageError: a setting that the objective does not have, or a batch that the processes cannot share.
        InputError: no pairs, labels or ratings that the objective needs, reference log-probs that are not this
            model's, or a run that diverges.
        OutputError: `out` or `state` cannot be written.
    """
    files.check_replaceable(out, CURVE_FILE)
    provenance = dict(provenance or {})
    params = arm.training(params)
    planned = arms.plan(arm, params)
    _processes(params)
    _check_logs(params.report_to)
    weigh_params = WeighParams.model_validate(
        provenance.get("params", {}) if provenance.get("stage") == "weigh" else {}
    )
    pairs = arms.select(weights, arm, planned, weigh_params, seed)

    set_seed(seed)
    if torch.cuda.is_available():
        # Same params, same bytes, as far as CUDA has deterministic kernels.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:
        memory.keep_freed()
    tokenizer = load_tokenizer(model)
    policy = make_policy(load_model(model, held_in(params)), gradient_checkpointing=params.gradient_checkpointing)
    check_reference(policy, tokenizer, draw(pairs.training, params.check_pairs, EVALUATED), params.check_tolerance)
    checkpoints = state / "checkpoints" / _digest(pairs, model, params, arm, seed)
    refusals = None
    if arm.objective in ("door", "w-door"):
        refusals = Refusals(seed, int(planned.data["longest"]))
        if arm.objective == "w-door":
            aligned = _aligned(weights, model, params, arm, state, provenance, seed)
            by_pair = _token_weights(policy, aligned, tokenizer, pairs.training, planned.data["tau"])
            refusals = refusals._replace(token_weights=by_pair)
    # Anew: whether an aligned model was trained just now must not change the adapters' first values.
    set_seed(seed)
    policy = _with_adapters(policy, params)

    with _training_errors(checkpoints):
        checkpoints.mkdir(parents=True, exist_ok=True)
        divergence = divergence_from(policy, tokenizer, pairs.heldout, params, model, EVALUATED)
    last = _last_checkpoint(checkpoints, params.early_stop)
    steps_an_epoch = math.ceil(math.ceil(pairs.training.height / params.batch_pairs) / params.accumulation)
    steps = steps_an_epoch * params.epochs
    say(f"train {name}: {pairs.training.height:,} pairs, {steps:,} steps" + (f", on from {last.name}" if last else ""))
    dataset = PairDataset(tokenizer, pairs.training, refusals)
    trainer = PairTrainer(
        objective=planned.objective,
        settings=planned.loss,
        beta=params.beta,
        divergence=divergence,
        model=policy,
        args=_arguments(params, steps, checkpoints, seed, resuming=last is not None),
        train_dataset=dataset,
        eval_dataset={
            "train": PairDataset(tokenizer, draw(pairs.training, params.eval_pairs, EVALUATED)),
            "heldout": PairDataset(tokenizer, draw(pairs.heldout, params.eval_pairs, EVALUATED)),
        },
        data_collator=Collator(alignment="chosen_alignment" in planned.objective.tensors),
    )
    with _training_errors(checkpoints), progress(f"train {name}", steps, "steps") as advance:
        advance(int(last.name.rpartition("-")[2]) if last else 0)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ShowProgress(advance))
        trainer.add_callback(DrawAnew(dataset))
        if params.early_stop:
            trainer.add_callback(EarlyStop(params.early_stop))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        at_end = trainer.state.global_step
        if not any(entry["step"] == at_end and "eval_heldout_loss" in entry for entry in trainer.state.log_history):
            trainer.evaluate()
    curve = _curve(trainer.state.log_history, at_end, steps_an_epoch)
    kept = at_end
    if params.early_stop and trainer.state.best_model_checkpoint:
        kept = int(Path(trainer.state.best_model_checkpoint).name.rpartition("-")[2])
    metrics = _metrics(curve, name, seed, arm.objective, pairs, kept)
    gathered = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if trainer.is_world_process_zero():
        if gathered is not None:
            # What the processes hold are shards: the whole goes into a model of its own.
            policy = _with_adapters(make_policy(load_model(model, held_in(params))), params)
            policy.load_state_dict(gathered)
        record = {
            "arm": name,
            "seed": seed,
            "version": __version__,
            "model": model.record(),
            "from": provenance,
            "data": _data(pairs),
            "train": params.model_dump(exclude={"arms", "seeds"}),
            "settings": arm.record() | {"settings": planned.record()},
        }
        with files.replacing(out, CURVE_FILE) as folder:
            as_plain(trainer.accelerator.unwrap_model(policy)).save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            files.write_json(record, folder / "model" / "curate.json")
            (folder / "model" / "README.md").write_text(card.model_card(record, metrics), encoding="utf-8")
            curve.write_csv(folder / CURVE_FILE)
            files.write_json(metrics, folder / METRICS_FILE)
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return metrics


@torch.no_grad()
def check_reference(policy: Any, tokenizer: Any, rows: pl.DataFrame, tolerance: float) -> None:
    """Recompute the reference log-probs of `rows` with the policy before its first step.

    Raises:
        InputError: they differ from the stored ones by more than `tolerance` nats/token in the mean: then the
            pairs were scored by another model, template or dtype, and the loss would start from a wrong ratio.
    """
    dataset = PairDataset(tokenizer, rows)
    differences = []
    for row in range(len(dataset)):
        pair = dataset[row]
        sequences = [sequence for sequence in (pair.chosen, pair.rejected) if sequence is not None]
        found = policy(work=Work(sequences))["logps"].double().cpu().numpy()
        tokens = np.array([len(sequence.response_ids) for sequence in sequences])
        differences.append(np.abs(found - np.array(pair.numbers[:2])) / tokens)
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


def held_in(params: TrainParams) -> str:
    """The dtype of the weights in memory: what trains is float32; weights that stand still are in the dtype of the
    products, so that a 7B model with adapters needs 15 GB and not 30."""
    return params.dtype if params.lora_rank else "float32"


def _with_adapters(policy: Any, params: TrainParams) -> Any:
    return add_lora(policy, params.lora_rank, params.lora_alpha, params.lora_targets) if params.lora_rank else policy


def _aligned(
    weights: pl.DataFrame,
    model: Model,
    params: TrainParams,
    arm: ArmParams,
    state: Path,
    provenance: dict[str, Any],
    seed: int,
) -> Model:
    """W-DOOR's pi*: the DPO arm of the same pairs, params and seed, trained once and kept in `state`."""
    dpo = ArmParams(subset=arm.subset)
    params = params.model_copy(update={"kl_prompts": 0})  # of which nobody reads the curve
    planned = arms.plan(dpo, params)
    pairs = arms.select(weights, dpo, planned, WeighParams(), seed)
    folder = state / "aligned" / _digest(pairs, model, params, dpo, seed)
    if not (folder / METRICS_FILE).is_file():
        say("train: W-DOOR weighs tokens by a DPO-aligned model, which is trained first")
        train(weights, model, params, dpo, "dpo", folder, state, provenance, seed)
    return resolve(folder / "model")


def _token_weights(
    reference: Any, aligned: Model, tokenizer: Any, training: pl.DataFrame, tau: float
) -> dict[str, np.ndarray]:
    """b_t of every harmful pair's chosen response, by pair_id. [ours] After the bare prompt: k = 0."""
    rows = training.filter(pl.col("harmful") == 1)
    dataset = PairDataset(tokenizer, rows)
    sequences = [pair.chosen for pair in (dataset[row] for row in range(len(dataset))) if pair.chosen is not None]
    before = token_logps_of(reference, sequences)
    better = make_policy(load_model(aligned, "float32"))
    after = token_logps_of(better, sequences)
    return {
        pair_id: token_weights(torch.from_numpy(star), torch.from_numpy(ref), tau=tau).numpy()
        for pair_id, star, ref in zip(rows["pair_id"], after, before, strict=True)
    }


def _processes(params: TrainParams) -> int:
    """How many processes train together, this one among them."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if params.batch_pairs % processes:
        raise UsageError(
            "the processes cannot share a batch evenly",
            field="train.batch_pairs",
            found=f"{params.batch_pairs} pairs, {processes} processes",
            expected=f"a multiple of {processes}",
        )
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not torch.cuda.is_available():
        raise UsageError("FSDP needs GPUs", field="train.accelerate", remedy="use configs/ddp.yaml on a CPU")
    return processes


def _check_logs(names: Sequence[str]) -> None:
    known = get_available_reporting_integrations()
    for name in names:
        if name not in known:
            raise UsageError(
                "cannot log there",
                field="train.report_to",
                found=name,
                expected=f"what is installed: {', '.join(known) or 'nothing is'}",
            )


def _arguments(params: TrainParams, steps: int, checkpoints: Path, seed: int, *, resuming: bool) -> TrainingArguments:
    processes = _processes(params)
    every = max(1, steps // params.evaluations)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        use_cpu=not torch.cuda.is_available(),
        bf16=params.dtype == "bfloat16",
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_pairs // processes,
        per_device_eval_batch_size=params.batch_pairs // processes,
        gradient_accumulation_steps=params.accumulation,
        learning_rate=params.learning_rate,
        lr_scheduler_type=params.scheduler if params.scheduler != "constant" else "constant_with_warmup",
        warmup_steps=round(params.warmup_fraction * steps),
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        optim="adamw_torch_fused",
        seed=seed,
        data_seed=seed,
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=not resuming,
        save_strategy="steps",
        save_steps=every if params.early_stop else max(1, steps // params.checkpoints),
        save_total_limit=2,
        load_best_model_at_end=bool(params.early_stop),
        metric_for_best_model="eval_heldout_rewards/accuracies" if params.early_stop else None,
        greater_is_better=True if params.early_stop else None,
        logging_strategy="steps" if params.report_to else "no",
        logging_steps=every,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        report_to=params.report_to or "none",
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
    )
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
            remedy="lower train.batch_pairs (and raise train.accumulation), or set train.gradient_checkpointing; "
            "train.kl_prompts 0 holds no second copy of the model",
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


def _digest(pairs: arms.Pairs, model: Model, params: TrainParams, arm: ArmParams, seed: int) -> str:
    """Of everything that decides the result."""
    digest = hashlib.sha256()
    shared = params.model_dump(exclude={"arms", "seeds", "report_to", "accelerate"})
    record = [__version__, model.digest, shared, arm.model_dump(), seed]
    digest.update(json.dumps(record, sort_keys=True).encode())
    for rows in (pairs.training, pairs.heldout):
        known = rows.select("pair_id", *(name for name in NUMBERS if name in rows.columns))
        digest.update(known.write_csv().encode())
    return digest.hexdigest()[:16]


def _data(pairs: arms.Pairs) -> dict[str, Any]:
    """What identifies the pairs: a pair's id is a digest of its text."""
    frames = (pairs.training, pairs.heldout)
    return {
        "sources": sorted({source for frame in frames for source in frame["source"].unique()}),
        "training": pairs.training.height,
        "heldout": pairs.heldout.height,
        "digest": digest([frame["pair_id"].sort().to_list() for frame in frames]),
    }


def _last_checkpoint(folder: Path, patience: int = 0) -> Path | None:
    """The latest whole checkpoint; Trainer writes trainer_state.json last, so one without it is torn.

    With `patience`, the latest before an early stop: Trainer would take a step from the one that stopped.
    """

    def good(checkpoint: Path) -> bool:
        try:
            state = json.loads((checkpoint / "trainer_state.json").read_text())
            return bool(state["global_step"]) and not (patience and stopped(state["log_history"], patience))
        except (OSError, ValueError, KeyError):
            return False

    found = [path for path in folder.glob("checkpoint-*") if good(path)]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _curve(history: list[dict[str, Any]], steps: int, steps_an_epoch: int) -> pl.DataFrame:
    """One row an evaluation and side: step, epoch, side, loss, METRICS, and the held-out side's kl where it was
    estimated, else null."""
    rows = {
        (entry["step"], side): {
            "step": entry["step"],
            "epoch": entry["step"] / steps_an_epoch,
            "side": side,
            "loss": entry[f"eval_{side}_loss"],
            **{name: entry[f"eval_{side}_{name}"] for name in METRICS},
            "kl": entry.get(f"eval_{side}_kl"),
        }
        for entry in history
        for side in SIDES
        if f"eval_{side}_loss" in entry
    }
    assert (0, "heldout") in rows and rows, "no evaluation before the first step"
    curve = pl.DataFrame(list(rows.values()), schema_overrides={"kl": pl.Float64})
    return curve.sort("step", "side").filter(pl.col("step") <= steps)


def _metrics(curve: pl.DataFrame, name: str, seed: int, objective: str, pairs: arms.Pairs, kept: int) -> dict[str, Any]:
    """metrics.json: each side at the step that was kept, the held-out one before the first, the overfitting gap."""

    def at(step: Any, side: str) -> dict[str, Any]:
        row = curve.filter((pl.col("step") == step) & (pl.col("side") == side)).row(0, named=True)
        return {key: row[key] for key in ("loss", *METRICS, *(["kl"] if side == "heldout" else []))}

    metrics: dict[str, Any] = {"arm": name, "seed": seed, "objective": objective}
    metrics |= {"pairs": pairs.training.height, "steps": kept, **pairs.record}
    metrics |= {side: at(kept, side) for side in SIDES} | {"start": at(0, "heldout")}
    # How much better the arm does on what it saw (METHOD 6).
    metrics["overfitting"] = {
        key: metrics["train"][f"rewards/{key}"] - metrics["heldout"][f"rewards/{key}"]
        for key in ("margins", "accuracies")
    }
    return metrics
