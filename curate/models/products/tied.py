"""The gradient of a weight that is the embedding's and the LM head's: on a CPU one tensor, not three. [ours]

The embedding's part is [vocabulary, hidden], and zero but in the rows of the tokens that were read: to fill it and to
add it to the head's took as long as a twentieth of a step. Here the head's backward pass, which comes first, leaves
its part to the embedding's, which adds those rows and gives the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding


class Tie:
    """Of one forward pass."""

    def __init__(self) -> None:
        self.weight: nn.Parameter | None = None  # the embedding's, once it has run
        self.gradient: torch.Tensor | None = None  # the head's part

    def add(self, part: torch.Tensor) -> None:
        self.gradient = part if self.gradient is None else self.gradient.add_(part)

    def take(self, weight: torch.Tensor) -> torch.Tensor:
        found, self.gradient = self.gradient, None
        return torch.zeros_like(weight) if found is None else found


_pass: ContextVar[Tie | None] = ContextVar("_pass", default=None)  # a thread's own


@contextmanager
def one_gradient() -> Iterator[None]:
    """A forward pass through embedding, layers and LM head, all of which its backward pass goes back through."""
    token = _pass.set(Tie())
    try:
        yield
    finally:
        _pass.reset(token)


def tie_of(weight: torch.Tensor) -> Tie | None:
    """What the head leaves its gradient to, if the embedding of this pass has this very weight."""
    tie = _pass.get()
    return tie if tie is not None and tie.weight is weight else None


def tie(model: Any) -> None:
    """Have the embedding, where it shares its float32 weight with the LM head on a CPU, take part in this."""
    module: Any = model.get_input_embeddings()
    shared = type(module) is nn.Embedding and module.weight is getattr(model.get_output_embeddings(), "weight", None)
    if shared and module.weight.dtype == torch.float32 and not (module.scale_grad_by_freq or module.max_norm):
        module.forward = MethodType(_forward, module)


def _forward(self: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
    found, weight = _pass.get(), self.weight
    if found is None or weight.device.type != "cpu" or not (weight.requires_grad and torch.is_grad_enabled()):
        return embedding(ids, weight, self.padding_idx)
    found.weight = weight
    return _Embedding.apply(ids, weight, self.padding_idx, found)  # type: ignore[no-any-return]


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: torch.Tensor, weight: torch.Tensor, padding: int | None, tie: Tie) -> torch.Tensor:
        ctx.save_for_backward(ids, weight)
        ctx.padding, ctx.tie = padding, tie
        return embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        ids, weight = ctx.saved_tensors
        ids, rows = ids.flatten(), gradients[0].flatten(0, -2)
        if ctx.padding is not None:
            ids, rows = (part[ids != ctx.padding] for part in (ids, rows))
        return None, ctx.tie.take(weight).index_add_(0, ids, rows), None, None
