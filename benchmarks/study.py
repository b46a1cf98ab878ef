"""A study's stages without DVC, in one command: where there is none, or where minutes are lent.

    python benchmarks/study.py [--lanes 2] [--seeds-first] [--minutes 14] [--no-evaluation] [--arms dpo bdpo ...]

Run in a folder with params.yaml, as DVC's stages are (`curate init FOLDER --preset smollm2-pku` makes one). It goes
through reference, prepare, score, split and weigh, then trains every arm of `train.arms` with each of its seeds, then
evaluates them and the model before training. What is done is left as it is, so a second call goes on; after --minutes
nothing new begins (exit code 3). A GPU that one small model leaves idle takes two or three trainings at a time
(--lanes). Unlike `dvc repro` it does not see that params, data or code have changed: begin another folder then. The
preset smollm2-pku-full is the study at full size, for a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import curate.base.threads  # noqa: F401  (before torch)
from curate.base.errors import CurateError
from curate.base.progress import say
from curate.project import params
from curate.project.params import Params
from curate.training.launch import end_with_parent

MADE = {
    "reference": "data/reference/reference.json",
    "prepare": "data/pairs.parquet",
    "score": "data/scores.parquet",
    "split": "data/splits.parquet",
    "weigh": "data/weights.parquet",
}
"""Stage -> the file that says that it is done."""


def runs(loaded: Params, given: argparse.Namespace) -> list[tuple[str, int]]:
    """Arms with their seeds: all of an arm, then the next arm; or every arm with the first seed, then the next seed."""
    named = [arm for arm in loaded.train.arms if not given.arms or arm in given.arms]
    wanted = [(arm, seed) for arm in named for seed in loaded.train.seeds_of(arm)]
    if given.seeds_first:
        wanted.sort(key=lambda run: [*loaded.train.seeds, *loaded.train.more_seeds].index(run[1]))
    return wanted


class Step(NamedTuple):
    made: str  # the file that says that it is done
    stage: str
    arguments: tuple[str, ...] = ()


LATE = "late"
"""What `do` gives of a step that is not begun, as the minutes are gone."""


def do(step: Step, loaded: Params, began: float, minutes: float) -> str | None:
    """One step as DVC calls it, unless it is done or `minutes` since `began` [time.time()] are gone: what went wrong.

    Raises what the stages before training raise. One training or evaluation whose user must be told something, such as
    an arm that diverges, does not end the study.
    """
    if Path(step.made).exists():
        return None
    if (time.time() - began) / 60 >= minutes:
        return LATE
    sys.argv = [step.stage, *step.arguments]
    try:
        importlib.import_module(f"curate.stages.{step.stage}").main(loaded)
    except CurateError as error:
        if step.stage in MADE:
            raise
        return f"{step.stage} {' '.join(step.arguments)}: {error}"
    except SystemExit as end:  # a stage that started processes of its own (train.accelerate) ends so
        if end.code:
            return f"{step.stage} {' '.join(step.arguments)}: exit code {end.code}"
    say(f"study: {step.made}, {(time.time() - began) / 60:.1f} minutes")
    return None


def phases(loaded: Params, given: argparse.Namespace) -> list[list[Step]]:
    """Steps in order; those of a list do not need one another."""
    each = [(f"{arm}/seed-{seed}/metrics.json", (arm, str(seed))) for arm, seed in runs(loaded, given)]
    found = [[Step(made, stage)] for stage, made in MADE.items()]
    found.append([Step(f"runs/{file}", "train", run) for file, run in each])
    if given.evaluation:
        found.append([Step("evaluations/base/metrics.json", "evaluate", ("base",))])
        found[-1] += [Step(f"evaluations/{file}", "evaluate", run) for file, run in each]
    return found


def outcomes(steps: Sequence[Step], doing: Callable[[Step], str | None], lanes: int) -> Iterator[str | None]:
    """What `do` gives of each step, as they end. A lane that is killed, and a fault of ours, end those not begun."""
    if lanes < 2 or len(steps) < 2:
        yield from map(doing, steps)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(lanes, context, initializer=end_with_parent, initargs=(signal.SIGTERM,)) as pool:
        try:
            for done in as_completed([pool.submit(doing, step) for step in steps]):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seeds-first", action="store_true", help="every arm with the first seed, then the next")
    parser.add_argument("--lanes", type=int, default=1, help="so many trainings at a time, each a process")
    parser.add_argument("--evaluation", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--arms", nargs="+")
    given = parser.parse_args()
    loaded = params.load()
    doing = partial(do, loaded=loaded, began=time.time(), minutes=given.minutes)
    found: set[str | None] = set()
    for steps in phases(loaded, given):
        # An engine of vLLM takes a GPU whole: models are evaluated one after the other.
        lanes = given.lanes if steps and steps[0].stage == "train" else 1
        for told in outcomes(steps, doing, lanes):
            found.add(told)
            if told and told != LATE:
                say(f"study: {told}")
        if LATE in found:
            say(f"study: {given.minutes:g} minutes are gone, steps are left. Call again to go on")
            return 3
    return 1 if found - {None} else 0


if __name__ == "__main__":
    sys.exit(main())
