"""A causal language model's weights in memory."""

from __future__ import annotations

import torch

from curate.base.device import device
from curate.models.adapters import merged
from curate.models.faults import check_whole, loading
from curate.models.resolve import Model


def load_model(model: Model, dtype: str, where: torch.device | None = None) -> torch.nn.Module:
    """The model on `where`, or on `device()`; an adapter is merged into it in float32, whatever `dtype` is.

    Raises:
        InputError: transformers cannot load it, it does not fit, or a part of its weights is missing.
    """
    from curate.base.light import silence, transformers

    silence()
    with loading("model", model.path):
        loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
            model.path,
            dtype=torch.float32 if model.adapter else getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=model.trust_remote_code,
        )
        check_whole(
            "model",
            model.path,
            info["missing_keys"],
            expected="the weights of a causal language model, its LM head included",
            remedy="give a model saved whole by transformers, not its base or a reward model that was made from it",
        )
        if model.adapter:
            loaded = merged(loaded, model.adapter).to(getattr(torch, dtype))
        return loaded.to(where or device())  # type: ignore[no-any-return]
