"""transformers, taken from here by whatever uses it: its import made lighter, by a third.

transformers loads scikit-learn, and with it SciPy and pandas, where it is installed (lm-evaluation-harness brings it),
for an option of assisted generation that is not used here; and SciPy's optimisers for losses of object detection. It
asks once a process whether there are any; here the answer is no. Everything else can import them as before.
"""

import gc
import sys
import warnings
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


HIDDEN = ("sklearn", "scipy")

_hidden = [name for name in HIDDEN if name not in sys.modules]
if _hidden:
    with importing():
        for _name in _hidden:
            sys.modules[_name] = None  # type: ignore[assignment]  # to whoever asks, it is not installed
        try:
            from transformers.utils import is_scipy_available, is_sklearn_available

            is_sklearn_available()
            is_scipy_available()
        finally:
            for _name in _hidden:
                del sys.modules[_name]
        import transformers.modeling_utils  # what every model imports

import transformers  # noqa: E402

__all__ = ["importing", "silence", "transformers"]


def silence() -> None:
    """From here on transformers says nothing but errors in this process, and shows no progress bar of its own; nor does
    peft tell of weights that are tied, which `curate.models.adapters` sees to."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*(tie_word_embeddings|no longer tied)", module="peft")
