"""How a stage is run: `python -m stages.score`. A user's mistake is one message and an exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from curate.base import times
from curate.base.errors import UsageError
from curate.base.exits import told
from curate.base.namesake import refuse_namesake
from curate.project import params

REFERENCE = "data/reference"
PAIRS = "data/pairs.parquet"
SCORES = "data/scores.parquet"
SPLITS = "data/splits.parquet"
WEIGHTS = "data/weights.parquet"
READS = "data/reads"
"""ARM.json has a digest of what the arm reads of the weights. Training depends on it instead of the file, so that other
weights train no arm anew that has none."""


def arm_and_seed(params: params.Params, *instead: str) -> tuple[str, int]:
    """What a stage of one arm and seed is called with. Raises `UsageError`, which names `instead` too."""
    arms = params.arms
    match sys.argv[1:]:
        case [name, seed] if name in arms and seed in map(str, params.train.seeds_of(name)):
            return name, int(seed)
        case [name, _] if name in arms:
            arms, seeds = {name: arms[name]}, f"one of its seeds ({', '.join(map(str, params.train.seeds_of(name)))})"
        case _:
            seeds = "one of its seeds"
    expected = ", or ".join([*instead, f"an arm ({', '.join(arms)}) and {seeds}"])
    raise UsageError("name an arm and a seed of params.yaml", found=" ".join(sys.argv[1:]), expected=expected)


def run(stage: Callable[[params.Params], None]) -> None:
    """Call `stage` with params.yaml."""
    with told("what was finished is kept, `dvc repro` goes on"):
        refuse_namesake()
        began = time.monotonic()
        stage(params.load())
        times.record(" ".join([Path(sys.argv[0]).stem, *sys.argv[1:]]), time.monotonic() - began)
