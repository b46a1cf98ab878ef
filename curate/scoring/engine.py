"""What scores sequences: the protocol that every engine keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from curate.models.rendering import TokenSequence


class Engine(Protocol):
    """Scores token sequences with one model in one dtype."""

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """log p(response | prompt) of each, nats, summed over the response's tokens: float64, [sequences]."""
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...
