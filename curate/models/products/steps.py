"""Steps between products on a CPU, by C (steps.c): where torch reads and writes several times over, once. [ours]"""

from __future__ import annotations

import ctypes
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import silu

from curate.base import native
from curate.models.products.cores import spread

SOURCE = Path(__file__).with_suffix(".c")
LEAST = 2**14  # numbers that a core gets, at least


@cache
def library() -> Any:
    """None where it cannot be compiled."""
    found = native.load(SOURCE)
    if found is not None:
        found.sum_exp.argtypes = *(ctypes.c_void_p,) * 3, *(ctypes.c_int64,) * 4
        found.gate.argtypes = *(ctypes.c_void_p,) * 2, *(ctypes.c_int64,) * 2
        found.sum_exp.restype = found.gate.restype = None
    return found


def sum_exp(logits: torch.Tensor, shift: torch.Tensor) -> torch.Tensor | None:
    """sum_v e^(logits_v - shift) of each row: logits [rows, columns], `shift` [rows]; None where that is not for us.
    Without gradient. More than 88 above its shift a logit counts as 88 above."""
    if not (_ours(logits, shift) and logits.stride(1) == 1 and library()):
        return None
    found = torch.empty_like(shift)
    rows, columns = logits.shape
    pointers = (part.data_ptr() for part in (logits, shift, found))
    spread(partial(library().sum_exp, *pointers, logits.stride(0), columns), rows, 1 + LEAST // max(1, columns))
    return found


def gate_(gated: torch.Tensor, raised: torch.Tensor) -> torch.Tensor:
    """silu(gated) raised, in the place of `gated`. Without gradient."""
    if not (_ours(gated, raised) and gated.is_contiguous() and raised.is_contiguous() and library()):
        return silu(gated, inplace=True).mul_(raised)
    spread(partial(library().gate, gated.data_ptr(), raised.data_ptr()), gated.numel(), LEAST)
    return gated


def _ours(*tensors: torch.Tensor) -> bool:
    return all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
