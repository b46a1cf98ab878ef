"""The last layer behind its attention, for the tokens alone whose states are wanted. [ours]

Other layers hand every token's state on as keys and values. Behind the last one's attention nothing does: what is
computed there of a prompt's tokens but the last, nobody reads.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn

from curate.scoring.packing.attention import rows_wanted

BEHIND_ATTENTION = ("self_attn.o_proj", "mlp")
"""Modules of a layer, as the Llama family calls them. Each takes and gives [1, T, width] and works token by token."""

ON_ROWS = "on_rows_wanted"


def trim(model: Any) -> None:
    """Have those modules of the model's last layer run on the rows that a pack wants; elsewhere they give zeros.

    Outside a pack they stay as they are; called again, it takes those that were put in another's place. That they work
    token by token is tried where packs are (`curate.scoring.packing.probe`).
    """
    stacks = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    last = max(stacks, key=len, default=nn.ModuleList())[-1:]
    for layer in last:
        for name, module in layer.named_modules():
            if name in BEHIND_ATTENTION:
                _on_rows_wanted(module)


def _on_rows_wanted(module: nn.Module) -> None:
    own = getattr(module.forward, "__func__", None)  # not the bound one: a copy of the model has its own
    if own is None or own.__name__ == ON_ROWS:  # another library's hook, or ours
        return

    def forward(self: nn.Module, states: torch.Tensor, *args: Any, **options: Any) -> Any:
        rows = rows_wanted()
        if rows is None or args or options or states.shape[:-2] != (1,) or len(rows) == states.shape[1]:
            return own(self, states, *args, **options)
        found = own(self, states.index_select(1, rows))
        if not isinstance(found, torch.Tensor):
            return own(self, states)
        return found.new_zeros(1, states.shape[1], found.shape[-1]).index_copy(1, rows, found)

    forward.__name__ = ON_ROWS
    module.forward = MethodType(forward, module)  # type: ignore[method-assign]
