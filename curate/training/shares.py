"""A batch of pairs in shares, which run side by side on a CPU (`curate.models.products.cores`). [ours]

A share's activations live for that share alone, so that memory does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from curate.models.products.cores import together
from curate.models.rendering import TokenSequence
from curate.training.pairs import NUMBERS, ROLES
from curate.training.work import Work

MOST = {torch.float32: 1024, torch.bfloat16: 2048}
"""Tokens of a share, at most (or one prompt's pairs), by the dtype of the products: with more nothing is faster."""
KEPT = {torch.float32: 320 * 10**6, torch.bfloat16: 640 * 10**6}
"""Bytes that a share keeps for its backward pass, at most, as far as FEWEST tokens go. With more rounds a batch needs a
second gradient: in bfloat16 that takes more than it saves."""
FEWEST = 512  # tokens: with fewer, products are slow


class Cost(NamedTuple):
    """What else a token costs, as a multiple of its matrix products in the model's layers."""

    head: float  # a token of a response: the LM head
    attended: float  # for each token before it: attention


def cost_of(model: Any) -> Cost:
    """For each token before, attention's products are 1/(6 hidden) of a layer's, which are some 12 hidden^2; on a CPU
    they run at two thirds of the rate (benchmarks/training.py)."""
    head = sum(weight.numel() for weight in model.get_output_embeddings().parameters())
    inside = {id(weight): weight.numel() for weight in model.parameters()}
    inside.pop(id(model.get_input_embeddings().weight), None)
    inside.pop(id(model.get_output_embeddings().weight), None)
    return Cost(head / max(1, sum(inside.values())), 1 / (4 * model.config.get_text_config().hidden_size))


def tokens_of(model: torch.nn.Module, dtype: torch.dtype) -> int:
    """Tokens of a share of this model, at most, by what linear layers give: that is what is kept, nearly all of it."""
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    inside = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    kept = dtype.itemsize * sum(module.out_features for module in inside)
    return int(min(max(KEPT[dtype] // max(kept, 1), FEWEST), MOST[dtype]))


def large(model: torch.nn.Module) -> bool:
    """Whether it is memory that bounds its shares in float32; else a little time is dearer than what they keep."""
    return tokens_of(model, torch.float32) < MOST[torch.float32]


def shares(inputs: dict[str, Any], budget: int, cost: Cost) -> list[dict[str, Any]]:
    """A collator's batch as several: pairs of one prompt together, of about `budget` tokens at most, of like cost, and
    their number a multiple of those that run side by side unless there are fewer prompts. Each names its `rows` of the
    batch."""
    work: Work = inputs["work"]
    groups = _by_prompt(inputs)
    sizes, costs = zip(*(_size(inputs, rows, cost) for rows in groups), strict=True)
    side_by_side = together()
    count = max(1, -(-sum(sizes) // (budget * side_by_side))) * side_by_side
    chosen: list[list[int]] = [[] for _ in range(min(count, len(groups)))]
    loads = [0.0] * len(chosen)
    # The dearest first, each to the share that has least.
    for group in sorted(range(len(groups)), key=lambda number: -costs[number]):
        least = min(range(len(loads)), key=loads.__getitem__)
        chosen[least] += groups[group]
        loads[least] += costs[group]
    return [_part(inputs, work, sorted(rows)) for rows in chosen]


def _by_prompt(inputs: dict[str, Any]) -> list[list[int]]:
    """Rows of the batch by their prompt."""
    groups: dict[bytes, list[int]] = {}
    for row in range(len(inputs["chosen_at"])):
        groups.setdefault(b"".join({s.prompt_ids.tobytes(): 0 for s in _sequences(inputs, row)}), []).append(row)
    return list(groups.values())


def _sequences(inputs: dict[str, Any], row: int) -> list[TokenSequence]:
    places = dict.fromkeys(int(inputs[f"{role}_at"][row]) for role in ROLES)
    return [inputs["work"].sequences[place] for place in places if place >= 0]


def _size(inputs: dict[str, Any], rows: Sequence[int], cost: Cost) -> tuple[int, float]:
    """(tokens, what they cost) of these rows, with a prompt counted once."""
    every = [sequence for row in rows for sequence in _sequences(inputs, row)]
    prompts = {sequence.prompt_ids.tobytes(): len(sequence.prompt_ids) for sequence in every}
    responses = sum(len(sequence.response_ids) for sequence in every)
    tokens = sum(prompts.values()) + responses
    # The token at position t attends to about t others.
    pairs = sum(length**2 for length in prompts.values()) / 2
    pairs += sum((sequence.length**2 - len(sequence.prompt_ids) ** 2) / 2 for sequence in every)
    return tokens, tokens + cost.head * responses + cost.attended * pairs


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
