"""Evaluated arms with their intervals: a panel a headline metric, a row an arm."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from curate.base.progress import safe
from curate.evaluation.compare import Arm, about
from curate.evaluation.record import Key
from curate.reporting.canvas import BASE_COLOUR, INK, PALETTE, panels
from curate.reporting.figures import Drawn
from curate.reporting.table import Within, written

MOST_PANELS = 4
NAME_WIDTH = 24  # characters of an arm's name on a line; it has two


def forests(arms: Sequence[Arm]) -> list[Drawn]:
    """A figure a suite, of its headline metrics; of a suite that has none, of its others."""
    every = dict.fromkeys(key for arm in arms for key in arm.estimates)
    return [_forest(suite, arms, [key for key in every if key.suite == suite]) for suite in {k.suite: 0 for k in every}]


def _forest(suite: str, arms: Sequence[Arm], keys: Sequence[Key]) -> Drawn:
    there = [arm for arm in arms if any(key in arm.estimates for key in keys)]
    said = {key: about(next(arm.runs for arm in there if key in arm.estimates), key) for key in keys}
    headline = [key for key in keys if said[key]["headline"]]
    shown = (headline or list(keys))[:MOST_PANELS]
    figure, axes = panels(len(shown), 8.6, 1.6 + 0.4 * len(there), sharey=True)
    for axis, key in zip(axes, shown, strict=True):
        for place, arm in enumerate(there):
            found = arm.estimates.get(key)
            if found is None:
                continue
            trained = arm.runs[0].seed is not None
            axis.errorbar(
                found.value,
                place,
                xerr=[[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]],
                fmt="o",
                color=PALETTE[0] if trained else BASE_COLOUR,
                ecolor=INK,
                elinewidth=1.1,
                capsize=3,
                markersize=6,
            )
        better = said[key]["better"]
        arrow = None if better == "neither" else f"{better} is better"
        name, _, part = key.metric.partition(", ")
        axis.set_xlabel("\n".join(filter(None, (name, part, arrow))), parse_math=False)
        axis.set(ylim=(len(there) - 0.45, -0.55))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.margins(x=0.08)
    axes[0].set_yticks(range(len(there)), [_folded(arm.name) for arm in there], parse_math=False)
    reading = (
        "Each dot is an arm's rate or mean over all prompts and seeds, the bar its 95% interval (Wilson for rates, "
        "with the prompt as cluster where there are several seeds; bootstrap for means)."
    )
    if len(there) > 1:
        reading += (
            " Intervals that overlap may still differ: the arms answer the same prompts, and the comparisons below use "
            "that."
        )
    if len(headline or keys) > len(shown):
        reading += f" Drawn are the first {len(shown)} metrics; the tables have all."
    return Drawn(
        f"evaluation-{suite}",
        f"Evaluation on {suite}",
        f"{'Headline' if headline else 'Secondary'} metrics of the suite {suite} with 95% intervals. "
        + " ".join(_told(key, there) for key in shown),
        reading,
        figure,
    )


def _folded(name: str) -> str:
    """On two lines at most; what has no room is left out in the middle."""
    name = safe(name)
    lines = textwrap.wrap(name, NAME_WIDTH)
    return "\n".join(lines if len(lines) < 3 else (name[: NAME_WIDTH - 1] + "…", name[-NAME_WIDTH:]))


def _told(key: Key, arms: Sequence[Arm]) -> str:
    parts = (
        f"{arm.name} {written(Within(found.value, found.low, found.high))}"
        for arm in arms
        if (found := arm.estimates.get(key))
    )
    return f"{key.metric}: {'; '.join(parts)}."
