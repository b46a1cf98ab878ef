"""C of this package as a processor with narrower vectors would run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from curate.base import native


@contextmanager
def compiled_with(flags: str, folder: Path) -> Iterator[None]:
    """Within this block libraries are loaded anew, compiled with these flags, and kept in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, f"{native.compiler()} {flags}")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        native.load.cache_clear()
        yield
    native.load.cache_clear()
