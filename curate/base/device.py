"""The device that models run on."""

from __future__ import annotations

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
    """The CUDA device where there is one, else the CPU."""
    import torch

    return torch.device(device_type())
