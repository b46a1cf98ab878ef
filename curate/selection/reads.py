"""What an arm reads of the weighted pairs: where that is the same, its training is not run again. [ours]"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import polars as pl

from curate.pairs.identity import digest
from curate.pairs.schema import OPTIONAL, PAIRS, SCORES, WEIGHTS
from curate.project.params import ArmParams, WeighParams
from curate.selection.weights import known_params, weigh

BALANCE_GAP = "balance_gap"
WEIGHING = (*WEIGHTS, BALANCE_GAP)
NAMED_BY_PAIR_ID = ("prompt", "chosen", "rejected")
NULL = "\\N"


def read(weights: pl.DataFrame, provenance: Mapping[str, Any], arm: ArmParams) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The columns that the arm's training reads, and the part of the file's provenance that made them.

    Every arm reads the pairs and their scores; an arm on a subset that subset's column; one whose loss has weights the
    weights, by its own `weigh` where it has one. So another alpha is nothing to DPO, and another draw of subsets is
    nothing to an arm on all pairs.

    Args:
        weights: what `weigh` wrote: schema.PAIRS, SCORES, SPLITS, WEIGHTS and balance_gap.
        provenance: that file's.
    """
    columns = [name for name in (*PAIRS, *OPTIONAL, *SCORES) if name in weights.columns]
    weighed, split = dict(provenance), dict(provenance.get("from") or {})
    before = dict(split.get("from") or {})
    if arm.subset != "all":
        columns.append(arm.subset)
        before = split
    if not arm.reads_weights:
        return weights.select(columns), before
    shared = known_params(provenance)
    own = arm.weighing(shared)
    if not arm.scaling_factor:
        own = own.model_copy(update={"scaling": "none", "constant": WeighParams().constant})
    if own != shared:
        weights = weigh(weights, own, {BALANCE_GAP: shared.normalisation})
    weighed |= {"params": own.model_dump(), "from": before}
    return weights.select(*columns, *WEIGHING), weighed


def digests(weights: pl.DataFrame, provenance: Mapping[str, Any], arms: Mapping[str, ArmParams]) -> dict[str, str]:
    """For each arm a digest of what `read` gives it: 32 hex digits.

    A pair's texts are in its pair_id. Rows count in their order.
    """
    shared = {name: _digest(weights[name]) for name in weights.columns if name not in NAMED_BY_PAIR_ID}
    found = {}
    for name, arm in arms.items():
        frame, made = read(weights, provenance, arm)
        columns = {
            column: _digest(frame[column])
            if column in WEIGHING and not frame[column].equals(weights[column])
            else shared[column]
            for column in frame.columns
            if column not in NAMED_BY_PAIR_ID
        }
        found[name] = digest([made, columns])
    return found


def _digest(column: pl.Series) -> str:
    """Of the values as text, which no version of a file format changes: numbers by their shortest digits."""
    text = io.BytesIO()
    column.to_frame().write_csv(text, null_value=NULL)
    return hashlib.sha256(text.getbuffer()).hexdigest()
