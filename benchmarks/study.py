"""A study's stages without DVC, in one process: where there is none, or where minutes are lent.

    python benchmarks/study.py [--seeds-first] [--minutes 14] [--no-evaluation] [--arms dpo bdpo ...]

Run in a folder with params.yaml, as DVC's stages are (`curate init FOLDER --preset smollm2-pku` makes one). It goes
through reference, prepare, score, split and weigh, then trains every arm of `train.arms` with each of its seeds, then
evaluates them and the model before training. What is done is left as it is, so a second call goes on; after --minutes
nothing new begins. Unlike `dvc repro` it does not see that params, data or code have changed: begin another folder
then. The preset smollm2-pku-full is the study at full size, for a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
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


def call(stage: str, loaded: Params, *arguments: str) -> None:
    """The stage as DVC calls it."""
    sys.argv = [stage, *arguments]
    importlib.import_module(f"curate.stages.{stage}").main(loaded)


def steps(loaded: Params, given: argparse.Namespace) -> list[tuple[str, str, tuple[str, ...]]]:
    """(what it makes, stage, arguments), in order."""
    found: list[tuple[str, str, tuple[str, ...]]] = [(made, stage, ()) for stage, made in MADE.items()]
    each = runs(loaded, given.arms, seeds_first=given.seeds_first)
    found += [(f"runs/{arm}/seed-{seed}/metrics.json", "train", (arm, str(seed))) for arm, seed in each]
    if given.evaluation:
        found.append(("evaluations/base/metrics.json", "evaluate", ("base",)))
        found += [(f"evaluations/{arm}/seed-{seed}/metrics.json", "evaluate", (arm, str(seed))) for arm, seed in each]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seeds-first", action="store_true", help="every arm with the first seed, then the next")
    parser.add_argument("--evaluation", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--arms", nargs="+")
    given = parser.parse_args()
    loaded, began, failed = params.load(), time.monotonic(), 0
    for made, stage, arguments in steps(loaded, given):
        if Path(made).exists():
            continue
        gone = (time.monotonic() - began) / 60
        if gone >= given.minutes:
            say(f"study: {gone:.1f} minutes are gone; {made} and what follows is not done. Call again to go on")
            return 3
        try:
            call(stage, loaded, *arguments)
        except CurateError as error:
            if stage in MADE:
                raise
            failed += 1  # one arm that diverges does not end the study
            say(f"study: {stage} {' '.join(arguments)}: {error}")
            continue
        say(f"study: {made}, {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
