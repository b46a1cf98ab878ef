"""Sums of exponentials over a vocabulary that comes in parts. [ours]

On a CPU they are summed in C as they are made (`curate.models.products.steps`). Elsewhere, and where exponentials are
wanted themselves: torch's sigmoid takes a third of the time of its exp on a CPU, and far enough below zero the two are
the same: sigmoid(-x) = exp(-x) (1 - exp(-x) + ...). So exponents are shifted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from curate.models.products.steps import sum_exp

FAR = 17.0  # from here on sigmoid(-x) is exp(-x) to the last bit of float32: exp(-17) is 2^-24.5
ROOM = 14.0
"""Nats that later parts of a row may lie above the largest logit of the first. FAR and this are less than 32, where
float32 has a bit more to give than above."""


class LogSumExp:
    """log sum_v exp(logits_v) of each row, whose columns come part by part."""

    def __init__(self) -> None:
        self._shift = self._total = torch.empty(0)

    def add(self, logits: torch.Tensor, again: Callable[[], torch.Tensor] | None = None) -> None:
        """The next columns: float32 or bfloat16 [rows, columns].

        Args:
            again: makes the same logits anew. Where it is given, those are overwritten; else they stay as they are.
        """
        if not self._total.numel():
            self._shift = logits.new_full(logits.shape[:1], -torch.inf, dtype=torch.float32)
            # float64: over a vocabulary of 150k some 70 parts are added up.
            self._total = logits.new_zeros(logits.shape[:1], dtype=torch.float64)
            self._raise(logits)
        found = _sum_exp(logits, self._shift, again is not None)
        if bool((found > math.exp(-FAR)).any()):  # some logit may be too near its shift
            logits = again() if again else logits
            self._raise(logits)
            found = _sum_exp(logits, self._shift, again is not None)
        self._total += found

    def log(self) -> torch.Tensor:
        """float64 [rows], of all columns so far. Of a token that is all but certain it may lie below the logit, by the
        last bits of float32: log-probabilities are clamped at 0."""
        return self._total.log() + self._shift

    def _raise(self, logits: torch.Tensor) -> None:
        """Shift so far that these logits lie FAR and ROOM below."""
        lowest = torch.finfo(logits.dtype).min / 2  # where a part's logits are all -inf
        shift = torch.maximum(self._shift, logits.amax(-1).clamp_min(lowest) + (FAR + ROOM))
        self._total *= (self._shift - shift).double().exp()
        self._shift = shift


def _sum_exp(logits: torch.Tensor, shift: torch.Tensor, overwrite: bool) -> torch.Tensor:
    found = sum_exp(logits, shift)
    if found is not None:
        return found
    ours = overwrite and logits.dtype == shift.dtype
    exponents = logits.sub_(shift[:, None]) if ours else logits - shift[:, None]
    return exp_far_below(exponents).sum(-1)


def exp_far_below(exponents: torch.Tensor) -> torch.Tensor:
    """e^x for x < -FAR, in place."""
    return exponents.sigmoid_() if exponents.device.type == "cpu" else exponents.exp_()


def scaled_softmax(logits: torch.Tensor, norm: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """scale exp(logits - norm): logits [rows, columns], their log-sum-exp `norm` [rows], `scale` [rows]."""
    far = torch.sub(logits, (norm + FAR)[:, None])
    return exp_far_below(far).mul_((scale * math.exp(FAR))[:, None])
