"""The section of benchmarks/gpu.py on a pack's attention: what its kernel takes by dtype and by the kernel's options.

In float32 FlexAttention's forward kernel took half of a training step's time on the GPU, at 58 times bfloat16's, and
more than its own backward pass (docs/gpu.md): its blocks for float32 look too large.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from curate.scoring.packing import attention
from curate.scoring.packing.packs import Pack, packs

if TYPE_CHECKING:
    from gpu_sections import Setup

HEADS, KEY_HEADS, WIDTH = 9, 3, 64  # SmolLM2-135M's
TOKENS = 4096  # of the pack, at most
REPEATS = 20
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "bfloat16": [{}],
    "float32": [
        {},
        {"BLOCK_M": 64, "BLOCK_N": 64},
        {"BLOCK_M": 64, "BLOCK_N": 32},
        {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 8},
        {"BLOCK_M": 32, "BLOCK_N": 32},
        {"BLOCK_M": 64, "BLOCK_N": 16, "num_stages": 1},
        {"FLOAT32_PRECISION": "'tf32x3'"},
        {"BLOCK_M": 64, "BLOCK_N": 32, "FLOAT32_PRECISION": "'tf32x3'"},
    ],
}


def pack_attention(setup: Setup) -> None:
    """Milliseconds of a pass forward and of one forward and back, and how far the first is from float64."""
    from gpu_sections import DEVICE, ON_GPU

    pack = next(packs(setup.sequences(setup.small, 3 if setup.tiny else 200), 256 if setup.tiny else TOKENS))
    exact = _exact(pack, DEVICE)
    asked = OPTIONS if ON_GPU else {"float32": [{}]}
    for dtype, every in asked.items():
        for options in every:
            about = {"dtype": dtype, "options": str(options) if options else "torch's own"}
            try:
                setup.add(**about, tokens=len(pack.input_ids), **_measured(pack, dtype, options, exact))
            except Exception as error:  # such as a block too large for the card: the others go on
                setup.add(**about, note=f"{type(error).__name__}: {str(error)[:200]}")


def _measured(pack: Pack, dtype: str, options: dict[str, Any], exact: torch.Tensor) -> dict[str, float]:
    kernel = attention.KERNEL
    attention.KERNEL = kernel | options
    try:
        with attention.attending(pack, exact.device):
            states = [state.to(getattr(torch, dtype)).requires_grad_() for state in _states(pack, exact.device)]

            def forward() -> torch.Tensor:
                out, _ = attention.tree_attention(torch.nn.Module(), *states, None, scaling=WIDTH**-0.5)
                return out

            apart = (forward().detach().double() - exact).abs().max().item()
            return {
                "forward, ms": _milliseconds(forward),
                "and back": _milliseconds(lambda: forward().sum().backward()),
                "max apart": apart,
            }
    finally:
        attention.KERNEL = kernel


def _milliseconds(run: Callable[[], Any]) -> float:
    def settle() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    run()
    start = settle()
    for _ in range(REPEATS):
        run()
    return 1000 * (settle() - start) / REPEATS


def _states(pack: Pack, device: torch.device) -> list[torch.Tensor]:
    """Query, key and value in float64: [1, heads, T, width]."""
    drawn = torch.Generator().manual_seed(0)
    shapes = [(1, heads, len(pack.input_ids), WIDTH) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    return [torch.randn(shape, generator=drawn, dtype=torch.float64).to(device) for shape in shapes]


def _exact(pack: Pack, device: torch.device) -> torch.Tensor:
    """Attention in float64 with the pack's mask written out: [1, T, heads, width]."""
    roots, branches, positions = (
        torch.from_numpy(part).to(device) for part in (pack.roots, pack.branches, pack.position_ids)
    )
    own = (branches[None] == 0) | (branches[None] == branches[:, None])
    seen = (roots[:, None] == roots[None]) & own & (positions[None] <= positions[:, None])
    query, key, value = _states(pack, device)
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
    return out.transpose(1, 2)


SECTIONS = (pack_attention,)
