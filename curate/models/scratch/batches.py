"""Token ids into batches: sequences of like length side by side, in a seeded order, for as many epochs as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

IGNORED = -100  # target of padding: no loss


class Reading(NamedTuple):
    """One sequence to read, and what is read in its place when a draw says null."""

    ids: np.ndarray  # int32, [tokens], two at least
    null: np.ndarray | None  # int32, [tokens]: the response after an empty user turn; None for other text


class Batch(NamedTuple):
    """Right-padded, so that a causal model needs no mask."""

    input_ids: np.ndarray  # int64, [sequences, length]
    targets: np.ndarray  # int64, [sequences, length]; the next token, IGNORED after the last


def windows(ids: Sequence[int], context: int) -> list[np.ndarray]:
    """`ids` cut into pieces of at most `context` tokens; a last piece of one token is dropped."""
    whole = np.asarray(ids, dtype=np.int32)
    pieces = [whole[start : start + context] for start in range(0, len(whole), context)]
    return [piece for piece in pieces if len(piece) > 1]


def batches(readings: Sequence[Reading], tokens: int, null_fraction: float, seed: int) -> Iterator[Batch]:
    """Endless epochs over `readings`; a batch has about `tokens` tokens, padding included."""
    rng = np.random.default_rng(seed)
    while True:
        null = rng.random(len(readings)) < null_fraction
        epoch = [
            reading.null if drawn and reading.null is not None else reading.ids
            for reading, drawn in zip(readings, null, strict=True)
        ]
        groups = _grouped(np.array([len(ids) for ids in epoch]), tokens, rng)
        for group in rng.permutation(len(groups)):
            yield _pad([epoch[row] for row in groups[group]])


def _grouped(lengths: np.ndarray, tokens: int, rng: np.random.Generator) -> list[list[int]]:
    """Row numbers of each batch: sorted by length, ties in a random order."""
    groups: list[list[int]] = [[]]
    # The longest first: a batch is as wide as its first row.
    for row in np.lexsort((rng.random(len(lengths)), -lengths)):
        if groups[-1] and lengths[groups[-1][0]] * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(int(row))
    return groups


def _pad(sequences: list[np.ndarray]) -> Batch:
    length = max(len(ids) for ids in sequences)
    input_ids = np.zeros((len(sequences), length), dtype=np.int64)
    targets = np.full_like(input_ids, IGNORED)
    for row, ids in enumerate(sequences):
        input_ids[row, : len(ids)] = ids
        targets[row, : len(ids) - 1] = ids[1:]
    return Batch(input_ids, targets)
