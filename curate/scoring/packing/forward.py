"""One forward pass of a causal LM -> summed log-probability of each response; scoring and training share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from curate.models.rendering import TokenSequence


class Batch(NamedTuple):
    """Left-padded sequences: every response ends at the right edge, so its logits are the last few columns."""

    input_ids: torch.Tensor  # int64, [sequences, length]
    attention_mask: torch.Tensor  # int64, [sequences, length]; 0 on padding
    response_lengths: torch.Tensor  # int64, [sequences]

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


def pad(sequences: Sequence[TokenSequence]) -> Batch:
    """Left-pad to the longest."""
    length = max(sequence.length for sequence in sequences)
    input_ids = np.zeros((len(sequences), length), dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for row, (prompt, response) in enumerate(sequences):
        start = length - len(prompt) - len(response)
        input_ids[row, start : start + len(prompt)] = prompt
        input_ids[row, start + len(prompt) :] = response
        mask[row, start:] = 1
    lengths = np.array([len(sequence.response_ids) for sequence in sequences])
    return Batch(torch.from_numpy(input_ids), torch.from_numpy(mask), torch.from_numpy(lengths))


def of_one_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers of forward passes without padding: rows of one length, longest first, at most `budget` tokens (or
    one row)."""
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        by_length.setdefault(length, []).append(row)
    for length, rows in sorted(by_length.items(), reverse=True):
        at_once = max(1, budget // max(1, length))
        for start in range(0, len(rows), at_once):
            yield rows[start : start + at_once]


def response_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits float32 [S, vocabulary], targets int64 [S], which [sequences, columns]) of the S response tokens.

    `which` marks the columns of the longest response that belong to each sequence's own; S runs over them row by
    row. The LM head runs on the last (longest response + 1) columns only: `logits_to_keep` goes through the model's
    own forward, so that logit scaling and soft-capping stay the model's.
    """
    keep = int(batch.response_lengths.max()) + 1
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=_positions(batch.attention_mask),
        logits_to_keep=keep,
        use_cache=False,
    ).logits[:, -keep:-1]
    targets = batch.input_ids[:, -(keep - 1) :]
    # The column c of `targets` belongs to the response when it is among the last response_length ones.
    column = torch.arange(keep - 1, device=targets.device)
    scored = column >= (keep - 1 - batch.response_lengths).unsqueeze(1)
    # Only the scored rows go through the softmax.
    return logits[scored].float(), targets[scored], scored


def _positions(mask: torch.Tensor) -> torch.Tensor | None:
    """Positions from 0 in each row; None where nothing is padded: some models count from another number (RoBERTa)."""
    return None if bool(mask.all()) else (mask.cumsum(-1) - 1).clamp_min(0)


def response_logps(model: Any, batch: Batch) -> torch.Tensor:
    """log p(response | prompt): float32, [sequences], nats, summed over the response's tokens."""
    logits, targets, scored = response_logits(model, batch)
    token_logps = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    # A scatter, not index_add: each row's own columns, summed in a fixed order.
    per_token = torch.zeros(scored.shape, dtype=token_logps.dtype, device=targets.device)
    return per_token.masked_scatter(scored, token_logps).sum(-1)


def stretches_beyond(config: Any) -> float:
    """Length from which the rotary embedding depends on the longest sequence of the forward pass: such run alone."""
    rope = getattr(config, "rope_parameters", None) or {}
    each = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return min(
        (
            one["original_max_position_embeddings"]
            for one in each
            if one.get("rope_type") in ("dynamic", "longrope") and "original_max_position_embeddings" in one
        ),
        default=np.inf,
    )
