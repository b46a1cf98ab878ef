"""Attention within a pack: a branch sees its root and itself, and nothing else.

Registered with transformers under the name `TREE`, so that every model on its attention interface can run a pack.
On a CPU each piece runs through the scaled-dot-product kernel, like pieces together; on CUDA it is one compiled
FlexAttention kernel, whose block mask skips whatever lies between pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from curate.scoring.packing.packs import Pack

TREE = "curate_tree"
WITHOUT_EFFECT = {
    *("dropout", "is_causal", "use_cache", "output_attentions", "output_hidden_states", "return_dict"),
    *("position_ids", "cache_position", "position_embeddings", "output_router_logits"),
}
"""What models hand to their attention and packs need not know. Anything else (soft-capping, sinks, block indices of
sparse attention) would be lost on it, so a model that gives more is not packed."""

GRID = 1.25  # pieces whose lengths differ by less than this factor run together, padded to the longest


class Unsupported(Exception):
    """The model asks for an attention that packs cannot give (soft-capping, sinks): it is run padded instead."""


class Piece(NamedTuple):
    """Queries of like length, with what each may see. Indices are positions in the pack; padding points at 0."""

    queries: torch.Tensor  # int64, [pieces, query length]
    keys: torch.Tensor  # int64, [pieces, key length]
    visible: torch.Tensor | None  # bool, [pieces, 1, query length, key length]; None: plain causal
    positions: tuple[torch.Tensor, torch.Tensor]  # int32, of `queries` and of `keys`, within their own sequence
    real: torch.Tensor  # int64, [real queries]: those that are no padding, as positions in `queries`, flat
    rows: torch.Tensor  # int64, [real queries]: and in the pack


_Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float | None, int | None], torch.Tensor]
_current: ContextVar[tuple[_Attend, set[int | None]] | None] = ContextVar("_current", default=None)  # a thread's own


@contextmanager
def attending(pack: Pack, device: torch.device, window: bool) -> Iterator[set[int | None]]:
    """Within this block, models with the `TREE` attention attend as `pack` says.

    Args:
        window: whether some layer may have a sliding window shorter than the pack's longest sequence.

    Yields:
        The set of sliding windows that layers asked for, filled as they run.
    """
    windows: set[int | None] = set()
    attend = _flex(pack, device) if device.type == "cuda" else _by_piece(pieces(pack, window))
    token = _current.set((attend, windows))
    try:
        yield windows
    finally:
        _current.reset(token)


def across_checkpoint() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """`context_fn` of torch.utils.checkpoint: what a pack attends by also holds when its layer is computed again."""
    return nullcontext(), _again(_current.get())


@contextmanager
def _again(current: tuple[_Attend, set[int | None]] | None) -> Iterator[None]:
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
    attend, windows = current
    windows.add(sliding_window)
    return attend(query, key, value, scaling, sliding_window), None


def register() -> None:
    """Make `TREE` known to transformers. No mask is registered under that name, so models make none."""
    from curate.base.light import transformers

    transformers.AttentionInterface.register(TREE, tree_attention)


def pieces(pack: Pack, window: bool) -> list[Piece]:
    """The pack cut into pieces of like length; with `window` every piece has a mask, to cut a window from."""
    cells: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(root: int, root_length: int, start: int, length: int) -> None:
        cell = (_grid(root_length), _grid(length))
        cells.setdefault(cell, []).append((np.arange(root, root + root_length), np.arange(start, start + length)))

    for start, length in pack.prompts:
        add(0, 0, start, length)
    for branch in pack.responses:
        if branch.length:
            add(*branch)
    return [_piece(members, window) for members in cells.values()]


def _grid(length: int) -> int:
    return 0 if length == 0 else 1 + int(np.log(length) / np.log(GRID))


def _piece(members: list[tuple[np.ndarray, np.ndarray]], window: bool) -> Piece:
    roots = max(len(root) for root, _ in members)
    queries = max(len(own) for _, own in members)
    index = np.zeros((len(members), roots + queries), dtype=np.int64)
    real = np.zeros((len(members), queries), dtype=bool)
    root_lengths = np.array([len(root) for root, _ in members])
    for row, (root, own) in enumerate(members):
        index[row, : len(root)] = root
        index[row, roots : roots + len(own)] = own
        real[row, : len(own)] = True
    visible = None
    if roots or window:
        # Columns: the root, padded to `roots`, then the branch; both in the order of their positions.
        column = np.arange(roots + queries)
        in_root = column[None, :] < root_lengths[:, None]
        own_before = (column[None, :] >= roots) & (column[None, :] - roots <= np.arange(queries)[:, None])
        visible = torch.from_numpy((in_root[:, None, :] | own_before[None])[:, None])
    own_position = (root_lengths[:, None] + np.arange(queries)[None, :]).astype(np.int32)
    root_position = np.broadcast_to(np.arange(roots, dtype=np.int32), (len(members), roots))
    positions = own_position, np.concatenate([root_position, own_position], axis=1)
    own_index = index[:, roots:]
    return Piece(
        queries=torch.from_numpy(np.ascontiguousarray(own_index)),
        keys=torch.from_numpy(index),
        visible=visible,
        positions=(torch.from_numpy(positions[0]), torch.from_numpy(positions[1])),
        real=torch.from_numpy(np.flatnonzero(real)),
        rows=torch.from_numpy(own_index[real]),
    )


def _by_piece(parts: list[Piece]) -> _Attend:
    masks: dict[int | None, list[torch.Tensor | None]] = {}

    def mask(piece: Piece, window: int | None) -> torch.Tensor | None:
        if piece.visible is None:
            return None
        seen = piece.visible
        if window is not None:
            query, key = piece.positions
            seen = seen & (query[:, None, :, None] - key[:, None, None, :] < window)
        return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
    ) -> torch.Tensor:
        if window not in masks:  # the same for every layer with this window
            masks[window] = [mask(piece, window) for piece in parts]
        # [T, heads, head_dim]: a token's heads lie together, so that taking rows copies whole stretches.
        q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
        return _Pieces.apply(q, k, v, parts, masks[window], scaling).unsqueeze(0)  # type: ignore[no-any-return]

    return attend


class _Pieces(torch.autograd.Function):
    """Attention of every piece: q, k, v [T, heads, head_dim] -> [T, heads, head_dim].

    The backward pass is ours: probabilities are computed again from q and k, in float32, and products do the rest.
    That of the scaled-dot-product kernel takes 23 times its forward pass on a CPU (torch 2.13, bfloat16, PKU pairs).
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        parts: list[Piece],
        masks: list[torch.Tensor | None],
        scaling: float | None,
    ) -> torch.Tensor:
        out = torch.empty((q.shape[0], q.shape[1], v.shape[2]), dtype=v.dtype, device=v.device)
        for piece, mask in zip(parts, masks, strict=True):
            states = scaled_dot_product_attention(
                _taken(q, piece.queries),
                _taken(k, piece.keys),
                _taken(v, piece.keys),
                attn_mask=None if mask is None else mask.to(q.dtype),
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )
            out.index_copy_(0, piece.rows, states.transpose(1, 2).flatten(0, 1).index_select(0, piece.real))
        ctx.save_for_backward(q, k, v, out)
        ctx.parts, ctx.masks = parts, masks
        ctx.scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out = ctx.saved_tensors
        (gradient,) = gradients
        # What a query's probabilities take from every key's gradient.
        shared = (gradient.float() * out.float()).sum(-1)
        totals = [torch.zeros(states.shape, device=states.device) for states in (q, k, v)]
        for piece, mask in zip(ctx.parts, ctx.masks, strict=True):
            found = _gradients(piece, mask, ctx.scaling, (q, k, v), gradient, shared)
            for total, index, part in zip(totals, (piece.queries, piece.keys, piece.keys), found, strict=True):
                total.index_add_(0, index.flatten(), part.transpose(1, 2).flatten(0, 1))
        return *(total.to(states.dtype) for total, states in zip(totals, (q, k, v), strict=True)), None, None, None


def _gradients(
    piece: Piece,
    mask: torch.Tensor | None,
    scaling: float,
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    gradient: torch.Tensor,
    shared: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of a piece's queries, keys and values: float32 [pieces, heads, length, head_dim], zero where there is padding.

    Args:
        gradient: of the output, [T, heads, head_dim].
        shared: of each query and head, [T, heads].
    """
    pieces, queries = piece.queries.shape
    heads, of_keys = states[0].shape[1], states[1].shape[1]
    real = torch.zeros(pieces * queries, 1, 1).index_fill_(0, piece.real, 1.0).view(pieces, 1, queries, 1)

    def rows(values: torch.Tensor) -> torch.Tensor:
        """Of queries: those of all heads that share a key's, one below the other: [pieces, of_keys, rows, ...]."""
        return values.unflatten(1, (of_keys, heads // of_keys)).flatten(2, 3)

    q, own = rows(_taken(states[0], piece.queries).float()), rows(_taken(gradient, piece.queries).float() * real)
    k, v = (_taken(part, piece.keys).float() for part in states[1:])
    taken = rows(_taken(shared.unsqueeze(-1), piece.queries) * real)
    if mask is None:
        mask = torch.full((queries, queries), -torch.inf).triu_(1).expand(1, 1, -1, -1)
    scores = (q @ k.mT).mul_(scaling)
    apart = scores.unflatten(2, (heads // of_keys, queries))
    apart += mask.unsqueeze(2)
    probabilities = scores.softmax(-1)
    of_values = probabilities.mT @ own
    of_scores = (own @ v.mT).sub_(taken).mul_(probabilities).mul_(scaling)
    of_queries = (of_scores @ k).unflatten(2, (heads // of_keys, queries)).flatten(1, 2)
    return of_queries, of_scores.mT @ q, of_values


def _taken(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of states [T, heads, head_dim]: index [pieces, length] -> [pieces, heads, length, head_dim]."""
    return states.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def _flex(pack: Pack, device: torch.device, compiled: bool = True) -> _Attend:
    """One FlexAttention call a layer; the block mask is made once a pack and window."""
    from torch.nn.attention import flex_attention as flex

    roots, branches, positions = (
        torch.from_numpy(part).to(device) for part in (pack.roots, pack.branches, pack.position_ids)
    )
    masks: dict[int | None, Any] = {}
    make, run = _compiled_flex() if compiled else (flex.create_block_mask, flex.flex_attention)
    # The prefill kernel, whatever the length: what the probe of a short pack tests is then what runs.
    options = {"kernel_options": {"BACKEND": "TRITON"}} if compiled else {}

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
    """Block mask and attention, compiled: uncompiled, the one holds [T, T] and the other [heads, T, T]."""
    from torch.nn.attention import flex_attention as flex

    return torch.compile(flex.create_block_mask, dynamic=True), torch.compile(flex.flex_attention, dynamic=True)
