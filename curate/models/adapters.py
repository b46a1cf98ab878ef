"""A model that is a LoRA adapter: the folder names its base model, and both are merged when it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from curate.base import files
from curate.base.errors import InputError
from curate.models.resolve import Model, download, is_hub_id, resolve

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


class Adapted(NamedTuple):
    model: Model  # the base's folder, under the adapter's name; its digest is of both
    adapter: Path | None  # None: the model is whole by itself


def resolve_adapted(name: str, revision: str | None = None) -> Adapted:
    """The model that `name` means, which may be a PEFT adapter: a folder with adapter_config.json and no config.json.

    Raises:
        InputError: as `resolve`, of the adapter or of its base; or an adapter without safetensors weights.
    """
    folder = Path(name)
    if not folder.exists() and is_hub_id(name):
        folder = download(name, revision)
        revision = folder.name  # the commit: what is resolved below is this very snapshot
    if not (folder / CONFIG).is_file() or (folder / "config.json").is_file():
        return Adapted(resolve(name, revision), None)
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            "the adapter has no safetensors weights",
            file=folder,
            expected=f"{WEIGHTS} (pickled weights can run code and are not read)",
            remedy="save it anew with peft: save_pretrained(folder)",
        )
    described = files.read_json(folder / CONFIG)
    base_name = described.get("base_model_name_or_path")
    if not isinstance(base_name, str) or not base_name:
        raise InputError(
            "the adapter does not say what it adapts", file=folder / CONFIG, field="base_model_name_or_path"
        )
    base = resolve(base_name, described.get("revision"))
    parts = [base.digest, files.file_digest(folder / CONFIG), files.file_digest(folder / WEIGHTS)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    commit = None if Path(name).exists() else revision
    return Adapted(base._replace(name=name, commit=commit, digest=digest), folder)


def load_adapted(adapted: Adapted, dtype: str) -> Any:
    """The causal model, the adapter merged into it, on the device. Raises `InputError` where it cannot be loaded."""
    from curate.models.load import load_model

    net = load_model(adapted.model, dtype)
    if adapted.adapter is None:
        return net.eval()
    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError(
            "a judge that is an adapter needs peft", remedy="pip install 'curate-preferences[train]'"
        ) from error
    try:
        merged = PeftModel.from_pretrained(net, adapted.adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(
            "cannot load the adapter", file=adapted.adapter, found=(str(error).splitlines() or ["?"])[0]
        ) from error
    return merged.eval()
