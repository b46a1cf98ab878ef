"""Attention whose logits are soft-capped: Gemma 2's, VaultGemma's."""

from __future__ import annotations

from typing import Any


def attend_capped(net: Any) -> None:
    """Let a model of transformers whose attention is soft-capped attend eagerly: the default, sdpa, leaves the cap out
    without a word."""
    if getattr(net.config.get_text_config(), "attn_logit_softcapping", None):
        net.set_attn_implementation("eager")
