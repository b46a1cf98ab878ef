"""Attention of a pack on a CPU by a kernel of our own, in C (tree.c): a branch sees its root and itself. [ours]

It reads queries, keys and values where they lie, whichever heads share a key, and multiplies no query with a key that
comes after it. torch's kernel wants them in a batch, filled up to one length, and masked (`curate.scoring.packing
.pieces`); on a processor not Intel's it multiplies by the slower library, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from curate.base import native
from curate.models.products.cores import at_once
from curate.scoring.packing.packs import Branch, Pack
from curate.scoring.packing.pieces import Plan

SOURCE = Path(__file__).with_suffix(".c")
WIDTH = 16  # of a head: what it is filled up to a multiple of, the floats of a vector
OURS = (torch.float32, torch.bfloat16)
Kernel = Callable[..., int]
NO_MEMORY = 1


class Kernels(NamedTuple):
    """As tree.c declares them; `half`: whether they take bfloat16."""

    attend: Kernel
    attend_backward: Kernel
    half: bool


@cache
def kernels() -> Kernels | None:
    """None where they cannot be compiled."""
    sizes = "iiiiipifiii"
    declared = {"attend": "p" * 5 + sizes, "attend_backward": "p" * 9 + sizes, "halves_taken": ""}
    library = native.functions(SOURCE, declared)
    return library and Kernels(library.attend, library.attend_backward, bool(library.halves_taken()))


class Tree:
    """A pack's branches, tree by tree: a root and what branches from it."""

    def __init__(self, pack: Pack, kernels: Kernels) -> None:
        self.kernels = kernels
        self._pack = pack
        self._plan: Plan | None = None
        self.trees = _trees(pack)
        self.whole = np.concatenate([*self.trees, np.empty((0, 4), dtype=np.int64)])

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
    ) -> torch.Tensor:
        """Query, key and value [1, heads, T, width] -> [1, T, heads, width of values]."""
        if value.dtype not in OURS:
            self._plan = self._plan or Plan(self._pack)
            return self._plan.attend(query, key, value, scaling, window)
        # Under autocast rotation leaves queries and keys in float32: all are taken in the values' dtype.
        q, k, v = (states[0].transpose(0, 1).to(value.dtype) for states in (query, key, value))
        return _Attention.apply(q, k, v, self, scaling, window).unsqueeze(0)  # type: ignore[no-any-return]

    def plain(self, states: torch.Tensor) -> torch.Tensor:
        """As the kernels take them: contiguous, the width filled up with zeros to a multiple of WIDTH."""
        beyond = -states.shape[-1] % WIDTH
        states = states if self.kernels.half else states.float()
        return (pad(states, (0, beyond)) if beyond else states).contiguous()

    def each(self, kernel: Kernel, arrays: tuple[torch.Tensor, ...], scale: float, window: int) -> None:
        """Run a kernel over all trees and key heads: at once, or on several cores tree by tree and head by head."""
        q, k, v = arrays[:3]
        sizes = q.dtype == torch.bfloat16, q.shape[1], k.shape[1], q.shape[2], v.shape[2]
        pointers = [array.data_ptr() for array in arrays]

        def run(branches: np.ndarray, first: int, last: int) -> None:
            failed = kernel(*pointers, *sizes, branches.ctypes.data, len(branches), scale, window, first, last)
            if failed == NO_MEMORY:
                raise torch.OutOfMemoryError("no memory for attention's sums")
            assert not failed, "a pack's prompts are not those that its responses follow"

        if torch.get_num_threads() == 1:
            run(self.whole, 0, k.shape[1])
            return
        at_once(run, ((tree, head, head + 1) for tree, head in product(self.trees, range(k.shape[1]))))


def _trees(pack: Pack) -> list[np.ndarray]:
    """int64 [branches, 4] of each prompt, itself before its responses; the dearest tree first."""
    found = {start: [Branch(start, 0, start, length)] for start, length in pack.prompts}
    for response in pack.responses:
        found[response.root].append(response)
    trees = [np.array([b for b in branches if b.length], dtype=np.int64).reshape(-1, 4) for branches in found.values()]
    return sorted(filter(len, trees), key=lambda tree: -int((tree[:, 3] * (2 * tree[:, 1] + tree[:, 3])).sum()))


class _Attention(torch.autograd.Function):
    """q [T, heads, width], k [T, key heads, width], v [T, key heads, width of values] -> [T, heads, width of values].

    In float32 inside; of bfloat16 the products are, where the processor has them, and what they add up to is not.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        tree: Tree,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        ctx.tree, ctx.window = tree, window or 0
        ctx.scale = q.shape[-1] ** -0.5 if scaling is None else scaling
        arrays = tuple(tree.plain(states) for states in (q, k, v))
        out = torch.empty(*q.shape[:2], arrays[2].shape[2], dtype=arrays[2].dtype)
        norms = torch.empty(q.shape[:2])
        tree.each(tree.kernels.attend, (*arrays, out, norms), ctx.scale, ctx.window)
        out = out[..., : v.shape[2]].to(v.dtype)
        ctx.save_for_backward(q, k, v, out, norms)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, norms = ctx.saved_tensors  # once: under checkpointing a second look would compute them again
        *arrays, slope = (ctx.tree.plain(states) for states in (q, k, v, out, gradients[0]))
        found = tuple(torch.zeros_like(array, dtype=torch.float32) for array in arrays[:3])
        ctx.tree.each(ctx.tree.kernels.attend_backward, (*arrays, norms, slope, *found), ctx.scale, ctx.window)
        if slope.dtype == torch.bfloat16:
            found[1].mul_(ctx.scale)
        totals = (total[..., : of.shape[2]].to(of.dtype) for total, of in zip(found, (q, k, v), strict=True))
        return *totals, None, None, None
