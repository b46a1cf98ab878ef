"""Weighted pairs -> a trained arm: model folder, learning curve, metrics. Five steps, a file each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from curate.models.resolve import Model
from curate.project.params import ArmParams, TrainParams
from curate.training import checkpoints
from curate.training.build import build
from curate.training.check import check
from curate.training.plan import plan
from curate.training.run import run
from curate.training.save import save


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
    """Train one arm and write `out`/model, curve.csv, rewards.parquet and metrics.json; returns the metrics.

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
        OutputError: `out` or `state` cannot be written, or another process trains the very same, or into
            the same folder.
    """
    planned = plan(weights, model, params, arm, name, out, state, provenance, seed)
    check(planned)
    folder = hashlib.sha256(os.fsencode(planned.out.absolute())).hexdigest()[:16]
    writes = f"trains into {planned.out}"
    with checkpoints.alone(state, planned.key), checkpoints.alone(state, f"out-{folder}", writes):
        built = build(planned, train)
        trained = run(planned, built)
        save(planned, built, trained)
    return trained.metrics
