"""Attention of a pack on a CPU: branches of like length side by side, a few of their queries at a time. [ours]

The scaled-dot-product kernel multiplies all queries that it is given with all keys, and masks afterwards: of a triangle
half is for nothing. So ROWS queries run at a time, with the keys up to the last of them. The gradient is the kernel's
own. It needs the kernel's log-sum-exp, which scaled_dot_product_attention does not give: so both are called by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from curate.scoring.packing.packs import Branch, Pack

GRID = 1.25  # branches whose lengths differ by less than this factor run together, padded to the longest
ROWS = 64  # queries at a time: with fewer the kernel is called too often, with more too many keys are masked


class Piece(NamedTuple):
    """Branches of like length. Their keys are their root's, filled up to the longest root's, and then their own."""

    members: list[Branch]
    roots: int  # keys of the longest root
    length: int  # queries of the longest branch
    queries: torch.Tensor | None  # int64, [members, length]: positions in the pack, 0 on padding. None: one branch
    keys: torch.Tensor | None  # int64, [members, roots + length]
    real: torch.Tensor | None  # float32, [members, 1, length, 1]: 0 on padding

    @property
    def even(self) -> bool:
        """Whether all roots are of one length."""
        return all(member.root_length == self.roots for member in self.members)


class Chunk(NamedTuple):
    """Queries of a piece that run at once."""

    queries: slice
    keys: slice  # those that the queries may see some of
    mask: torch.Tensor  # [members or 1, 1, queries, keys]: 0 on what is seen, -inf elsewhere


class Plan:
    """A pack's pieces and, for each sliding window and dtype, their chunks."""

    def __init__(self, pack: Pack) -> None:
        cells: dict[tuple[int, int], list[Branch]] = {}
        for branch in (*(Branch(0, 0, *prompt) for prompt in pack.prompts), *pack.responses):
            if branch.length:
                cells.setdefault((_grid(branch.root_length), _grid(branch.length)), []).append(branch)
        self.pieces = [_piece(members) for members in cells.values()]
        self._chunks: dict[tuple[int | None, torch.dtype], list[list[Chunk]]] = {}

    def chunks(self, window: int | None, dtype: torch.dtype) -> list[list[Chunk]]:
        """Of every piece; the masks in `dtype`."""
        if (window, dtype) not in self._chunks:
            longest = max((piece.roots + piece.length for piece in self.pieces), default=0)
            strip = _strip(max(longest, ROWS), window).to(dtype)
            self._chunks[window, dtype] = [_chunks(piece, strip, window) for piece in self.pieces]
        return self._chunks[window, dtype]

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
    ) -> torch.Tensor:
        """Query, key and value [1, heads, T, width] -> [1, T, heads, width of values]."""
        # [T, heads, width]: a token's heads lie together, so that taking rows copies whole stretches.
        # Under autocast rotation leaves queries and keys in float32: all are taken in the values' dtype.
        q, k, v = (states[0].transpose(0, 1).to(value.dtype) for states in (query, key, value))
        return _Attention.apply(q, k, v, self, scaling, window).unsqueeze(0)  # type: ignore[no-any-return]


def _grid(length: int) -> int:
    return 0 if length == 0 else 1 + int(np.log(length) / np.log(GRID))


def _piece(members: list[Branch]) -> Piece:
    roots = max(member.root_length for member in members)
    length = max(member.length for member in members)
    if len(members) == 1:
        return Piece(members, roots, length, None, None, None)
    index = np.zeros((len(members), roots + length), dtype=np.int64)
    real = np.zeros((len(members), 1, length, 1), dtype=np.float32)
    for row, (root, root_length, start, own) in enumerate(members):
        index[row, :root_length] = np.arange(root, root + root_length)
        index[row, roots : roots + own] = np.arange(start, start + own)
        real[row, :, :own] = 1
    queries = torch.from_numpy(np.ascontiguousarray(index[:, roots:]))
    return Piece(members, roots, length, queries, torch.from_numpy(index), torch.from_numpy(real))


def _chunks(piece: Piece, strip: torch.Tensor, window: int | None) -> list[Chunk]:
    chunks = []
    mask = None if piece.even else _mask(piece, window).to(strip.dtype)
    for start in range(0, piece.length, ROWS):
        queries = slice(start, min(start + ROWS, piece.length))
        end = piece.roots + queries.stop
        if mask is not None:
            chunks.append(Chunk(queries, slice(0, end), mask[:, :, queries, :end]))
            continue
        first = 0 if window is None else max(0, piece.roots + start - window + 1)
        corner = strip[start - queries.stop :, first - end :]
        chunks.append(Chunk(queries, slice(first, end), corner[None, None]))
    return chunks


def _strip(length: int, window: int | None) -> torch.Tensor:
    """float32, [ROWS, length]: the mask of a sequence's last ROWS queries. Its lower right corners are the masks of all
    queries whose keys are a sequence without gaps."""
    return _unseen(torch.arange(length - ROWS, length)[:, None] - torch.arange(length), window)


def _mask(piece: Piece, window: int | None) -> torch.Tensor:
    """float32, [members, 1, queries, keys], where roots are of several lengths."""
    root_lengths = torch.tensor([[member.root_length] for member in piece.members])
    queries = root_lengths + torch.arange(piece.length)
    column = torch.arange(piece.roots + piece.length)
    keys = torch.where(column < piece.roots, column, column - piece.roots + root_lengths)
    mask = _unseen(queries[:, :, None] - keys[:, None], window)
    filled = (column >= root_lengths) & (column < piece.roots)
    return mask.masked_fill_(filled[:, None], -torch.inf)[:, None]


def _unseen(distance: torch.Tensor, window: int | None) -> torch.Tensor:
    """-inf for keys that come after their query or lie before its window, 0 for others."""
    unseen = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(distance.shape).masked_fill_(unseen, -torch.inf)


class _Attention(torch.autograd.Function):
    """Attention of every piece: q, k, v [T, heads, width] -> [T, heads, width of values].

    The backward pass runs in float32: in bfloat16 the kernel takes up to four times as long on short pieces.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        plan: Plan,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        out = torch.empty((q.shape[0], q.shape[1], v.shape[2]), dtype=v.dtype, device=v.device)
        norms = []
        for piece, chunks in zip(plan.pieces, plan.chunks(window, q.dtype), strict=True):
            queries, keys, values = _states(piece, q, k, v)
            for chunk in chunks:
                found, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                    queries[:, :, chunk.queries],
                    keys[:, :, chunk.keys],
                    values[:, :, chunk.keys],
                    attn_mask=chunk.mask,
                    scale=scaling,
                )
                _put(piece, chunk, out, found)
                norms.append(norm)
        ctx.save_for_backward(q, k, v, out, *norms)
        ctx.plan, ctx.scaling, ctx.window = plan, scaling, window
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: under checkpointing a second look would compute them again
        gradient, q, k, v, out, *norms = (part.float() for part in (*gradients, *saved))
        # Each token is a query once, and a key as often as it is seen.
        of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        every = ctx.plan.chunks(ctx.window, torch.float32)
        for piece, chunks in zip(reversed(ctx.plan.pieces), reversed(every), strict=True):
            queries, keys, values = _states(piece, q, k, v)
            width = queries.shape[-1]
            slope, result = (_wide(_queries(piece, part), width) for part in (gradient, out))
            if piece.real is not None:  # nothing comes from padding
                slope = slope * piece.real
            totals: list[torch.Tensor] = []  # of the piece's keys and values
            # The last chunk first: without a window it has all keys.
            for chunk in reversed(chunks):
                at, seen = chunk.queries, chunk.keys
                found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    slope[:, :, at],
                    queries[:, :, at],
                    keys[:, :, seen],
                    values[:, :, seen],
                    result[:, :, at],
                    norms.pop(),
                    0.0,
                    False,
                    attn_mask=chunk.mask,
                    scale=ctx.scaling,
                )
                _put(piece, chunk, of_q, found[0])
                if not totals and seen.start == 0:
                    totals = found[1:]
                    continue
                totals = totals or [torch.zeros_like(keys), torch.zeros_like(values)]
                for total, part in zip(totals, found[1:], strict=True):
                    total[:, :, seen] += part
            _add(piece, of_k, totals[0])
            _add(piece, of_v, totals[1])
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
    """Of states [T, heads, head_dim]: [members, heads, query length, head_dim]."""
    if piece.queries is not None:
        return _taken(states, piece.queries)
    (only,) = piece.members
    return states[only.start : only.start + only.length].transpose(0, 1).unsqueeze(0)


def _keys(piece: Piece, states: torch.Tensor) -> torch.Tensor:
    """Of states [T, heads, head_dim]: [members, heads, key length, head_dim]."""
    if piece.keys is not None:
        return _taken(states, piece.keys)
    (only,) = piece.members
    end = only.start + only.length
    if not only.root_length:
        own = states[only.start : end]
    elif only.root + only.root_length == only.start:  # the first response to its prompt
        own = states[only.root : end]
    else:
        own = torch.cat([states[only.root : only.root + only.root_length], states[only.start : end]])
    return own.transpose(0, 1).unsqueeze(0)


def _taken(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of states [T, heads, head_dim]: index [members, length] -> [members, heads, length, head_dim]."""
    return states.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def _put(piece: Piece, chunk: Chunk, whole: torch.Tensor, part: torch.Tensor) -> None:
    """Of a chunk's queries: [members, heads, queries, head_dim] into their rows of `whole` [T, heads, head_dim]."""
    first, last = chunk.queries.start, chunk.queries.stop
    for (_, _, start, length), values in zip(piece.members, part.transpose(1, 2), strict=True):
        if length >= last:
            whole[start + first : start + last] = values[:, :, : whole.shape[2]]
        elif length > first:
            whole[start + first : start + length] = values[: length - first, :, : whole.shape[2]]


def _add(piece: Piece, whole: torch.Tensor, part: torch.Tensor) -> None:
    """Of keys: [members, heads, key length, head_dim] to their rows of `whole`, of heads that share a key the sum."""
    if part.shape[1] > whole.shape[1]:
        part = part.unflatten(1, (whole.shape[1], -1)).sum(2)
    for (root, root_length, start, length), values in zip(piece.members, part.transpose(1, 2), strict=True):
        values = values[:, :, : whole.shape[2]]
        whole[root : root + root_length] += values[:root_length]
        whole[start : start + length] += values[piece.roots : piece.roots + length]
