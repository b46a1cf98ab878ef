"""A run's folder: model/, curve.csv, metrics.json, and in model/ what says how it was made."""

from __future__ import annotations

import shutil
from typing import Any

from curate import __version__
from curate.base import files
from curate.base.public import public
from curate.pairs.identity import digest
from curate.project.params import PIPELINE_KEYS
from curate.training import card, checkpoints
from curate.training.arms import Pairs
from curate.training.build import Built, plain_policy, with_adapters
from curate.training.curve import CURVE_FILE, METRICS_FILE
from curate.training.plan import Plan
from curate.training.policy import as_plain
from curate.training.run import Trained


def save(plan: Plan, built: Built, trained: Trained) -> None:
    """Write `out` whole and remove the checkpoints: the first process does, the others wait for it.

    Raises:
        OutputError: it cannot be written; the checkpoints stay.
    """
    trainer, policy = built.trainer, built.policy
    gathered = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if trainer.is_world_process_zero():
        if gathered is not None:
            # What the processes hold are shards: the whole goes into a model of its own.
            policy = with_adapters(plain_policy(plan.model, plan.params), plan.params)
            policy.load_state_dict(gathered)
        record = record_of(plan)
        with files.replacing(plan.out, CURVE_FILE) as folder:
            as_plain(trainer.accelerator.unwrap_model(policy)).save_pretrained(folder / "model")
            built.tokenizer.save_pretrained(folder / "model")
            files.write_json(record, folder / "model" / "curate.json")
            (folder / "model" / "README.md").write_text(card.model_card(record, trained.metrics), encoding="utf-8")
            trained.curve.write_csv(folder / CURVE_FILE)
            files.write_json(trained.metrics, folder / METRICS_FILE)
        shutil.rmtree(plan.checkpoints, ignore_errors=True)
        checkpoints.remove_superseded(plan.checkpoints, plan.state)
    trainer.accelerator.wait_for_everyone()


def record_of(plan: Plan) -> dict[str, Any]:
    """The model folder's curate.json: what it was made of, and how."""
    return {
        "arm": plan.name,
        "seed": plan.seed,
        "version": __version__,
        "model": plan.model.record(),
        "from": public(plan.provenance),
        "data": data_of(plan.pairs),
        "train": public(plan.params.model_dump(exclude=set(PIPELINE_KEYS))),
        "settings": plan.arm.record() | {"settings": plan.objective.record()},
    }


def data_of(pairs: Pairs) -> dict[str, Any]:
    """What identifies the pairs: a pair's id is a digest of its text."""
    frames = (pairs.training, pairs.heldout)
    return {
        "sources": sorted({source for frame in frames for source in frame["source"].unique()}),
        "training": pairs.training.height,
        "heldout": pairs.heldout.height,
        "digest": digest([frame["pair_id"].sort().to_list() for frame in frames]),
    }
