"""curate.json of a model folder: what it was made of, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from curate import __version__
from curate.base.public import public
from curate.pairs.identity import digest
from curate.project.params import PIPELINE_KEYS
from curate.training.arms import Pairs
from curate.training.plan import Plan


def record_of(plan: Plan) -> dict[str, Any]:
    """As JSON has it: what is infinite in params (`max_grad_norm: .inf`) is the text "inf", which params read back."""
    return jsonable(  # type: ignore[no-any-return]
        {
            "arm": plan.name,
            "seed": plan.seed,
            "version": __version__,
            "model": plan.model.record(),
            "from": public(plan.provenance),
            "data": data_of(plan.pairs),
            "train": public(plan.params.model_dump(exclude=set(PIPELINE_KEYS))),
            "settings": plan.arm.record() | {"settings": plan.settings.record()},
        }
    )


def jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(part) for part in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def data_of(pairs: Pairs) -> dict[str, Any]:
    """What identifies the pairs: a pair's id is a digest of its text."""
    frames = (pairs.training, pairs.heldout)
    return {
        "sources": sorted({source for frame in frames for source in frame["source"].unique()}),
        "training": pairs.training.height,
        "heldout": pairs.heldout.height,
        "digest": digest([frame["pair_id"].sort().to_list() for frame in frames]),
    }
