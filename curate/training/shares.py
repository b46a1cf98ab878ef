"""A batch on a CPU in shares: two at a time, each on half of the cores, forward and backward, then let go. [ours]

Cores that work on pairs of their own do not wait for each other at every small step, as they do within one product;
and a share's activations live for that share alone, so that memory does not grow with the batch.

Two at a time, not more: a gradient is then the sum of two, which is the same in whatever order they arrive. What a
run writes stays the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from curate.models.rendering import TokenSequence
from curate.training.pairs import NUMBERS, ROLES
from curate.training.work import Work

T = TypeVar("T")

TOGETHER = 2
SHARE_TOKENS = {torch.float32: 1024, torch.bfloat16: 2048}
"""Of a share, at most (or one prompt's pairs), by the dtype of the products: activations take half in bfloat16."""


def shares(inputs: dict[str, Any], budget: int) -> list[dict[str, Any]]:
    """A collator's batch as several: pairs of one prompt together, of about `budget` tokens at most, of like size, and
    their number a multiple of `TOGETHER` unless there are fewer prompts. Each names its `rows` of the batch."""
    work: Work = inputs["work"]
    groups = _by_prompt(inputs)
    sizes = [_tokens(inputs, rows) for rows in groups]
    count = max(1, -(-sum(sizes) // (budget * TOGETHER))) * TOGETHER
    chosen: list[list[int]] = [[] for _ in range(min(count, len(groups)))]
    loads = [0] * len(chosen)
    # The largest first, each to the share that has least.
    for group in sorted(range(len(groups)), key=lambda number: -sizes[number]):
        least = min(range(len(loads)), key=loads.__getitem__)
        chosen[least] += groups[group]
        loads[least] += sizes[group]
    return [_part(inputs, work, sorted(rows)) for rows in chosen]


class Cores:
    """Runs shares side by side, each on its part of the cores."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None

    def each(self, function: Callable[[dict[str, Any]], T], every: Sequence[dict[str, Any]]) -> list[T]:
        """`function` of every share, in their order."""
        threads = torch.get_num_threads() // TOGETHER
        if len(every) == 1 or not threads:
            return [function(share) for share in every]
        if self.pool is None:
            self.pool = ThreadPoolExecutor(TOGETHER, initializer=torch.set_num_threads, initargs=(threads,))
        return list(self.pool.map(function, every))


def rounds(every: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    """Shares that run side by side, round by round."""
    for start in range(0, len(every), TOGETHER):
        yield every[start : start + TOGETHER]


@contextmanager
def adding(parameters: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """Gradients made within this block are summed by themselves, then added to those that were there before."""
    before = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    for parameter, _ in before:
        parameter.grad = None
    yield
    for parameter, gradient in before:
        parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)


def _by_prompt(inputs: dict[str, Any]) -> list[list[int]]:
    """Rows of the batch by their prompt."""
    groups: dict[bytes, list[int]] = {}
    for row in range(len(inputs["chosen_at"])):
        groups.setdefault(b"".join({s.prompt_ids.tobytes(): 0 for s in _sequences(inputs, row)}), []).append(row)
    return list(groups.values())


def _sequences(inputs: dict[str, Any], row: int) -> list[TokenSequence]:
    places = dict.fromkeys(int(inputs[f"{role}_at"][row]) for role in ROLES)
    return [inputs["work"].sequences[place] for place in places if place >= 0]


def _tokens(inputs: dict[str, Any], rows: Sequence[int]) -> int:
    """Of these rows, with a prompt counted once."""
    every = [sequence for row in rows for sequence in _sequences(inputs, row)]
    prompts = {sequence.prompt_ids.tobytes(): len(sequence.prompt_ids) for sequence in every}
    return sum(prompts.values()) + sum(len(sequence.response_ids) for sequence in every)


def _part(inputs: dict[str, Any], work: Work, rows: list[int]) -> dict[str, Any]:
    """The batch of these rows alone."""
    index = torch.tensor(rows)
    places = sorted({int(place) for role in ROLES for place in inputs[f"{role}_at"][index]} - {-1})
    anew = {place: number for number, place in enumerate(places)} | {-1: -1}
    weights = work.token_weights
    part = Work(
        [work.sequences[place] for place in places],
        None if weights is None else [weights[place] for place in places],
        work.alignment,
    )
    return {
        **{name: inputs[name][index] for name in NUMBERS},
        **{f"{role}_at": torch.tensor([anew[int(p)] for p in inputs[f"{role}_at"][index]]) for role in ROLES},
        "work": part,
        "counted": len(rows),
        "rows": rows,
    }
