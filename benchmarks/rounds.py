"""Runs contenders, each in a process of its own: in turns on a CPU, so that noise meets all alike."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from contenders import CONTENDERS, Settings
from limits import open_gemm
from work import Work
from worker import Failed, Worker, forget_peak, memory

from curate.base.progress import say

WARM_UP = 4  # pairs scored before anything is timed


class Scored(NamedTuple):
    """One run."""

    seconds: float  # without rendering
    rendering: float | None  # seconds, where it renders
    numbers: np.ndarray  # float64, [pairs, 4], nats
    peak: float  # GiB of resident memory, since the process began
    raised: float  # GiB by which scoring raised it


class Row(NamedTuple):
    """What became of one contender."""

    name: str
    start_up: float = 0.0  # seconds: imports, loading, engine
    runs: Sequence[Any] = ()  # Scored, or what else has `seconds`
    device: float | None = None  # GiB of device memory held
    failure: str | None = None

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)


Contend = Callable[[str, Any, Any], Iterator[Any]]
"""In a worker, of a contender's name, settings and work: seconds of starting up, then one run after another."""


def take_turns(
    names: Sequence[str], settings: Any, work: Any, repeats: int, logs: Path, contend: Contend | None = None
) -> tuple[dict[str, float], list[Row]]:
    """The best GEMM rates, FLOP/s, and each contender's runs.

    On a GPU one contender after another: each may hold all of the device's memory.

    Args:
        settings: with the `dtype` of the products.
        contend: what a contender does; None: it scores.
    """
    contend = contend or score
    with closing(Worker(logs / "gemm.log", _gemm, settings.dtype)) as gemm:
        rates = gemm.next()
        if not on_gpu():
            with ExitStack() as stack:
                started = [_start(name, settings, work, logs, stack, contend) for name in names]
                workers, rows = [worker for worker, _ in started], [row for _, row in started]
                for repeat in range(1, repeats + 1):
                    rates = {way: max(rate, rates[way]) for way, rate in gemm.next().items()}
                    rows = [
                        _run(row, worker, f"{repeat} of {repeats}") for row, worker in zip(rows, workers, strict=True)
                    ]
            return rates, rows
    return rates, [alone(name, settings, work, repeats, logs, contend) for name in names]


def alone(name: str, settings: Any, work: Any, repeats: int, logs: Path, contend: Contend | None = None) -> Row:
    """A contender's runs while no other is alive."""
    before = _device_memory()
    with ExitStack() as stack:
        worker, row = _start(name, settings, work, logs, stack, contend or score)
        for repeat in range(1, repeats + 1):
            row = _run(row, worker, f"{repeat} of {repeats}")
        # Allocators keep what they once took, so what is held now is the peak.
        held = _device_memory()
    return row if held is None or before is None else row._replace(device=held - before)


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _start(name: str, settings: Any, work: Any, logs: Path, stack: ExitStack, contend: Contend) -> tuple[Worker, Row]:
    """A worker that lives as long as `stack`, once the contender is ready."""
    worker = stack.enter_context(closing(Worker(logs / f"{name}.log", contend, name, settings, work)))
    try:
        return worker, Row(name, worker.next())
    except Failed as failure:
        return worker, Row(name, failure=str(failure))


def _run(row: Row, worker: Worker, repeat: str) -> Row:
    if row.failure:
        return row
    try:
        run = worker.next()
    except Failed as failure:
        return row._replace(failure=str(failure), runs=())
    say(f"{row.name}, run {repeat}: {run.seconds:.2f} s")
    return row._replace(runs=(*row.runs, run))


def score(name: str, settings: Settings, work: Work) -> Iterator[float | Scored]:
    """A `Contend` that scores."""
    start = time.perf_counter()
    run = CONTENDERS[name](settings)
    start_up = time.perf_counter() - start
    run(work.head(WARM_UP))
    before, earlier_peak = memory()
    forget_peak()
    yield start_up
    while True:
        start = time.perf_counter()
        result = run(work)
        seconds = time.perf_counter() - start
        _, peak = memory()
        yield Scored(
            seconds - (result.rendering or 0), result.rendering, result.numbers, max(earlier_peak, peak), peak - before
        )


def _gemm(dtype: str) -> Iterator[dict[str, float]]:
    rates = open_gemm(dtype)
    while True:
        yield rates()


def _device_memory() -> float | None:
    """GiB in use on the first visible device, by whatever process; None without one."""
    if not on_gpu() or not shutil.which("nvidia-smi"):
        return None
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    query = ["nvidia-smi", "-i", device, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, check=True, capture_output=True, text=True).stdout) / 1024
