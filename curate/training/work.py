"""The sequences of one training step, and how a policy runs them: in packs, or padded in buckets of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from curate.models.rendering import TokenSequence
from curate.scoring.packing.forward import Batch, pad
from curate.scoring.packing.packs import Pack, packs

PACK_TOKENS = {"cpu": 4096, "cuda": 32768}  # in one pack, at most (or one sequence)
PADDING = 1.25  # a bucket's longest sequence over its shortest, at most


class Work:
    """Sequences whose log-probabilities a step needs. A plain object: whatever wraps the model passes it through.

    Args:
        sequences: N of them; those that share a prompt share its computation.
        token_weights: of a sequence's response tokens, float32 [|y|]; None counts each token once.
        alignment: the step also needs WPO's alignment of each response.
    """

    def __init__(
        self,
        sequences: Sequence[TokenSequence],
        token_weights: Sequence[np.ndarray | None] | None = None,
        alignment: bool = False,
    ) -> None:
        self.sequences = list(sequences)
        self.token_weights = token_weights
        self.alignment = alignment

    def __len__(self) -> int:
        return len(self.sequences)

    def packs(self, device: torch.device, together: bool = False) -> Iterator[Pack]:
        """Packs that the device has room for; `together`: one, whatever it takes."""
        whole = sum(sequence.length for sequence in self.sequences)
        return packs(self.sequences, whole if together else PACK_TOKENS[device.type])

    def buckets(self, unpadded_beyond: float = np.inf, together: bool = False) -> Iterator[tuple[list[int], Batch]]:
        """Sequences of like length, left-padded, with their numbers; those longer than `unpadded_beyond` tokens beside
        others of their own length alone. `together`: all in one, but for those."""
        order = sorted(range(len(self)), key=lambda number: -self.sequences[number].length)
        start = 0
        for end in range(1, len(order) + 1):
            longest = self.sequences[order[start]].length
            ratio = (np.inf if together else PADDING) if longest <= unpadded_beyond else 1
            if end == len(order) or longest > ratio * self.sequences[order[end]].length:
                yield order[start:end], pad([self.sequences[number] for number in order[start:end]])
                start = end

    def weights(self, number: int, device: torch.device) -> torch.Tensor | None:
        if self.token_weights is None or self.token_weights[number] is None:
            return None
        return torch.from_numpy(self.token_weights[number]).to(device)
