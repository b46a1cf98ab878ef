"""Scripts of the repository that are in no package."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def script(path):
    """The script at `path` in the repository, as a module of the name benchmarks_sides or the like."""
    spec = importlib.util.spec_from_file_location(path.removesuffix(".py").replace("/", "_"), ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
