"""Layers of a model on a CPU that keep less for the backward pass, and compute what is cheap again. [ours]

transformers writes the root mean square norm and the gated feed-forward layer as chains of small steps, each of which
makes a tensor of its own, and keeps it. Here each is one step of autograd: the norm keeps its input and one number a
token, the feed-forward layer its input and the two products in the middle. What a norm gives is made again for the
products that read it. Without gradients what is in the middle is overwritten. The numbers are the same.
"""

from __future__ import annotations

from functools import partial
from inspect import signature
from types import MethodType
from typing import Any

import torch
from torch import nn

from curate.models.products.linear import Again, again, operand, product, speed_up, weight_gradient
from curate.models.products.rotary import rotate_at_once
from curate.models.products.steps import gate, gate_backward_, norm, norm_backward

ROWS = 512  # that a feed-forward layer takes at a time without gradients: what is in the middle stays in the cache
PROBE = 3  # rows of the input that a layer's own forward pass and ours are compared on ...
SCALES = (1e-3, 1.0, 1e4)  # ... at each of these sizes: some layers add to what is small, or clamp what is large
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # as a fraction of the largest output


def lighten(model: nn.Module, *, remake: bool = False) -> None:
    """`speed_up` the model (float32, CPU), and `fuse` it.

    Args:
        remake: what a norm gives in float32 is not kept for the backward pass but made again: a sixth less to keep.
            Not where whole layers are computed again.
    """
    speed_up(model)
    fuse(model)
    for module in model.modules():
        if getattr(module.forward, "__func__", None) is _rms_norm:
            module.curate_remake = remake


def fuse(model: nn.Module) -> None:
    """Have each norm and gated feed-forward layer on a CPU that computes what ours does use ours.

    A layer is known by what it computes, not by its name: its own forward pass and ours are compared.
    """
    for module in model.modules():
        ours = _like_rms_norm(module) or _like_gated(module)
        if ours is not None and _same(module, ours):
            module.forward = MethodType(ours, module)
    rotate_at_once(model)


def _like_rms_norm(module: nn.Module) -> Any:
    weight: Any = getattr(module, "weight", None)
    alone = [name for name, _ in module.named_parameters()] == ["weight"] and not list(module.children())
    eps = getattr(module, "variance_epsilon", None)
    return _rms_norm if alone and isinstance(eps, float) and _plain(weight) and weight.ndim == 1 else None


def _like_gated(module: nn.Module) -> Any:
    names = ("gate_proj", "up_proj", "down_proj")
    layers: list[Any] = [getattr(module, name, None) for name in names]
    plain = all(type(layer) is nn.Linear and layer.bias is None and _plain(layer.weight) for layer in layers)
    return _gated if plain and {name for name, _ in module.named_children()} <= {*names, "act_fn"} else None


def _plain(weight: Any) -> bool:
    return isinstance(weight, torch.Tensor) and weight.device.type == "cpu" and weight.dtype in TOLERANCE


@torch.no_grad()
def _same(module: nn.Module, ours: Any) -> bool:
    weight: Any = module.weight if ours is _rms_norm else module.gate_proj.weight  # type: ignore[union-attr]
    if len(signature(module.forward).parameters) != 1:  # a norm that may be gated, say
        return False
    drawn = torch.randn(1, PROBE, weight.shape[-1], generator=torch.Generator().manual_seed(0))
    return all(_same_at((drawn * scale).to(weight.dtype), module, ours) for scale in SCALES)


def _same_at(states: torch.Tensor, module: nn.Module, ours: Any) -> bool:
    try:
        expected, found = module(states), ours(module, states)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    if not isinstance(expected, torch.Tensor) or expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    return bool((expected - found).abs().max() <= TOLERANCE[states.dtype] * expected.abs().max())


def _rms_norm(self: Any, states: torch.Tensor) -> torch.Tensor:
    normed = _RMSNorm.apply(states, self.weight, self.variance_epsilon)
    if torch.is_grad_enabled() and normed.dtype == torch.float32 and getattr(self, "curate_remake", False):
        # The products that read it would keep it, and it is as cheap to make again as to read. In bfloat16 it is small.
        make = partial(_normed, self.variance_epsilon, normed.dtype)
        normed.again = Again(make, states.detach(), self.weight.detach())
    return normed  # type: ignore[no-any-return]


def _normed(eps: float, dtype: torch.dtype, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return norm(states, weight, eps, dtype)[0]


class _RMSNorm(torch.autograd.Function):
    """states weight / sqrt(mean of states^2 + eps)."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        # What the products would round anyway, each for itself; the queries and keys of a head are rotated first.
        dtype = torch.promote_types(states.dtype, weight.dtype)
        dtype = operand(states[:0]).dtype if states.dtype == torch.float32 else dtype
        normed, scale = norm(states, weight, eps, dtype)
        ctx.save_for_backward(states, weight, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, scale = ctx.saved_tensors
        return *norm_backward(states, weight, scale, gradients[0], ctx.needs_input_grad[1]), None


def _gated(self: Any, states: torch.Tensor) -> torch.Tensor:
    layers = self.gate_proj, self.up_proj, self.down_proj
    if not torch.is_grad_enabled():
        made = [
            self.down_proj(gate(self.gate_proj(rows), self.up_proj(rows), overwrite=True))
            for rows in states.split(ROWS, -2)
        ]
        return made[0] if len(made) == 1 else torch.cat(made, -2)
    if any(type(layer) is not nn.Linear or layer.weight.dtype != torch.float32 for layer in layers):
        return type(self).forward(self, states)  # type: ignore[no-any-return] # adapters came in between, or bfloat16
    weights = [layer.weight for layer in layers]
    return _Gated.apply(states, again(states, *weights[:2]), *weights)  # type: ignore[no-any-return]


class _Gated(torch.autograd.Function):
    """down(silu(gate(x)) * up(x))."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, source: Again | None, *weights: torch.Tensor) -> torch.Tensor:
        ctx.dtype, ctx.source = states.dtype, source
        states = operand(states)
        to_gate, to_up, down = (operand(weight) for weight in weights)
        gated, raised = product(states, to_gate), product(states, to_up)
        needed = any(ctx.needs_input_grad[2:4]) and not source
        ctx.save_for_backward(states if needed else None, gated, raised, to_gate, to_up, down)
        return product(gate(gated, raised), down)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, gated, raised, to_gate, to_up, down = ctx.saved_tensors
        (gradient,) = gradients
        if ctx.source:
            states = ctx.source.take()
        to_states, _, *to_weights = ctx.needs_input_grad
        active, of_gate, of_up = gate_backward_(gated, raised, product(gradient, down.t()))
        of_down = weight_gradient(gradient, active) if to_weights[2] else None
        del active
        of_states = None
        if to_states:
            of_states = product(of_gate, to_gate.t()).add_(product(of_up, to_up.t())).to(ctx.dtype)
        return (
            of_states,
            None,
            weight_gradient(of_gate, states) if to_weights[0] else None,
            weight_gradient(of_up, states) if to_weights[1] else None,
            of_down,
        )
