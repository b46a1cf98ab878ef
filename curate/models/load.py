"""A causal language model's weights in memory."""

from __future__ import annotations

from typing import Any

import torch

from curate.base.device import device
from curate.base.errors import InputError
from curate.models.adapters import merged
from curate.models.faults import check_whole, loading
from curate.models.resolve import Model, check_loaded
from curate.models.softcap import attend_capped

BEFORE = 8  # tokens whose predictions are compared, with other tokens behind them
SEES = 1e-2  # of what a prediction moves by when its own tokens change: above it is no rounding


def load_model(model: Model, dtype: str, where: torch.device | None = None) -> torch.nn.Module:
    """The model on `where`, or on `device()`; an adapter is merged into it in float32, whatever `dtype` is.

    Raises:
        InputError: transformers cannot load it, it does not fit, a part of its weights is missing, its files were
            changed since they were resolved, or it is not causal.
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
        check_loaded(model)
        attend_capped(loaded)
        loaded = loaded.to(where or device())
        if dtype != "float64":  # in which torch has no product of experts as transformers calls it
            _check_causal(loaded, model)
        return loaded  # type: ignore[no-any-return]


@torch.no_grad()
def _check_causal(loaded: Any, model: Model) -> None:
    """Refuse a model whose tokens see those after them: no product of what it predicts is a text's probability."""
    half = max(1, min(BEFORE, model.context // 2))
    ids = torch.arange(2 * half, device=loaded.device)[None] % len(loaded.get_input_embeddings().weight)
    first, second = ids, torch.cat([ids[:, :half], ids[:, :half]], 1)
    here, there = (loaded(input_ids=each, use_cache=False).logits[0].float() for each in (first, second))
    moved = (here - there).abs().mean(-1)  # [tokens]
    # The median: in a mixture of experts rounding may send a token elsewhere.
    prefix = getattr(loaded.config, "prefix_lm", False)  # HRM-Text: only where it is told which tokens are the prompt
    if prefix or moved[:half].median() > SEES * moved[half:].mean():
        raise InputError(
            "not a causal language model: what it predicts goes by the tokens that follow",
            file=model.path,
            found=f"model_type {loaded.config.model_type}, "
            + ("prefix_lm True" if prefix else f"is_decoder {getattr(loaded.config, 'is_decoder', None)}"),
            expected="a model in which a token sees only those before it",
            remedy="give a causal language model; where this one was trained as such, config.json has is_decoder true",
        )
