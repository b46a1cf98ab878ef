"""Sequence-classification models and tokenizers from a folder, for rating models and judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from curate.base.device import device
from curate.base.errors import InputError
from curate.base.light import silence, transformers
from curate.models.faults import check_whole, loading
from curate.models.resolve import Model, check_loaded
from curate.models.softcap import attend_capped


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """The tokenizer, with a chat template or without. Raises `InputError` where there is none."""
    with loading("tokenizer", folder):
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, **options)


def load_config(model: Model, what: str) -> Any:
    """config.json of a model that is called `what`. Raises `InputError` where it cannot be read."""
    with loading(what, model.path):
        return transformers.AutoConfig.from_pretrained(model.path, trust_remote_code=model.trust_remote_code)


def load_classifier(model: Model, config: Any, dtype: str, what: str, **options: Any) -> Any:
    """The sequence-classification model on `device()`, whose `config` may have been changed.

    Raises:
        InputError: it cannot be loaded, does not fit, a part of its weights is missing, or its files were changed since
            they were resolved.
    """
    if model.adapter:
        raise InputError(
            f"a {what} that is an adapter is not read",
            file=model.adapter,
            remedy="save it merged: peft's merge_and_unload, then save_pretrained",
        )
    silence()
    with loading(what, model.path):
        net, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            model.path,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=model.trust_remote_code,
            **options,
        )
        check_loaded(model)
        attend_capped(net)
        net = net.to(device()).eval()
    check_whole(
        what,
        model.path,
        info["missing_keys"],
        expected="the weights of a sequence-classification model, its head included",
        remedy=f"give a {what} saved by transformers, not the language model it was made from",
    )
    # Without a padding token transformers refuses a batch, although ours have no padding: no token is -1.
    text = net.config.get_text_config()
    if text.pad_token_id is None:
        text.pad_token_id = -1
    return net
