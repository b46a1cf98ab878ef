"""Are the stored reference log-probs those of the model that is about to be trained?"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch

from curate.base.errors import InputError
from curate.training.pairs import PairDataset
from curate.training.work import Work


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
