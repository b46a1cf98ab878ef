"""The device that models run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curate.base.errors import InputError

if TYPE_CHECKING:
    import torch


def device_type() -> str:
    """`cuda` where there is such a device, else `cpu`."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "scoring needs torch", remedy="pip install 'curate-preferences[train]', or --engine server"
        ) from error
    return "cuda" if torch.cuda.is_available() else "cpu"


def device() -> torch.device:
    """The CUDA device where there is one, else the CPU. Of processes that were launched together each has its own.

    Attention there goes without cuDNN: it makes a plan for each new shape, a fifth of a second, and here nearly every
    shape is new (docs/gpu.md).
    """
    import torch

    if device_type() == "cpu":
        return torch.device("cpu")
    torch.backends.cuda.enable_cudnn_sdp(False)
    # As accelerate takes them.
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def take_device() -> None:
    """Have what names no CUDA device use `device()`: to be called before anything is put on one."""
    import torch

    if device_type() == "cuda":
        torch.cuda.set_device(device())


@contextmanager
def as_deterministic_as_before() -> Iterator[None]:
    """Whatever is done in this block with torch's deterministic kernels, it is undone behind it."""
    import torch
    from torch.utils import deterministic

    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        deterministic.fill_uninitialized_memory = filled
