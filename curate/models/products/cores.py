"""Parts of a batch side by side on a CPU, each on its part of the cores, forward and backward. [ours]

Cores that work on rows of their own do not wait for each other at every small step, as they do within one product.
Two at a time, not more: a gradient is then the sum of two, which is the same in whatever order they arrive, so that
what a run writes stays the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from os import cpu_count
from typing import Any, TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

TOGETHER = 2


def together() -> int:
    """How many parts run side by side here: one where there is one core."""
    return TOGETHER if torch.get_num_threads() >= TOGETHER else 1


class Cores:
    """Runs parts side by side."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None

    def each(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
        """`function` of every part, in their order."""
        if len(parts) == 1 or together() == 1:
            return [function(part) for part in parts]
        if self.pool is None:
            threads = torch.get_num_threads() // TOGETHER
            self.pool = ThreadPoolExecutor(TOGETHER, initializer=torch.set_num_threads, initargs=(threads,))
        return list(self.pool.map(function, parts))


def spread(function: Callable[[int, int], None], count: int, least: int = 1) -> None:
    """`function(first, last)` over parts of range(count), at least `least` each, on as many cores as torch has in this
    thread: for C, which lets other threads run beside it."""
    parts = max(1, min(torch.get_num_threads(), count // least))
    if parts == 1:
        function(0, count)
        return
    bounds = [count * part // parts for part in range(parts + 1)]
    at_once(function, pairwise(bounds))


def at_once(function: Callable[..., None], parts: Iterable[tuple[Any, ...]]) -> None:
    """`function` of the arguments of each part, side by side: for C, too."""
    for done in [_pool().submit(function, *part) for part in parts]:
        done.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """One of all threads: what runs in it waits for nothing else."""
    return ThreadPoolExecutor(cpu_count())


def rounds(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """Parts that run side by side, round by round."""
    for start in range(0, len(parts), TOGETHER):
        yield parts[start : start + TOGETHER]


@contextmanager
def adding(parameters: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """Gradients made within this block are summed by themselves, then added to those that were there before."""
    before = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    for parameter, _ in before:
        parameter.grad = None
    yield
    for parameter, gradient in before:
        parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)
