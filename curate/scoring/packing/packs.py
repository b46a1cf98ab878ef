"""Sequences -> packs: one row of tokens without padding, in which a prompt that several responses share stands once.

A pair asks for four numbers, and they overlap: both responses follow one prompt, every response follows the null
prompt too, and pairs share prompts. A pack is a forest: each root is a prompt, its branches are the responses to it.
A branch attends to its own root and to itself, and its positions count on from the root's end, so each number is
what its sequence would give alone (`curate.scoring.packing.attention` holds the other half of that promise).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from curate.models.rendering import TokenSequence


class Branch(NamedTuple):
    """A response in a pack, without its last token: nothing is predicted from that one."""

    root: int  # where its prompt starts, as a position in the pack
    root_length: int
    start: int
    length: int  # may be 0: a response of one token


class Pack(NamedTuple):
    """One forward pass. T tokens, S of which are followed by a scored token."""

    input_ids: np.ndarray  # int64, [T]
    position_ids: np.ndarray  # int64, [T]; a branch goes on from its root
    roots: np.ndarray  # int64, [T]: number of the prompt that a token belongs to
    branches: np.ndarray  # int64, [T]: number of the response within the pack, from 1; 0 in a prompt
    rows: np.ndarray  # int64, [S]: the token whose output predicts ...
    targets: np.ndarray  # int64, [S]: ... this one
    owners: np.ndarray  # int64, [S]: which of the caller's sequences that belongs to
    prompts: list[tuple[int, int]]  # (start, length) of each root
    responses: list[Branch]


COLUMNS = ("input_ids", "position_ids", "roots", "branches", "rows", "targets", "owners")


def group_by_prompt(sequences: Sequence[TokenSequence]) -> list[list[int]]:
    """Numbers of the sequences by prompt: largest sequence first, within a prompt the longest response first."""
    groups: dict[bytes, list[int]] = {}
    for number, sequence in enumerate(sequences):
        groups.setdefault(np.asarray(sequence.prompt_ids, dtype=np.int32).tobytes(), []).append(number)
    for group in groups.values():
        group.sort(key=lambda number: -len(sequences[number].response_ids))
    return sorted(groups.values(), key=lambda group: -sequences[group[0]].length)


def packs(sequences: Sequence[TokenSequence], budget: int, workers: int = 1) -> Iterator[Pack]:
    """Packs of at most `budget` tokens each (or of one sequence); a prompt with many responses comes again.

    Args:
        workers: how many packs run at once. The number of packs is a multiple of it, and they are of like size, so
            that no worker is without a pack while others have one.
    """
    groups = group_by_prompt(sequences)
    responses = sum(len(sequence.response_ids) - 1 for sequence in sequences)
    total = sum(len(sequences[group[0]].prompt_ids) for group in groups) + responses
    number_of_packs = max(1, -(-total // (budget * workers))) * workers  # or more, where prompts come again
    share = total / number_of_packs
    chosen: list[list[int]] = []
    used = done = count = 0
    for group in groups:
        prompt = len(sequences[group[0]].prompt_ids)
        opened = False
        for number in group:
            response = len(sequences[number].response_ids) - 1
            cost = response + (0 if opened else prompt)
            # Half of what overlaps the pack's share counts as within it: sizes err to both sides, and do not add up.
            enough = count + 1 < number_of_packs and done + used + cost / 2 > (count + 1) * share
            if chosen and (enough or used + cost > budget):
                yield _pack(sequences, chosen)
                chosen, opened = [], False
                done, used, count = done + used, 0, count + 1
            if not opened:
                chosen.append([])
                used += prompt
                opened = True
            chosen[-1].append(number)
            used += response
    if chosen:
        yield _pack(sequences, chosen)


def _pack(sequences: Sequence[TokenSequence], groups: Sequence[Sequence[int]]) -> Pack:
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    prompts: list[tuple[int, int]] = []
    responses: list[Branch] = []
    at = 0

    def put(tokens: np.ndarray, first_position: int, branch: int) -> int:
        nonlocal at
        start, at = at, at + len(tokens)
        columns["input_ids"].append(tokens)
        columns["position_ids"].append(np.arange(first_position, first_position + len(tokens)))
        columns["roots"].append(np.full(len(tokens), len(prompts) - 1))
        columns["branches"].append(np.full(len(tokens), branch))
        return start

    for group in groups:
        prompt = sequences[group[0]].prompt_ids
        length = len(prompt)
        prompts.append((at, length))
        root = put(prompt, 0, 0)
        for number in group:
            response = sequences[number].response_ids
            start = put(response[:-1], length, len(responses) + 1)
            responses.append(Branch(root, length, start, len(response) - 1))
            # The prompt's last token predicts the response's first.
            columns["rows"] += [np.array([root + length - 1]), np.arange(start, at)]
            columns["targets"].append(response)
            columns["owners"].append(np.full(len(response), number))
    whole = {name: np.concatenate(parts).astype(np.int64) for name, parts in columns.items()}
    return Pack(**whole, prompts=prompts, responses=responses)
