"""Muon, an optimiser of matrices: each update is as large in every direction. [arXiv 2502.16982]

That of torch computes in bfloat16. A processor without bfloat16 products takes twenty times as long for it, as long as
for the rest of the step; float32 takes no longer than bfloat16 where there are such products.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Keller Jordan's Muon
ITERATIONS = 5
RMS = 0.2  # of an update's entries at a learning rate of one, which is what AdamW's have


class Muon(torch.optim.Optimizer):  # type: ignore[misc]  # torch is not typed here
    """Nesterov momentum, its matrix made orthogonal, scaled to the size of AdamW's updates; decoupled weight decay."""

    def __init__(
        self, matrices: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Change the matrices by their gradients; one without a gradient stays as it is."""
        for group in self.param_groups:
            rate, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["mean"] = torch.zeros_like(matrix)
                mean = state["mean"].lerp_(matrix.grad, 1 - momentum)
                update = orthogonal(matrix.grad.lerp(mean, momentum))
                matrix.mul_(1 - rate * decay)
                matrix.add_(update, alpha=-rate * RMS * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """(m, n) -> (m, n), roughly the nearest matrix whose singular values are one: they lie between 0.7 and 1.2.

    Newton-Schulz iterations; singular values under a thousandth of the matrix's norm stay smaller.
    """
    a, b, c = COEFFICIENTS
    flat = matrix.shape[0] <= matrix.shape[1]
    found = matrix if flat else matrix.T
    found = found / found.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found if flat else found.T
