"""A dataset on the Hugging Face Hub into records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from curate.base.errors import InputError, causes, first_line

OFFLINE = (
    "check the network, its proxy and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is cached; or download a file and give "
    "its path"
)
TIMEOUT = 10.0  # seconds


def read_hub(name: str, config: str | None, split: str, revision: str | None) -> Iterable[dict[str, Any]]:
    """The rows of one split of a dataset; they can be gone over several times, and stay on the disk.

    The Hub is asked once, before `datasets` is let loose: that fails at once where it cannot be reached, and
    names the commit that every file is then taken from. With HF_HUB_OFFLINE=1 the local cache is used.

    Raises:
        InputError: `datasets` is not installed; no such dataset, configuration, split or revision; access
            not granted; the Hub cannot be reached.
    """
    where = f"hub:{name}"
    try:
        import datasets
        import huggingface_hub as hub
    except ImportError as error:
        raise InputError(
            "reading from the Hub needs `datasets`", file=where, remedy="pip install 'curate-preferences[hub]'"
        ) from error
    if Path(name).exists():
        raise InputError(
            "something of this name stands in the working folder, and would be read in place of the Hub's dataset",
            file=where,
            found=Path(name),
            remedy=f"run in another folder, or name what stands here: ./{name}",
        )
    try:
        if not hub.constants.HF_HUB_OFFLINE:
            revision = hub.HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT).sha
        dataset = _loaded(datasets, name, config, split=split, revision=revision)
    except Exception as error:  # httpx, huggingface_hub and datasets each have their own
        what, remedy = _explain(error, name)
        words = " ".join(str(error).split("\n", 2)[:2]) if isinstance(error, ValueError) else first_line(error)
        raise InputError(what, file=where, found=f"{type(error).__name__}: {words}", remedy=remedy) from error
    _check_commit(dataset, revision, where)
    unopened = _unopened(datasets, dataset.features)
    if unopened != dataset.features:
        dataset = dataset.to_iterable_dataset().cast(unopened)
    return cast(Iterable[dict[str, Any]], dataset)


def _unopened(datasets: ModuleType, feature: Any) -> Any:
    """The features with pictures, sound and the like as they are stored: opened, the same ones differ each time, and
    some need a package of their own."""
    if isinstance(feature, dict):
        return type(feature)({name: _unopened(datasets, part) for name, part in feature.items()})
    if isinstance(feature, datasets.List | datasets.LargeList):
        return replace(feature, feature=_unopened(datasets, feature.feature))
    if hasattr(feature, "decode") and not isinstance(feature, datasets.Json):
        return replace(feature, decode=False)
    return feature


def _check_commit(dataset: Any, revision: str | None, where: str) -> None:
    """Where the Hub fails, `datasets` takes what its cache has of another commit, whatever was asked for; its folder
    has the commit's name."""
    commits = {Path(file["filename"]).parent.name for file in dataset.cache_files} if _is_commit(revision) else set()
    if other := [commit for commit in commits if _is_commit(commit) and commit != revision]:
        raise InputError(
            "the Hub failed, and `datasets` gave rows of another commit, from its cache",
            file=where,
            found=f"commit {other[0]}",
            expected=f"commit {revision}",
            remedy="try again later; or HF_HUB_OFFLINE=1, with no hub_revision, uses what is cached",
        )


def _is_commit(name: str | None) -> bool:
    return bool(re.fullmatch("[0-9a-f]{40}", name or ""))


def _loaded(datasets: ModuleType, name: str, config: str | None, **named: str | None) -> Any:
    """The split of a configuration or, where there is none of that name, of the files in a folder of that name.

    HH-RLHF and HelpSteer2's preferences are kept in folders.
    """
    try:
        return datasets.load_dataset(name, config, **named)
    except (ValueError, FileNotFoundError):
        if config is None:
            raise
        try:
            return datasets.load_dataset(name, data_dir=config, **named)
        except Exception:  # (what was asked for first is what is told)
            pass
        raise


def _explain(error: Exception, name: str) -> tuple[str, str]:
    """What went wrong and what to do, by the error's type or that of one that led to it."""
    from huggingface_hub import errors as hub

    def led_by(*types: type[Exception]) -> bool:
        return any(isinstance(cause, types) for cause in causes(error))

    if led_by(hub.GatedRepoError) or "gated dataset" in str(error):
        terms = f"accept its terms at https://huggingface.co/datasets/{name}, then `hf auth login`"
        return "access to this dataset must be granted", terms
    refused = any(getattr(getattr(cause, "response", None), "status_code", None) == 401 for cause in causes(error))
    if refused and not led_by(hub.RepositoryNotFoundError):
        return "the Hub refuses the token", "set HF_TOKEN to a valid token, or `hf auth login`"
    if led_by(hub.RevisionNotFoundError):
        return "the dataset has no such revision", "check hub_revision"
    if led_by(hub.RepositoryNotFoundError, hub.HFValidationError):
        return "no such dataset on the Hub, or it is private", "check the name; `hf auth login` for a private one"
    if isinstance(error, ValueError):  # what `datasets` raises for a configuration or split that is not there
        return "the dataset has no such configuration or split", "check hub_config (or a folder) and hub_split"
    if "OfflineModeIsEnabled" in str(error):
        return "not in the cache, and HF_HUB_OFFLINE is set", "unset it to ask the Hub"
    if "scripts are no longer supported" in str(error):
        converted = "hub_revision: refs/convert/parquet, where the Hub has converted it; or download a file"
        return "this dataset is made by a script of its own, which `datasets` does not run", converted
    if isinstance(error, FileNotFoundError) and not led_by(hub.HfHubHTTPError, hub.OfflineModeIsEnabled):
        return "the dataset has no files that `datasets` reads", "check hub_config (or a folder); or download a file"
    return "cannot read the dataset from the Hub", OFFLINE
