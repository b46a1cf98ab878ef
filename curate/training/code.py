"""What turns settings and pairs into numbers besides themselves: our code and the packages below it."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from curate import __version__
from curate.project import installed

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "peft")


@cache
def code_digest() -> str:
    """Of our version, the files that the stage `train` depends on (names and bytes, as they are installed) and the
    versions of PACKAGES: sixteen hex digits."""
    deps = installed.pipeline()["stages"]["train"]["deps"]
    found = hashlib.sha256(f"{__version__} {installed.digest(filter(installed.is_code, deps))}\n".encode())
    for package in PACKAGES:
        found.update(f"{package} {_version(package)}\n".encode())
    return found.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
