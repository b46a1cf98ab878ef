"""Rotary position embedding of queries and keys in one step on a CPU, by C (rotary.c). [ours]

transformers writes it as two products, a negation, a concatenation and a sum, and its gradient is longer still. The
numbers are the same, to the bit. Where there is no C compiler nothing is changed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from curate.base import native
from curate.models.products.cores import spread

NAME = "apply_rotary_pos_emb"
SOURCE = Path(__file__).with_suffix(".c")
LEAST = 256  # tokens that a core gets, at least
DTYPES = (torch.float32, torch.bfloat16)  # of queries and keys
Kernel = Callable[..., None]


class Kernels(NamedTuple):
    """As rotary.c declares them."""

    rotate: Kernel
    rotate_backward: Kernel


@functools.cache
def kernels() -> Kernels | None:
    """None where they cannot be compiled."""
    library = native.functions(SOURCE, {"rotate": "ppppiiii", "rotate_backward": "ppppiiii"}, fused=False)
    return library and Kernels(library.rotate, library.rotate_backward)


def rotate_at_once(model: nn.Module) -> None:
    """Have the modules that define the model's layers use ours, on a CPU, if theirs gives the same numbers.

    It is a function of a whole file of transformers that is replaced: it gives the same to any other model.
    """
    ours = kernels()
    for name in {type(module).__module__ for module in model.modules()} if ours else ():
        file = sys.modules.get(name)
        theirs = getattr(file, NAME, None)
        if ours and callable(theirs) and not isinstance(theirs, Rotation):
            same = tuple(dtype for dtype in DTYPES if _same(theirs, ours, dtype))
            if torch.float32 in same:
                setattr(file, NAME, Rotation(theirs, ours, same))


class Rotation:
    """q and k [batch, heads, tokens, width], cos and sin [batch, tokens, width] -> q and k, rotated.

    Of `dtypes`: some (OLMo's) give what is not float32 its dtype again.
    """

    def __init__(self, theirs: Callable[..., Any], kernels: Kernels, dtypes: Sequence[torch.dtype]) -> None:
        functools.update_wrapper(self, theirs)
        self._theirs, self._kernels, self._dtypes = theirs, kernels, dtypes

    def __call__(self, q: Any, k: Any, cos: Any, sin: Any, *args: Any, **options: Any) -> Any:
        ours = all(_plain(states, cos, sin) and states.dtype in self._dtypes for states in (q, k))
        if args or options or not ours or torch.compiler.is_compiling():
            return self._theirs(q, k, cos, sin, *args, **options)
        cos, sin = cos.contiguous(), sin.contiguous()
        return tuple(_Rotation.apply(states, cos, sin, self._kernels) for states in (q, k))


def _plain(states: Any, cos: Any, sin: Any) -> bool:
    """Whether these are of the shapes and dtypes that are ours."""
    if not all(isinstance(each, torch.Tensor) and each.device.type == "cpu" for each in (states, cos, sin)):
        return False
    if not cos.dtype == sin.dtype == torch.float32:
        return False
    shape = (states.shape[0], *states.shape[2:]) if states.ndim == 4 else ()
    return bool(shape == cos.shape == sin.shape and shape[-1] % 2 == 0 and not cos.requires_grad)


def _same(theirs: Callable[..., Any], ours: Kernels, dtype: torch.dtype) -> bool:
    """Whether it computes what ours does, of queries and keys of this dtype: of two tokens, two heads, and a width of
    16."""
    generator = torch.Generator().manual_seed(0)
    q, k, cos, sin = (torch.randn(shape, generator=generator) for shape in [(1, 2, 2, 16)] * 2 + [(1, 2, 16)] * 2)
    q, k = q.to(dtype), k.to(dtype)
    try:
        expected = theirs(q, k, cos, sin)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    found = Rotation(theirs, ours, DTYPES)(q, k, cos, sin)
    pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) and len(expected) == 2 else ()
    return bool(pairs) and all(
        isinstance(one, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other) for other, one in pairs
    )


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, kernels: Kernels) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.dtype, ctx.kernel = states.dtype, kernels.rotate_backward
        return _run(kernels.rotate, states, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _run(ctx.kernel, gradients[0], *ctx.saved_tensors).to(ctx.dtype), None, None, None


def _run(kernel: Kernel, states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """float32, of the shape of `states`; in memory a token's heads lie together, as its products made them."""
    source = states.float().transpose(1, 2).contiguous()
    found = torch.empty_like(source)
    batch, tokens, heads, width = source.shape
    pointers = (each.data_ptr() for each in (source, cos, sin, found))
    spread(functools.partial(kernel, *pointers, heads, width), batch * tokens, LEAST)
    return found.transpose(1, 2)
