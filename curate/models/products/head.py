"""The LM head with a gradient, in tiles of rows times vocabulary.

The forward pass keeps the log-sum-exp of each row. On a CPU it keeps the logits, too, where they are few, so that the
backward pass need not multiply anew; elsewhere a tile lives for itself alone, a product more for memory that does not
grow with the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from curate.models.products.linear import operand, product
from curate.models.products.softmax import LogSumExp, scaled_softmax
from curate.models.products.steps import softmax_slope_, transposed
from curate.models.products.tied import Tie, tie_of

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**29}  # of a tile's float32 logits: on a CPU they stay in its cache
ROWS = {"cpu": 2048, "cuda": 2**31}  # of a tile, at most: on a CPU a tile is as high as can be, and narrow
KEPT_BYTES = {"cpu": 2**28, "cuda": 0}  # of the logits that a forward pass keeps, at most


def token_logps(
    states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    *,
    softcap: float | None = None,
    alignment: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log softmax(head(states))[targets], with gradient; products in the autocast dtype where autocast is on.

    Args:
        states: [S, hidden], of the tokens that predict `targets`.
        weight: of the LM head, [vocabulary, hidden]; `bias` [vocabulary].
        targets: int64, [S].
        softcap: c of logits -> c tanh(logits / c), where the model has it.
        alignment: also give log p_t - log sum_v p_v^2 of each row, without gradient (WPO, arXiv 2406.11827, equation
            2): how far the token is one that the policy itself would draw.

    Returns:
        float32 [S], nats; and the alignment [S] or None.
    """
    differentiable = any(part is not None and part.requires_grad for part in (states, weight, bias))
    logits_bytes = len(states) * len(weight) * operand(states[:0]).element_size()
    keep = torch.is_grad_enabled() and differentiable and logits_bytes <= KEPT_BYTES[states.device.type]
    logps, aligned = _TokenLogps.apply(states, weight, bias, targets, softcap, alignment, keep, tie_of(weight))
    return logps, aligned if alignment else None


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        softcap: float | None,
        alignment: bool,
        keep: bool,
        tie: Tie | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.dtypes = states.dtype, weight.dtype, None if bias is None else bias.dtype
        states, weight, bias = operand(states), operand(weight), None if bias is None else operand(bias)
        norms, squares = [], []
        at = states.new_zeros(len(states), dtype=torch.float32)
        kept: list[torch.Tensor] = []
        for rows, columns in _tiles(len(states), weight):
            raw = _raw(states, weight, bias, rows, columns)
            if keep:
                kept.append(raw)
            logits = capped(raw, softcap)
            if columns.start == 0:
                norms.append(LogSumExp())
                squares.append(LogSumExp())
            norms[-1].add(logits)
            if alignment:
                squares[-1].add(2 * logits)
            here, own = within(targets[rows], columns)
            at[rows] = torch.where(here, logits.gather(-1, own[:, None]).squeeze(-1), at[rows])
        norm = _joined(norms, at)
        logps = (at - norm).clamp_max(0).float()
        # log sum_v p_v^2 = logsumexp(2 logits) - 2 logsumexp(logits)
        aligned = (logps - (_joined(squares, at) - 2 * norm)).float() if alignment else logps.new_empty(0)
        ctx.save_for_backward(states, weight, bias, targets, norm.float())
        ctx.softcap, ctx.kept, ctx.tie = softcap, kept or None, tie
        ctx.mark_non_differentiable(aligned)
        return logps, aligned

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, bias, targets, norm = ctx.saved_tensors
        slope = gradients[0].float()
        to_states, to_weight, to_bias = ctx.needs_input_grad[:3]
        of_states = torch.zeros_like(states, dtype=torch.float32) if to_states else None
        of_weight = torch.empty_like(weight, dtype=torch.float32) if to_weight else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if to_bias else None
        kept, ctx.kept = ctx.kept, None
        for rows, columns in _tiles(len(states), weight):
            raw = _raw(states, weight, bias, rows, columns) if kept is None else kept.pop(0)  # and let go
            gradient = _of_logits(raw, norm[rows], slope[rows], targets[rows], columns, ctx.softcap)
            if of_bias is not None:
                of_bias[columns] += gradient.sum(0, dtype=torch.float32)
            if of_states is not None:
                of_states[rows] += product(gradient, weight[columns].t())
            if of_weight is not None:
                found = product(transposed(gradient), states[rows].t())
                of_weight[columns] = found if rows.start == 0 else of_weight[columns].add_(found)
        if ctx.tie and of_weight is not None:
            ctx.tie.add(of_weight)
            of_weight = None
        each = zip((of_states, of_weight, of_bias), ctx.dtypes, strict=True)
        return *(None if part is None else part.to(dtype) for part, dtype in each), *(None,) * 5


def _of_logits(
    raw: torch.Tensor,
    norm: torch.Tensor,
    slope: torch.Tensor,
    targets: torch.Tensor,
    columns: slice,
    softcap: float | None,
) -> torch.Tensor:
    """The gradient of a tile's logits before the cap, which are overwritten, in their dtype: of slope log p_t."""
    # d log p_t / d logits = onehot(t) - p
    found = None if softcap else softmax_slope_(raw, norm, slope, targets - columns.start)
    if found is not None:
        return found
    logits = capped(raw, softcap)
    bent = 1 - (logits / softcap) ** 2 if softcap else None
    gradient = scaled_softmax(logits, norm, -slope)
    here, own = within(targets, columns)
    gradient.scatter_add_(-1, own[:, None], torch.where(here, slope, 0.0)[:, None])
    return (gradient if bent is None else gradient.mul_(bent)).to(raw.dtype)


def _tiles(rows: int, weight: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    device, entries = weight.device.type, len(weight)
    elements = CHUNK_BYTES[device] // 4
    high = max(1, min(rows, ROWS[device], elements if device == "cpu" else elements // entries))
    wide = max(1, elements // high) if device == "cpu" else entries
    for start in range(0, rows, high):
        for left in range(0, entries, wide):
            yield slice(start, min(start + high, rows)), slice(left, min(left + wide, entries))


def _raw(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rows: slice, columns: slice
) -> torch.Tensor:
    return product(states[rows], weight[columns], None if bias is None else bias[columns])


def capped(raw: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """The model's logits: with a cap float32."""
    return torch.tanh(raw.float() / softcap) * softcap if softcap else raw


def _joined(norms: list[LogSumExp], like: torch.Tensor) -> torch.Tensor:
    return torch.cat([like.new_empty(0, dtype=torch.float64), *(norm.log() for norm in norms)])


def within(targets: torch.Tensor, columns: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Which targets [rows] lie in these columns, and where; 0 for the others."""
    here = (targets >= columns.start) & (targets < columns.stop)
    return here, (targets - columns.start).where(here, 0)
