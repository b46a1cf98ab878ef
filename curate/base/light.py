"""Imported before transformers by what loads a model: its import made lighter, by a quarter.

transformers loads scikit-learn, and with it SciPy and pandas, wherever it is installed (evaluations have it installed),
for an option of assisted generation that is not used here. It asks once a process whether there is any; here the answer
is no. Everything else can import scikit-learn as before.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Within this block, which imports something large, Python looks for no garbage: there is none among hundreds of
    thousands of objects. Those that came are not looked at again, either."""
    collects, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        if collects:
            gc.enable()


if "sklearn" not in sys.modules:
    with importing():
        sys.modules["sklearn"] = None  # type: ignore[assignment]  # to whoever asks, it is not installed
        try:
            from transformers.utils import is_sklearn_available

            is_sklearn_available()
        finally:
            del sys.modules["sklearn"]
        import transformers.modeling_utils  # noqa: F401  (what every model imports)
