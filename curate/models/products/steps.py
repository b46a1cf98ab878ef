"""Steps between products: on a CPU by C (steps.c), each once over what it reads; elsewhere by torch. [ours]

C takes float32 that lies together, and bfloat16 where it says so; it computes in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import silu

from curate.base import native
from curate.models.products.cores import spread

SOURCE = Path(__file__).with_suffix(".c")
LEAST = 2**14  # numbers that a core gets, at least
HALF = {torch.float32: 0, torch.bfloat16: 1}


@cache
def library() -> Any:
    """None where it cannot be compiled."""
    declared = {
        "sum_exp": "pppiiiii",
        "softmax_slope": "ppppiiii",
        "gate": "pppiii",
        "gate_backward": "pppppiii",
        "norm": "ppppifiii",
        "norm_backward": "pppppiiii",
        "norm_weight": "ppppiiiii",
        "transpose": "ppiiii",
    }
    return native.functions(SOURCE, declared)


def sum_exp(logits: torch.Tensor, shift: torch.Tensor) -> torch.Tensor | None:
    """sum_v e^(logits_v - shift) of each row: logits [rows, columns], float32 or bfloat16, `shift` [rows]; None where
    that is not for C. Without gradient. More than 88 above its shift a logit counts as 88 above."""
    if not (_ours(logits, half=True) and _ours(shift) and logits.stride(1) == 1 and library()):
        return None
    found = torch.empty_like(shift)
    _by_row(library().sum_exp, (logits, shift, found), logits, logits.stride(0), logits.shape[1], HALF[logits.dtype])
    return found


def softmax_slope_(
    logits: torch.Tensor, norm: torch.Tensor, scale: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor | None:
    """scale (onehot(targets) - e^(logits - norm)), in the place of the logits; None where that is not for C.

    Args:
        logits: [rows, columns], float32 or bfloat16; `norm` and `scale` [rows], float32.
        targets: int64 [rows]; one that is no column is in none.
    """
    together = all(each.is_contiguous() for each in (logits, norm, scale, targets))
    if not (_ours(logits, half=True) and _ours(norm, scale) and together and library()):
        return None
    _by_row(library().softmax_slope, (logits, norm, scale, targets), logits, logits.shape[1], HALF[logits.dtype])
    return logits


def gate(gated: torch.Tensor, raised: torch.Tensor, *, overwrite: bool = False) -> torch.Tensor:
    """silu(gated) raised; with `overwrite` in the place of `gated`."""
    if not _alike(gated, raised):
        return silu(gated, inplace=overwrite).mul_(raised)
    out = gated if overwrite else torch.empty_like(gated)
    spread(_kernel(library().gate, (gated, raised, out), HALF[gated.dtype]), gated.numel(), LEAST)
    return out


def gate_backward_(
    gated: torch.Tensor, raised: torch.Tensor, slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(silu(gated) raised, the gradient of gated, that of raised), where `slope` is that of silu(gated) raised: it is
    overwritten."""
    if not _alike(gated, raised, slope):
        active = silu(gated)
        of_raised = slope * active
        of_gated = torch.ops.aten.silu_backward(slope.mul_(raised), gated)
        return active.mul_(raised), of_gated, of_raised
    out, of_raised = torch.empty_like(gated), torch.empty_like(gated)
    arrays = gated, raised, slope, out, of_raised
    spread(_kernel(library().gate_backward, arrays, HALF[gated.dtype]), gated.numel(), LEAST)
    return out, slope, of_raised


def norm(
    states: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(states scale weight in `dtype`, scale), where scale = 1 / sqrt(mean of states^2 + eps): states [..., width],
    weight [width], scale [..., 1] float32. Without gradient."""
    if not _norms(states, weight) or dtype not in HALF:
        scale = states.float().square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        return (states * scale).to(states.dtype).mul(weight).to(dtype), scale
    out, scale = torch.empty_like(states, dtype=dtype), states.new_empty(*states.shape[:-1], 1)
    _by_row(library().norm, (states, weight, scale, out), states, len(weight), eps, HALF[dtype])
    return out, scale


def norm_backward(
    states: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, slope: torch.Tensor, of_weight: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(the gradient of the states, that of the weight or None), where `slope` is that of what `norm` gives."""
    if not (_norms(states, weight) and _ours(slope, half=True) and slope.is_contiguous()):
        gradient = slope.to(torch.promote_types(states.dtype, weight.dtype))
        normed = states * scale
        weights = (gradient * normed).flatten(0, -2).sum(0).to(weight.dtype) if of_weight else None
        scaled = gradient * weight
        mean = (scaled * normed).mean(-1, keepdim=True)
        return scaled.sub_(normed.mul_(mean)).mul_(scale).to(states.dtype), weights
    found, width, half = torch.empty_like(states), len(weight), HALF[slope.dtype]
    _by_row(library().norm_backward, (states, weight, scale, slope, found), states, width, half)
    if not of_weight:
        return found, None
    weights, rows = torch.empty_like(weight), states.numel() // max(1, width)
    run = _kernel(library().norm_weight, (states, scale, slope, weights), rows, width, half)
    spread(run, width, 1 + LEAST // max(1, rows))
    return found, weights


def transposed(matrix: torch.Tensor) -> torch.Tensor:
    """[rows, columns] -> [columns, rows]; in float32 on a CPU it lies together."""
    if not (_ours(matrix) and matrix.is_contiguous() and library()):
        return matrix.t()
    rows, columns = matrix.shape
    found = matrix.new_empty(columns, rows)
    spread(_kernel(library().transpose, (matrix, found), rows, columns), columns, 1 + LEAST // max(1, rows))
    return found


def _kernel(function: Any, arrays: tuple[torch.Tensor, ...], *numbers: float) -> Callable[[int, int], None]:
    return partial(function, *(array.data_ptr() for array in arrays), *numbers)


def _by_row(function: Any, arrays: tuple[torch.Tensor, ...], rows: torch.Tensor, *numbers: float) -> None:
    width = max(1, rows.shape[-1])
    spread(_kernel(function, arrays, *numbers), rows.numel() // width, 1 + LEAST // width)


def _ours(*tensors: torch.Tensor, half: bool = False) -> bool:
    dtypes = HALF if half else (torch.float32,)
    return all(tensor.dtype in dtypes and tensor.device.type == "cpu" for tensor in tensors)


def _alike(*tensors: torch.Tensor) -> bool:
    one = {(tensor.dtype, tensor.shape) for tensor in tensors}
    together = all(tensor.is_contiguous() for tensor in tensors)
    return len(one) == 1 and together and _ours(*tensors, half=True) and library() is not None


def _norms(states: torch.Tensor, weight: torch.Tensor) -> bool:
    together = states.is_contiguous() and weight.is_contiguous()
    return together and _ours(states, weight) and library() is not None
