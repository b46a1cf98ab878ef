"""Arms at their end, every seed a dot: by arm, or along a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from curate.reporting.arms import Arm
from curate.reporting.canvas import INK, PALETTE, PAPER, panels

PANELS = {"heldout_accuracy": "held-out accuracy (share of pairs)", "margin_gap": "margin gap, train − held out (nats)"}
"""The measures drawn, a panel each."""
ACROSS = 0.22
"""Seeds of an arm lie so far apart, from its row's middle, that equal ones are seen apart."""


def by_arm(labels: Mapping[str, Arm], baseline: str | None = None, colours: Mapping[str, str] | None = None) -> Figure:
    """A row an arm, the first on top: a dot a seed, a bar at their mean.

    Args:
        baseline: the label of the arm whose mean is drawn through all rows, dotted.
        colours: by label; else all dots have one colour.
    """
    figure, axes = panels(2, 8.6, 1.5 + 0.42 * len(labels), sharey=True)
    for axis, (outcome, title) in zip(axes, PANELS.items(), strict=True):
        for place, (label, arm) in enumerate(labels.items()):
            values = list(arm.values(outcome).values())
            colour = (colours or {}).get(label, PALETTE[0])
            axis.scatter(values, place + _apart(len(values)), s=34, alpha=0.75, linewidths=0, color=colour, zorder=3)
            if bounds := arm.interval(outcome):
                axis.plot(bounds, [place] * 2, color=INK, linewidth=1, zorder=2)
            if len(values) > 1:
                axis.plot([np.mean(values)] * 2, [place - 0.34, place + 0.34], color=INK, linewidth=2.2, zorder=4)
        _reference(axis, labels.get(baseline or ""), outcome)
        axis.set(xlabel=title, ylim=(len(labels) - 0.45, -0.55))
        axis.margins(x=0.08)
    axes[0].set_yticks(range(len(labels)), list(labels))
    return figure


def intervals_said(arms: Iterable[Arm]) -> str:
    """What the thin bars are, for the figure's words."""
    arms = list(arms)
    fewest, most = (pick(len(arm.runs) for arm in arms) for pick in (min, max))
    of_seeds = "95% intervals of the mean over the seeds (Student's t)"
    of_pairs = "95% intervals of an accuracy of so many pairs (Wilson); of a margin " + (
        "in one run over its prompts (bootstrap)"
        if any(arm.over_prompts for arm in arms)
        else "in one or two runs none is known"
    )
    if fewest > 2:
        return f"Thin bars: {of_seeds}."
    return f"Thin bars: {of_pairs}." if most < 3 else f"Thin bars: {of_seeds}, below three seeds {of_pairs}."


def _apart(count: int) -> np.ndarray:
    return np.linspace(-ACROSS, ACROSS, count) if count > 1 else np.zeros(count)


def _reference(axis: Axes, arm: Arm | None, outcome: str) -> None:
    mean = arm.spread(outcome) if arm else None
    if mean:
        axis.axvline(mean.mean, color=INK, linewidth=1.0, linestyle=(0, (1, 2)), zorder=2)


def along(points: Sequence[tuple[float, Arm]], label: str, hollow: Sequence[Arm] = ()) -> Figure:
    """Each seed a dot over the number its arm stands for, and a line through the means; `hollow` arms' dots are so."""
    figure, axes = panels(2, 8.6, 3.9, sharex=True)
    for axis, (outcome, title) in zip(axes, PANELS.items(), strict=True):
        means = [(x, mean.mean) for x, arm in points if (mean := arm.spread(outcome))]
        axis.plot(*zip(*means, strict=True), color=INK, linewidth=1.6, zorder=2)
        for x, arm in points:
            values = list(arm.values(outcome).values())
            if bounds := arm.interval(outcome):
                axis.plot([x] * 2, bounds, color=INK, linewidth=1, zorder=2)
            fill = PAPER if arm in hollow else PALETTE[0]
            axis.scatter(
                [x] * len(values), values, s=34, alpha=0.75, color=fill, edgecolors=PALETTE[0], linewidths=1.2, zorder=3
            )
        axis.set(xlabel=label, title=title)
        axis.margins(y=0.1)
    return figure
