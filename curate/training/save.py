"""A run's folder: model/, curve.csv, rewards.parquet, metrics.json, and in model/ what says how it was made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from curate.base import files
from curate.models.load import load_model
from curate.models.resolve import Model
from curate.training import card, checkpoints
from curate.training.build import Built, held_in, with_adapters
from curate.training.curve import CURVE_FILE, METRICS_FILE, RUN
from curate.training.measure import REWARDS_FILE
from curate.training.plan import Plan
from curate.training.policy import as_plain
from curate.training.record import record_of
from curate.training.run import Trained

ADAPTER = "adapter"  # folder in model/ where both are saved


def save(plan: Plan, built: Built, trained: Trained) -> None:
    """Write `out` whole and remove the checkpoints: the first process does, the others wait for it.

    Raises:
        OutputError: it cannot be written; the checkpoints stay.
    """
    trainer, policy = built.trainer, built.policy
    gathered = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if trainer.is_world_process_zero():
        if gathered is not None:
            # What the processes hold are shards: the whole goes into a model of its own, on the CPU as `gathered` is.
            policy = load_model(plan.model, held_in(plan.params), torch.device("cpu"))
            policy = with_adapters(policy, plan.params)
            policy.load_state_dict(gathered)
        record = record_of(plan)
        with files.replacing(plan.out, RUN) as folder:
            _save_model(trainer.accelerator.unwrap_model(policy), folder / "model", plan)
            built.tokenizer.save_pretrained(folder / "model")
            files.write_json(record, folder / "model" / "curate.json")
            (folder / "model" / "README.md").write_text(card.model_card(record, trained.metrics), encoding="utf-8")
            trained.curve.write_csv(folder / CURVE_FILE)
            files.write_parquet(trained.rewards, folder / REWARDS_FILE, {"stage": "train", **record})
            files.write_json(trained.metrics, folder / METRICS_FILE)
        shutil.rmtree(plan.checkpoints, ignore_errors=True)
        checkpoints.remove_superseded(plan.checkpoints, plan.state)
    trainer.accelerator.wait_for_everyone()


def _save_model(policy: Any, folder: Path, plan: Plan) -> None:
    """What `train.save` asks for; the adapter goes first, for merging takes it away."""
    kind = plan.params.save
    if kind != "merged":
        _save_adapter(policy, folder if kind == "adapter" else folder / ADAPTER, plan.model)
    if kind != "adapter":
        as_plain(policy).save_pretrained(folder)


def _save_adapter(policy: Any, folder: Path, base: Model) -> None:
    """In PEFT's format, its base named so that it is found again; the same adapter is the same bytes."""
    config = policy.peft_config["default"]
    config.base_model_name_or_path, config.revision = base_name(base), base.commit
    for name, value in vars(config).items():
        if isinstance(value, set):  # PEFT writes it in the order of a hash, which is another in each process
            setattr(config, name, sorted(value))
    policy.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's, to be filled in by hand; the model folder has ours


def base_name(model: Model) -> str:
    """A Hub id; of a model on this machine its folder, from here where it lies below the working folder."""
    if model.commit:
        return model.name
    path, here = model.path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
