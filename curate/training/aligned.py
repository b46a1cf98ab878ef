"""W-DOOR's aligned model pi*: a DPO arm of the same pairs, trained first, and the weights of tokens it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from curate.base.progress import say
from curate.models.load import load_model
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model, resolve
from curate.objectives.door import token_weights
from curate.project.params import ArmParams
from curate.selection import relabelling
from curate.training import checkpoints
from curate.training.curve import METRICS_FILE
from curate.training.launched import processes
from curate.training.pairs import PairDataset
from curate.training.plan import Plan, plan
from curate.training.policy import make_policy, token_logps_of

Train = Callable[..., Any]
"""`curate.training.train.train`, which hands itself down: it imports this file."""


def aligned_model(of: Plan, train: Train) -> Model:
    """The DPO arm of the same pairs, params and seed as the W-DOOR run `of`, trained once and kept in its state.

    The pairs are those that W-DOOR itself has: no unsafe response is the preferred one.
    """
    dpo = ArmParams(subset=of.arm.subset)
    params = of.params.model_copy(update={"kl_prompts": 0, "save": "merged"})  # of which nobody reads the curve
    kept = of.state / "aligned"
    given = (relabelling.door(of.weights).frame, of.model, params, dpo, "dpo")
    folder = kept / plan(*given, kept, of.state, of.provenance, of.seed).key
    doing = "trains the DPO-aligned model of this arm"
    with checkpoints.alone(of.state, f"aligned-{folder.name}", doing, wait=processes() == 1):
        if not (folder / METRICS_FILE).is_file():
            say("train: W-DOOR weighs tokens by a DPO-aligned model, which is trained first")
            train(*given, folder, of.state, of.provenance, of.seed)
            checkpoints.remove_superseded(folder, of.state)
    return resolve(folder / "model", trust_remote_code=of.model.trust_remote_code)


def weights_by_pair(
    reference: Any, aligned: Model, tokenizer: Any, frames: Sequence[pl.DataFrame], tau: float
) -> dict[str, np.ndarray]:
    """b_t of every harmful pair's chosen response, by pair_id. [ours] After the bare prompt: k = 0.

    Args:
        frames: pairs; the numbers of one do not move, even in their last bits, with what is in another.
    """
    harmful = [frame.filter(pl.col("harmful") == 1) for frame in frames]
    sequences = [_chosen(tokenizer, rows) for rows in harmful]
    before = [token_logps_of(reference, each) for each in sequences]
    better = make_policy(load_model(aligned, "float32"))
    after = [token_logps_of(better, each) for each in sequences]
    return {
        pair_id: token_weights(torch.from_numpy(star), torch.from_numpy(ref), tau=tau).numpy()
        for rows, stars, refs in zip(harmful, after, before, strict=True)
        for pair_id, star, ref in zip(rows["pair_id"], stars, refs, strict=True)
    }


def _chosen(tokenizer: Any, rows: pl.DataFrame) -> list[TokenSequence]:
    dataset = PairDataset(tokenizer, rows)
    return [pair.chosen for pair in (dataset[row] for row in range(len(dataset))) if pair.chosen is not None]
