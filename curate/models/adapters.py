"""A model that is a LoRA adapter: a folder with adapter_config.json that names its base, and no config.json.

The digest is of both, scaling and all; both are merged when they are loaded.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from curate.base import files
from curate.base.errors import InputError, few
from curate.models.faults import loading

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def base_of(folder: Path) -> tuple[str, str | None]:
    """The base model's name, and its revision. Raises `InputError` where the adapter names none, or has no weights."""
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            "the adapter has no safetensors weights",
            file=folder,
            expected=f"{WEIGHTS} (pickled weights can run code and are not read)",
            remedy="save it anew with peft: save_pretrained(folder)",
        )
    described = files.read_json_object(folder / CONFIG)
    base, revision = described.get("base_model_name_or_path"), described.get("revision")
    if not isinstance(base, str) or not base:
        raise InputError(
            "the adapter does not say what it adapts",
            file=folder / CONFIG,
            field="base_model_name_or_path",
            remedy="write the base model's folder or Hub id there",
        )
    return base, revision if isinstance(revision, str) else None


def digest_over(base: str, folder: Path) -> str:
    """Of a base model's digest and the adapter in `folder`."""
    parts = [base, files.file_digest(folder / CONFIG), files.file_digest(folder / WEIGHTS)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def merged(net: Any, folder: Path) -> Any:
    """The model with the adapter merged into its weights. Raises `InputError` where it does not fit."""
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise InputError(
            "a model that is an adapter needs peft", remedy="pip install 'curate-preferences[train]'"
        ) from error
    with loading("adapter", folder):
        config = PeftConfig.from_pretrained(folder)
        if config.is_prompt_learning:
            raise InputError(
                "the adapter is a learned prompt, which no weights can take up",
                file=folder / CONFIG,
                field="peft_type",
                found=str(config.peft_type.value),
                expected="an adapter that merges into its base's weights, as LoRA does",
            )
        adapted = PeftModel(net, config)
        found = adapted.load_adapter(folder, adapted.active_adapter)  # (from_pretrained keeps what it finds)
        if names := sorted({*found.missing_keys, *found.unexpected_keys}):
            raise InputError(
                "the adapter's weights are not those of its base's parts, and some would be left out",
                file=folder / WEIGHTS,
                field=few(names),
                expected="weights of every part that the adapter's config names, and of no other",
                remedy="check that the base is the model, and of the class, that the adapter was trained on",
            )
        if names := in_two_places(adapted):
            raise InputError(
                "the adapter changes weights that other parts of its base have, too, and merged it would change those",
                file=folder,
                field=few(names),
                remedy="train it on other modules: merged it is another model",
            )
        return merge(adapted)


def in_two_places(adapted: Any) -> list[str]:
    """Modules with an adapter whose weight another has, too, such as layers of Zamba; but for embedding and LM head,
    which `merge` parts."""
    modules = list(adapted.named_modules())
    users = Counter(id(weight) for _, module in modules for weight in module.parameters(recurse=False))
    ends = [end.get_base_layer() for end in _adapted_ends(adapted)]
    return [
        name.removeprefix("base_model.model.").removesuffix(".base_layer")
        for name, module in modules
        if name.endswith(".base_layer")
        and not any(module is end for end in ends)
        and any(users[id(weight)] > 1 for weight in module.parameters(recurse=False))
    ]


def merge(adapted: Any) -> Any:
    """The plain model of one of peft's. Embedding and LM head that share a weight have one each from then on where an
    adapter is on one of them: peft would merge it into both."""
    import torch

    for end in _adapted_ends(adapted):
        layer = end.get_base_layer()
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone(), layer.weight.requires_grad)
    plain = adapted.merge_and_unload()
    head = plain.get_output_embeddings()
    if head is not None and head.weight is not plain.get_input_embeddings().weight:
        plain.config.tie_word_embeddings = False
    return plain


def _adapted_ends(adapted: Any) -> list[Any]:
    """Embedding and LM head, which of them has an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends = adapted.get_input_embeddings(), adapted.get_output_embeddings()
    return [end for end in ends if isinstance(end, BaseTunerLayer)]
