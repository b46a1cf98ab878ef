"""The last step: hidden states -> log-probabilities of given tokens, never holding [tokens, vocabulary].

And the linear layers on a CPU, repacked once for oneDNN's kernels, which beat the default GEMM (docs/scaling.md).
"""

from __future__ import annotations

import torch
from torch import nn

ROWS = {"cpu": 512, "cuda": 4096}  # hidden states at a time ...
COLUMNS = {"cpu": 2048, "cuda": 32768}  # ... times vocabulary entries: on a CPU the logits (4 MiB) stay in its cache


def repacks(device: torch.device) -> bool:
    """Whether linear layers are repacked on this device."""
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available())


class PackedLinear(nn.Module):
    """A linear layer, its weights [out, in] in oneDNN's blocked layout. Inference only."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self.bias = bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]


class _PlainLinear(nn.Module):
    """A linear layer over weights [out, in] that are there already, or a part of them. Inference only."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight.detach(), bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(states, self.weight, self.bias)


def repack_linears(model: nn.Module, keep: nn.Module | None) -> None:
    """Put `PackedLinear` in the place of every linear layer but `keep`; the plain weights are given up."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child is not keep:
                setattr(module, name, PackedLinear(child.weight, child.bias))


class Head:
    """log p(token) from hidden states, through the LM head in tiles of rows x vocabulary.

    Args:
        linear: the LM head: weight [vocabulary, hidden], bias [vocabulary] or none.
        softcap: c of logits -> c * tanh(logits / c), where the model has it.
    """

    def __init__(self, linear: nn.Linear, softcap: float | None = None) -> None:
        self.weight, self.bias, self.softcap = linear.weight.detach(), linear.bias, softcap
        device = self.weight.device
        self.rows = ROWS[device.type]
        columns = COLUMNS[device.type]
        bounds = range(0, len(self.weight), columns)
        biases = [None if self.bias is None else self.bias[at : at + columns] for at in bounds]
        self._tiles = [
            PackedLinear(self.weight[at : at + columns], bias)
            if repacks(device)
            else _PlainLinear(self.weight[at : at + columns], bias)
            for at, bias in zip(bounds, biases, strict=True)
        ]

    def logps(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """log softmax(head(states))[targets]: states [S, hidden], targets int64 [S] -> float32 [S], nats."""
        parts = zip(states.split(self.rows), targets.split(self.rows), strict=True)
        return torch.cat([self._rows(rows, ids) for rows, ids in parts])

    def _rows(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        columns = COLUMNS[states.device.type]
        # float64: over a vocabulary of 150k some 70 tiles are added up.
        norm = torch.full((len(states),), -torch.inf, dtype=torch.float64, device=states.device)
        target = torch.empty(len(states), device=states.device)
        for number, tile in enumerate(self._tiles):
            logits = tile(states).float()
            if self.softcap is not None:
                logits = torch.tanh(logits / self.softcap) * self.softcap
            # max x - max log_softmax(x) is the log-sum-exp, by the fused kernel: half the time of logsumexp.
            tile_norm = logits.amax(-1).double() - logits.log_softmax(-1).amax(-1).double()
            norm = torch.logaddexp(norm, tile_norm)
            here = (targets >= number * columns) & (targets < number * columns + logits.shape[1])
            target[here] = logits[here, targets[here] - number * columns]
        return (target - norm).float()
