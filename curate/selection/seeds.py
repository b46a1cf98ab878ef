"""Which runs are seeds of one arm: those whose records differ in nothing else that decides their numbers. [ours]"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from curate.pairs.identity import digest
from curate.project.params import IDLE_KEYS, WEIGHTED

MEASURING = ("evaluations", "eval_pairs", "end_pairs", "kl_prompts", "kl_tokens")
"""Keys of `train` that change what a run measures alone."""


def made(record: Mapping[str, Any], without: Collection[str] = ()) -> str:
    """What of a run's record (model/curate.json) decides its numbers, but for the seed: runs that are seeds of one arm
    share it. An arm without weights does not read how the file was weighed.

    Args:
        without: keys of `train` that do not count, besides those that change no number.
    """

    def part(name: str) -> Mapping[str, Any]:
        found = record.get(name)
        return found if isinstance(found, Mapping) else {}

    weighed = part("from") if part("settings").get("objective") in WEIGHTED else None
    train = {name: value for name, value in part("train").items() if name not in {*IDLE_KEYS, *without}}
    return digest([part("settings"), train, part("model").get("digest"), part("data").get("digest"), weighed])
