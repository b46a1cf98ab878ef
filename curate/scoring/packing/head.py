"""The last step: hidden states -> log-probabilities of given tokens, never holding [tokens, vocabulary].

And the linear layers on a CPU, repacked once for oneDNN's kernels, which beat the default GEMM (docs/scaling.md).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from curate.models.products.head import capped, within
from curate.models.products.softmax import LogSumExp

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
        norm, own = LogSumExp(), torch.full((len(states),), torch.nan, device=states.device)
        for number, tile in enumerate(self._tiles):
            logits = self._logits(tile, states)
            here, at = within(targets, slice(number * columns, number * columns + logits.shape[1]))
            own = torch.where(here, logits.gather(-1, at[:, None])[:, 0], own)
            norm.add(logits, partial(self._logits, tile, states))
        return (own - norm.log()).clamp_max(0).float()

    def _logits(self, tile: nn.Module, states: torch.Tensor) -> torch.Tensor:
        return capped(tile(states), self.softcap)
