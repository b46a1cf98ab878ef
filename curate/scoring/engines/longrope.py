"""Models whose numbers go by the context that vLLM is opened with."""

from __future__ import annotations

from curate.models.resolve import Model


def goes_by_context(model: Model) -> bool:
    """Whether vLLM takes the model's long rotary factors or the short ones by its max_model_len (LongRoPE: Phi-3)."""
    return "longrope" in (model.path / "config.json").read_text(encoding="utf-8")
