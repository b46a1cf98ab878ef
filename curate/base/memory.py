"""What becomes of freed memory: on a CPU it is kept for the next step, of a GPU it is given back between two models.

And what an exception says where there is none left.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NO_ROOM = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""torch's words where its error is of no kind of its own: a CPU has none, nor has what a GPU's libraries take."""


def keep_freed() -> None:
    """Tell glibc, for this process, to keep what is freed for the next layer or step, instead of giving it back and
    faulting it in again page by page; elsewhere nothing happens. A tenth to a fifth of a training step on a CPU was
    the kernel's clearing of pages (benchmarks/training.py)."""
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # malloc.h
    mallopt = _of_glibc("mallopt")
    if mallopt:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**30)
        mallopt(arena_max, 1)


@contextmanager
def passing_over() -> Iterator[None]:
    """Within this block a search for garbage passes over what was there before, for libraries that search again and
    again: in a large process each takes a quarter of a second or more."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def no_room(error: BaseException) -> bool:
    """Whether it says that the device's memory does not hold something."""
    if "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_ROOM)


def _of_glibc(name: str) -> Any:
    """A function of glibc's, or None."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def give_back() -> None:
    """Give back what no tensor needs any more, of a GPU and of main memory. Another engine may be in a process of its
    own (vLLM's are) and finds only what is free; models are full of reference cycles, torch keeps what they held, and
    in what `keep_freed` kept, between smaller pieces, the next model's weights and moments may not find room."""
    import torch

    gc.collect()
    trim = _of_glibc("malloc_trim")
    if trim:
        trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
