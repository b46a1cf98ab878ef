"""What generates: requests of token ids for engines, conversations for chat models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from curate.evaluation.items import Messages, Response


class Sampling(NamedTuple):
    """How an answer is drawn. At temperature 0 it is the likeliest token each time, and the seed has no effect."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Request(NamedTuple):
    """What an engine generates from."""

    prompt_ids: np.ndarray  # int32, [tokens], the prefill's included
    max_tokens: int
    temperature: float
    top_p: float
    seed: int  # of this request alone: the same request gives the same answer in any company


class Generated(NamedTuple):
    ids: list[int]  # without the token that ended it
    finish: str  # "stop" or "length"


class GenerationEngine(Protocol):
    """Continues token sequences with one model in one dtype."""

    version: str  # engine, its version, torch and device, as the cache's key has it

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """Continue each, up to one of the stop tokens or `max_tokens`."""
        ...

    def close(self) -> None: ...


class Ask(NamedTuple):
    """A conversation that wants an answer."""

    messages: Messages
    prefill: str = ""  # the answer is made to begin with the first `prefill_tokens` tokens of this text
    prefill_tokens: int = 0
    sample: int = 0  # number of the draw: equal conversations of other numbers have other seeds


class ChatModel(Protocol):
    """Answers conversations: a model on this machine, or one behind an OpenAI-compatible endpoint."""

    def record(self) -> dict[str, Any]:
        """Which model, as provenance has it: no secret, nothing of this machine's folders."""
        ...

    def chat(self, asks: Sequence[Ask], sampling: Sampling, what: str = "generate") -> list[Response]:
        """An answer to each; what was answered before comes from the cache, and what is new goes there at once.

        Args:
            what: name of the progress bar.

        Raises:
            InputError: a conversation that cannot be rendered, an engine or endpoint that fails for good.
        """
        ...

    def close(self) -> None: ...
