"""Attention whose logits are soft-capped: Gemma 2's, VaultGemma's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CAP = "attn_logit_softcapping"


def capped(config: Mapping[str, Any]) -> bool:
    """Whether the model of a config.json caps its attention."""
    return any(isinstance(part, Mapping) and bool(part.get(CAP)) for part in (config, config.get("text_config")))


def attend_capped(net: Any) -> None:
    """Let a model of transformers whose attention is soft-capped attend eagerly: the default, sdpa, leaves the cap out
    without a word."""
    if getattr(net.config.get_text_config(), CAP, None):
        net.set_attn_implementation("eager")
