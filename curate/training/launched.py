"""How this process was launched: accelerate says it in the environment, before any of it is imported."""

from __future__ import annotations

import os


def processes() -> int:
    """How many processes train together, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this is the first of the processes."""
    return os.environ.get("RANK", "0") == "0"


def sharded() -> bool:
    """Whether they hold the model in shards (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
