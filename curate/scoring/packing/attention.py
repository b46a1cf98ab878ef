"""Attention within a pack: a branch sees its root and itself, and nothing else.

Registered with transformers under the name `TREE`, so that every model on its attention interface can run a pack.
On a CPU it is a kernel of our own (`curate.scoring.packing.tree`), or where no C compiler is torch's, piece by piece
(`curate.scoring.packing.pieces`); on CUDA one compiled FlexAttention kernel, whose block mask skips whatever lies
between pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from curate.scoring.packing.packs import Pack
from curate.scoring.packing.pieces import Plan
from curate.scoring.packing.tree import Tree, kernels

TREE = "curate_tree"
VARIANTS = 64  # of a compiled kernel, at most
KERNEL: dict[str, Any] = {"BACKEND": "TRITON"}
"""Options of the compiled kernel. The prefill kernel, whatever the length: what the probe of a short pack tests is then
what runs."""
WITHOUT_EFFECT = {
    *("dropout", "is_causal", "use_cache", "output_attentions", "output_hidden_states", "return_dict"),
    *("position_ids", "cache_position", "position_embeddings", "output_router_logits"),
}
"""What models hand to their attention and packs need not know. Anything else (soft-capping, sinks, block indices of
sparse attention) would be lost on it, so a model that gives more is not packed."""


class Unsupported(Exception):
    """The model asks for an attention that packs cannot give (soft-capping, sinks): it is run padded instead."""


_Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float | None, int | None], torch.Tensor]


class _Pass(NamedTuple):
    """A pack on its way through the model."""

    attend: _Attend
    windows: set[int | None]
    rows: torch.Tensor  # int64: positions whose states are wanted of the last layer, each once


_current: ContextVar[_Pass | None] = ContextVar("_current", default=None)  # a thread's own


@contextmanager
def attending(pack: Pack, device: torch.device) -> Iterator[set[int | None]]:
    """Within this block, models with the `TREE` attention attend as `pack` says.

    Yields:
        The set of sliding windows that layers asked for, filled as they run.
    """
    windows: set[int | None] = set()
    attend = _flex(pack, device) if device.type == "cuda" else on_cpu(pack)
    rows = torch.from_numpy(np.unique(pack.rows)).to(device, non_blocking=True)
    with _within(_Pass(attend, windows, rows)):
        yield windows


def rows_wanted() -> torch.Tensor | None:
    """Positions of the pack on its way (int64, ascending) whose states are wanted of the last layer; None outside."""
    current = _current.get()
    return None if current is None else current.rows


def across_checkpoint() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """`context_fn` of torch.utils.checkpoint: what a pack attends by also holds when its layer is computed again."""
    return nullcontext(), _within(_current.get())


@contextmanager
def _within(current: _Pass | None) -> Iterator[None]:
    token = _current.set(current)
    try:
        yield
    finally:
        _current.reset(token)


def tree_attention(
    _: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer: query [1, heads, T, head_dim] -> [1, T, heads, head_dim]."""
    unknown = [name for name, value in options.items() if value is not None and name not in WITHOUT_EFFECT]
    if unknown:
        raise Unsupported(f"its attention takes {', '.join(unknown)}")
    current = _current.get()
    if attention_mask is not None or query.shape[0] != 1 or current is None or options.get("is_causal") is False:
        raise Unsupported("its attention is not that of one packed row")
    current.windows.add(sliding_window)
    return current.attend(query, key, value, scaling, sliding_window), None


def register() -> None:
    """Make `TREE` known to transformers. No mask is registered under that name, so models make none."""
    from curate.base.light import transformers

    transformers.AttentionInterface.register(TREE, tree_attention)


def on_cpu(pack: Pack) -> _Attend:
    """Our kernel where there is a C compiler, else torch's."""
    ours = kernels()
    return Tree(pack, ours).attend if ours else Plan(pack).attend


def _flex(pack: Pack, device: torch.device, compiled: bool = True) -> _Attend:
    """One FlexAttention call a layer; the block mask is made once a pack and window."""
    from torch.nn.attention import flex_attention as flex

    roots, branches, positions = (
        torch.from_numpy(part).to(device) for part in (pack.roots, pack.branches, pack.position_ids)
    )
    masks: dict[int | None, Any] = {}
    make, run = _compiled_flex() if compiled else (flex.create_block_mask, flex.flex_attention)
    options = {"kernel_options": KERNEL} if compiled else {}

    def block_mask(window: int | None) -> Any:
        def visible(_: Any, __: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            own = (branches[k] == 0) | (branches[k] == branches[q])
            seen = (roots[q] == roots[k]) & own & (positions[k] <= positions[q])
            return seen if window is None else seen & (positions[q] - positions[k] < window)

        return make(visible, None, None, len(roots), len(roots), device=device)

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
    ) -> torch.Tensor:
        if window not in masks:
            masks[window] = block_mask(window)
        grouped = query.shape[1] != key.shape[1]
        out = run(query, key, value, block_mask=masks[window], scale=scaling, enable_gqa=grouped, **options)
        return out.transpose(1, 2)

    return attend


@cache
def _compiled_flex() -> tuple[Any, Any]:
    """Block mask and attention, compiled: uncompiled, the one holds [T, T] and the other [heads, T, T].

    With and without gradient, autocast or a window, short and long: of each there is a variant. Beyond its limit, 8,
    torch would run them uncompiled.
    """
    from torch.nn.attention import flex_attention as flex

    torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)

    return torch.compile(flex.create_block_mask, dynamic=True), torch.compile(flex.flex_attention, dynamic=True)
