"""What runs the chunks, by the engine's name."""

from __future__ import annotations

from curate.scoring.chunks import Runner
from curate.scoring.local import score_here


def runner(engine: str) -> Runner:
    """The Ray cluster for `ray`; this process for any other engine."""
    if engine != "ray":
        return score_here
    from curate.scoring.ray import score_on_ray

    return score_on_ray
