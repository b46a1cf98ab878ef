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
from torch.nn.functional import pad

from curate.scoring.packing.packs import Branch, Pack

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
    members: list[Branch]
    positions: tuple[torch.Tensor, torch.Tensor]  # int32, of `queries` and of `keys`, within their own sequence
    real: torch.Tensor  # int64, [real queries]: those that are no padding, as positions in `queries`, flat


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
    cells: dict[tuple[int, int], list[Branch]] = {}
    for branch in (*(Branch(0, 0, *prompt) for prompt in pack.prompts), *pack.responses):
        if branch.length:
            cells.setdefault((_grid(branch.root_length), _grid(branch.length)), []).append(branch)
    return [_piece(members, window) for members in cells.values()]


def _grid(length: int) -> int:
    return 0 if length == 0 else 1 + int(np.log(length) / np.log(GRID))


def _piece(members: list[Branch], window: bool) -> Piece:
    roots = max(member.root_length for member in members)
    queries = max(member.length for member in members)
    index = np.zeros((len(members), roots + queries), dtype=np.int64)
    real = np.zeros((len(members), queries), dtype=bool)
    root_lengths = np.array([member.root_length for member in members])
    for row, (root, root_length, start, length) in enumerate(members):
        index[row, :root_length] = np.arange(root, root + root_length)
        index[row, roots : roots + length] = np.arange(start, start + length)
        real[row, :length] = True
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
        members=members,
        positions=(torch.from_numpy(positions[0]), torch.from_numpy(positions[1])),
        real=torch.from_numpy(np.flatnonzero(real)),
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
        # Under autocast rotation leaves queries and keys in float32: all are taken in the values' dtype.
        q, k, v = (states[0].transpose(0, 1).to(value.dtype) for states in (query, key, value))
        return _Pieces.apply(q, k, v, parts, masks[window], scaling).unsqueeze(0)  # type: ignore[no-any-return]

    return attend


class _Pieces(torch.autograd.Function):
    """Attention of every piece: q, k, v [T, heads, head_dim] -> [T, heads, head_dim].

    The backward pass is the kernel's own, in float32: in bfloat16 it takes up to four times as long on short pieces.
    It needs the kernel's log-sum-exp, which scaled_dot_product_attention does not give: so it is called by name.
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
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        out = torch.empty((q.shape[0], q.shape[1], v.shape[2]), dtype=v.dtype, device=v.device)
        norms = []
        for piece, mask in zip(parts, masks, strict=True):
            found, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *_states(piece, q, k, v),
                is_causal=mask is None,
                attn_mask=None if mask is None else mask.to(q.dtype),
                scale=scaling,
            )
            _put(piece, out, found)
            norms.append(norm)
        ctx.save_for_backward(q, k, v, out, *norms)
        ctx.parts, ctx.masks, ctx.scaling = parts, masks, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: under checkpointing a second look would compute them again
        gradient, q, k, v, out, *norms = (part.float() for part in (*gradients, *saved))
        # Each token is a query once, and a key as often as it is seen.
        of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for piece, mask, norm in zip(ctx.parts, ctx.masks, norms, strict=True):
            states = _states(piece, q, k, v)
            own = _queries(piece, gradient)
            if len(piece.members) > 1:  # nothing comes from padding
                real = torch.zeros(piece.queries.numel()).index_fill_(0, piece.real, 1.0)
                own = own * real.view(len(piece.members), 1, -1, 1)
            width = states[0].shape[-1]
            found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                _wide(own, width),
                *states,
                _wide(_queries(piece, out), width),
                norm,
                0.0,
                mask is None,
                attn_mask=mask,
                scale=ctx.scaling,
            )
            _put(piece, of_q, found[0])
            _add(piece, of_k, found[1])
            _add(piece, of_v, found[2])
        return *(total.to(saved[0].dtype) for total in (of_q, of_k, of_v)), None, None, None


def _states(piece: Piece, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
    """A piece's queries, keys and values, as the kernel wants them: of as many heads each, and one width."""
    group, width = q.shape[1] // k.shape[1], max(q.shape[2], v.shape[2])
    found = _queries(piece, q), _keys(piece, k), _keys(piece, v)
    if group > 1:
        found = found[0], *(part.repeat_interleave(group, 1) for part in found[1:])
    return [_wide(part, width) for part in found]


def _wide(states: torch.Tensor, width: int) -> torch.Tensor:
    """Filled up with zeros, where queries and values differ in width."""
    return pad(states, (0, width - states.shape[-1])) if states.shape[-1] < width else states


def _queries(piece: Piece, states: torch.Tensor) -> torch.Tensor:
    """Of states [T, heads, head_dim]: [pieces, heads, query length, head_dim]."""
    if len(piece.members) > 1:
        return _taken(states, piece.queries)
    (only,) = piece.members
    return states[only.start : only.start + only.length].transpose(0, 1).unsqueeze(0)


def _keys(piece: Piece, states: torch.Tensor) -> torch.Tensor:
    """Of states [T, heads, head_dim]: [pieces, heads, key length, head_dim]."""
    if len(piece.members) > 1:
        return _taken(states, piece.keys)
    (only,) = piece.members
    own = states[only.start : only.start + only.length]
    if only.root_length:
        own = torch.cat([states[only.root : only.root + only.root_length], own])
    return own.transpose(0, 1).unsqueeze(0)


def _taken(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of states [T, heads, head_dim]: index [pieces, length] -> [pieces, heads, length, head_dim]."""
    return states.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def _put(piece: Piece, whole: torch.Tensor, part: torch.Tensor) -> None:
    """Of queries: [pieces, heads, query length, head_dim] into their rows of `whole` [T, heads, head_dim]."""
    for (_, _, start, length), values in zip(piece.members, part.transpose(1, 2), strict=True):
        whole[start : start + length] = values[:length, :, : whole.shape[2]]


def _add(piece: Piece, whole: torch.Tensor, part: torch.Tensor) -> None:
    """Of keys: [pieces, heads, key length, head_dim] to their rows of `whole`, of heads that share a key the sum."""
    if part.shape[1] > whole.shape[1]:
        part = part.unflatten(1, (whole.shape[1], -1)).sum(2)
    roots = part.shape[2] - piece.queries.shape[1]
    for (root, root_length, start, length), values in zip(piece.members, part.transpose(1, 2), strict=True):
        values = values[:, :, : whole.shape[2]]
        whole[root : root + root_length] += values[:root_length]
        whole[start : start + length] += values[roots : roots + length]


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
