"""A study's stages without DVC, in one command: where there is none, or where minutes are lent.

    python benchmarks/study.py [--lanes 8] [--seeds-first] [--minutes 14] [--no-evaluation] [--arms dpo bdpo ...]

Run in a folder with params.yaml, as DVC's stages are (`curate init FOLDER --preset smollm2-pku` makes one). It goes
through reference, prepare, score, split and weigh, then trains every arm of `train.arms` with each of its seeds, then
evaluates them and the model before training. What is done is left as it is, so a second call goes on; after --minutes
nothing new begins. A GPU that one small model leaves idle takes several runs at a time (--lanes). Unlike `dvc repro` it
does not see that params, data or code have changed: begin another folder then. The preset smollm2-pku-full is the study
at full size, for a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import curate.base.threads  # noqa: F401  (before torch)
from curate.base.errors import CurateError
from curate.base.progress import say
from curate.project import params
from curate.project.params import Params

MADE = {
    "reference": "data/reference/reference.json",
    "prepare": "data/pairs.parquet",
    "score": "data/scores.parquet",
    "split": "data/splits.parquet",
    "weigh": "data/weights.parquet",
}
"""Stage -> the file that says that it is done."""


def runs(loaded: Params, arms: list[str] | None, *, seeds_first: bool) -> list[tuple[str, int]]:
    """Arms with their seeds: all of an arm, then the next arm; or every arm with the first seed, then the next seed."""
    named = [arm for arm in loaded.train.arms if not arms or arm in arms]
    wanted = [(arm, seed) for arm in named for seed in loaded.train.seeds_of(arm)]
    if seeds_first:
        wanted.sort(key=lambda run: [*loaded.train.seeds, *loaded.train.more_seeds].index(run[1]))
    return wanted


Step = tuple[str, str, tuple[str, ...]]
"""The file that says that it is done, the stage, the stage's arguments."""


def do(step: Step, loaded: Params, began: float, minutes: float) -> str | None:
    """One step as DVC calls it, unless it is done or `minutes` since `began` [time.time()] are gone: what went wrong.

    Raises what the stage raises, but for a training or evaluation whose user must be told: one arm that diverges does
    not end the study.
    """
    made, stage, arguments = step
    if Path(made).exists():
        return None
    if (time.time() - began) / 60 >= minutes:
        return f"{made} is not begun: {minutes:g} minutes are gone. Call again to go on"
    sys.argv = [stage, *arguments]
    try:
        importlib.import_module(f"curate.stages.{stage}").main(loaded)
    except CurateError as error:
        if stage in MADE:
            raise
        return f"{stage} {' '.join(arguments)}: {error}"
    say(f"study: {made}, {(time.time() - began) / 60:.1f} minutes")
    return None


def phases(loaded: Params, given: argparse.Namespace) -> list[list[Step]]:
    """Steps in order; those of the last two lists, training and evaluation, do not need one another."""
    each = runs(loaded, given.arms, seeds_first=given.seeds_first)
    found: list[list[Step]] = [[(made, stage, ())] for stage, made in MADE.items()]
    found.append([(f"runs/{arm}/seed-{seed}/metrics.json", "train", (arm, str(seed))) for arm, seed in each])
    if given.evaluation:
        evaluated: list[tuple[str, tuple[str, ...]]] = [
            (f"evaluations/{arm}/seed-{seed}/metrics.json", (arm, str(seed))) for arm, seed in each
        ]
        evaluated.insert(0, ("evaluations/base/metrics.json", ("base",)))
        found.append([(made, "evaluate", arguments) for made, arguments in evaluated])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seeds-first", action="store_true", help="every arm with the first seed, then the next")
    parser.add_argument("--lanes", type=int, default=1, help="so many runs at a time, each a process")
    parser.add_argument("--evaluation", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--arms", nargs="+")
    given = parser.parse_args()
    loaded = params.load()
    doing = partial(do, loaded=loaded, began=time.time(), minutes=given.minutes)
    wrong: list[str] = []
    for steps in phases(loaded, given):
        lanes = min(given.lanes, len(steps))
        with get_context("spawn").Pool(lanes) if lanes > 1 else nullcontext() as pool:
            for fault in pool.imap_unordered(doing, steps) if pool else map(doing, steps):
                if fault:
                    wrong.append(fault)
                    say(f"study: {fault}")
        if wrong and steps[0][1] in MADE:
            break
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
