"""A claim with its source."""

from __future__ import annotations

from typing import NamedTuple


class Formula(NamedTuple):
    what: str
    text: str
    tag: str  # paper, digest or ours: docs/method.md
