"""Matrix products on a CPU by oneDNN, with gradients, in float32 or in bfloat16 over float32 weights.

float32: 1.8 to 2.4 times PyTorch's own where that calls MKL on a processor not Intel's (benchmarks/training.py).
bfloat16 (under autocast): a weight is rounded once a step, not once a product; gradients of weights are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from curate.models.products.steps import transposed


def product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """a [..., K] times b [N, K] transposed, plus bias [N]: [..., N]. Either may be a transposed view. No gradient.

    What it gives is no view: autograd refuses that a layer's output is overwritten where it is one (Gemma 3n does so).
    """
    if a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and onednn():
        found = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    elif torch.is_autocast_enabled(a.device.type):  # what is multiplied has its dtype already
        with torch.autocast(a.device.type, enabled=False):
            found = linear(a, b, bias)
    else:
        found = linear(a, b, bias)
    return torch.ops.aten._unsafe_view(found, found.shape)  # type: ignore[no-any-return]


@cache
def onednn() -> bool:
    """Whether oneDNN's float32 products are the faster ones: wherever it is, but on Intel's own processors, where MKL
    makes no such difference (and gradients of weights are a quarter faster by MKL)."""
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        intel = False
    return bool(torch.backends.mkldnn.is_available()) and not (intel and torch.backends.mkl.is_available())


def weight_gradient(gradient: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Of a weight [N, K], from the gradient [..., N] of its products with states [..., K]: float32."""
    return product(transposed(gradient.flatten(0, -2)), states.flatten(0, -2).t()).float()


def operand(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in the dtype of products: autocast's where it is on. Within `rounding_once` a parameter is rounded the
    first time alone."""
    device = tensor.device.type
    if not torch.is_autocast_enabled(device):
        return tensor
    dtype = torch.get_autocast_dtype(device)
    if tensor.dtype == dtype or not isinstance(tensor, nn.Parameter) or _rounded is None:
        return tensor.to(dtype)
    key = id(tensor), dtype
    if key not in _rounded:
        _rounded[key] = tensor, tensor.detach().to(dtype)
    return _rounded[key][1]


_rounded: dict[tuple[int, torch.dtype], tuple[nn.Parameter, torch.Tensor]] | None = None  # of all threads


@contextmanager
def rounding_once() -> Iterator[None]:
    """Within this block no parameter changes. (It would not show: fused AdamW leaves a weight's version as it was.)"""
    global _rounded
    outer = _rounded
    if outer is None:
        _rounded = {}
    try:
        yield
    finally:
        _rounded = outer


class Again:
    """A tensor that is cheap to make, for the backward pass of those that read it: made again by the first of them, let
    go by the last, and in between not held. A tensor that has one has it as the attribute `again`."""

    def __init__(self, make: Callable[..., torch.Tensor], *sources: torch.Tensor) -> None:
        self._make, self._sources = make, sources
        self._versions = [source._version for source in sources]
        self._readers = 0
        self._made: torch.Tensor | None = None

    def keep(self) -> Again:
        """One more reads it."""
        self._readers += 1
        return self

    def take(self) -> torch.Tensor:
        """It, as it was; to be called by each reader once.

        Raises:
            AssertionError: what it is made from has been overwritten.
        """
        if [source._version for source in self._sources] != self._versions:
            raise AssertionError("what a tensor is made from again has been overwritten")
        made = self._make(*self._sources) if self._made is None else self._made
        self._readers -= 1
        self._made = made if self._readers > 0 else None
        return made


def again(states: torch.Tensor, *weights: torch.Tensor) -> Again | None:
    """What makes `states` again, kept for one more reader; None where nothing does, or no weight learns from it."""
    found = getattr(states, "again", None)
    needed = any(weight.requires_grad for weight in weights)
    return found.keep() if found is not None and needed else None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, source: Again | None
    ) -> torch.Tensor:
        ctx.dtype, ctx.source = states.dtype, source
        states, weight = operand(states), operand(weight)
        ctx.save_for_backward(states if ctx.needs_input_grad[1] and not source else None, weight)
        return product(states, weight, None if bias is None else operand(bias))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        (gradient,) = gradients
        if ctx.source:
            states = ctx.source.take()
        return (
            product(gradient, weight.t()).to(ctx.dtype) if ctx.needs_input_grad[0] else None,
            weight_gradient(gradient, states) if ctx.needs_input_grad[1] else None,
            gradient.flatten(0, -2).sum(0, dtype=torch.float32) if ctx.needs_input_grad[2] else None,
            None,
        )


def speed_up(model: nn.Module) -> None:
    """Have every linear layer of a float32 model on a CPU use `product`; other models stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32:
            module.forward = MethodType(_forward, module)


def _forward(self: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    return _Linear.apply(states, self.weight, self.bias, again(states, self.weight))  # type: ignore[no-any-return]
