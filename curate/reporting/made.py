"""When a page was made, and how long what it shows took to compute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from curate.base import times


class Made(NamedTuple):
    """`seconds` is the sum over stages, each as it last ran; None where nothing recorded it."""

    date: str
    seconds: float | None = None
    longest: tuple[str, float] | None = None  # a stage and its seconds

    @property
    def took(self) -> str:
        if self.seconds is None:
            return "not recorded"
        said = duration(self.seconds)
        return said if self.longest is None else f"{said}, longest: {self.longest[0]} {duration(self.longest[1])}"


def now(stages: Sequence[str] | None = None) -> Made:
    """A page that is made at this moment, from stages that the project's `times` know.

    Args:
        stages: those that count; None: nothing was made by stages.
    """
    date = datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC")
    taken = times.read()
    found = {name: taken[name] for name in stages or () if name in taken}
    if not found:
        return Made(date)
    longest = max(found.items(), key=lambda stage: stage[1])
    return Made(date, sum(found.values()), longest if len(found) > 1 else None)


def duration(seconds: float) -> str:
    """41 s; 4 min 10 s; 3 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
