"""The one picture of the page's first screen: the pairs' mutual information, and beside it the arms' margins."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from curate.base.progress import safe
from curate.reporting.arms import Arm
from curate.reporting.canvas import INK, PALETTE, PAPER, QUERY_COLOURS, QUERY_MARKS, panels
from curate.reporting.figures import Drawn, drawn_points, mi_limits
from curate.reporting.table import written
from curate.reporting.tables import by_query_type

POINTS = 500
"""Drawn as shapes, which follow the screen's colours, and not as one picture."""
SIZE = 8.5  # points, of its letters: it is shown smaller than the other figures
NAME_WIDTH = 22  # characters of an arm's name


def glance(frame: pl.DataFrame, arms: Sequence[Arm]) -> Drawn:
    """MI of both responses and, where arms were trained, each arm's margin on training and on held-out pairs.

    An arm whose rewards have a scale of their own (another beta) cannot share the axis and is left out.
    """
    shown = [arm for arm in arms if not arm.own_beta] or list(arms)
    columns = 2 if shown else 1
    figure, axes = panels(columns, 7.2 if shown else 5.4, max(3.3, 1.25 + 0.19 * len(shown)))
    _pairs(axes[0], frame)
    if shown:
        _margins(axes[1], shown)
    for axis in axes:
        axis.tick_params(labelsize=SIZE)
        for label in (axis.xaxis.label, axis.yaxis.label, axis.title):
            label.set_fontsize(SIZE + 0.5)
    return Drawn("glance", "At a glance", _alt(shown), _reading(shown, arms), figure)


def _alt(shown: Sequence[Arm]) -> str:
    said = "Scatter of the mutual information of the rejected (across) and the chosen response (up), with the diagonal."
    if not shown:
        return said
    ends = (
        f"{safe(arm.name)} {written(arm.spread('train_margin'))} and {written(arm.spread('heldout_margin'))}"
        for arm in shown
    )
    return f"{said} Beside it each arm's margin at the end, on training and on held-out pairs, nats: {'; '.join(ends)}."


def _reading(shown: Sequence[Arm], arms: Sequence[Arm]) -> str:
    said = (
        "Each point is a pair: above the diagonal the model comprehends the chosen response better, below it the "
        "rejected one."
    )
    if shown:
        said += (
            " Right: how far each arm prefers the chosen response, on its training pairs and on held-out ones; the "
            "shorter the line between, the less it overfits."
        )
    if turned := [safe(arm.name) for arm in shown if arm.turned]:
        said += f" No line, for training pairs were turned round and held-out ones were not: {', '.join(turned)}."
    if validated := [safe(arm.name) for arm in shown if arm.validation]:
        said += f" Measured on validation pairs instead of held-out ones: {', '.join(validated)}."
    if any(len(arm.runs) > 2 for arm in shown):
        said += " Thin bars: 95% intervals over the seeds."
    if any("heldout_margin" in arm.over_prompts for arm in shown):
        said += (
            " Of an arm with one seed thin bars are 95% intervals over the held-out prompts; over seeds it has none."
        )
    elif shown and all(len(arm.runs) == 1 for arm in shown):
        said += " One seed an arm: no interval over seeds."
    if len(shown) < len(arms):
        left = ", ".join(safe(arm.name) for arm in arms if arm not in shown)
        said += f" Not drawn, for the scale of their rewards is their own: {left}."
    return said


def _pairs(axis: Axes, frame: pl.DataFrame) -> None:
    low, high = mi_limits(frame)
    axis.plot([low, high], [low, high], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
    handles = []
    for query_type, part in by_query_type(frame):
        drawn = drawn_points(part, max(1, POINTS * part.height // frame.height))
        colour, mark = QUERY_COLOURS[query_type], QUERY_MARKS[query_type]
        axis.scatter(
            drawn["rejected_pmi"], drawn["chosen_pmi"], s=9, alpha=0.55, linewidths=0, color=colour, marker=mark
        )
        handles.append(
            Line2D([], [], linestyle="", color=colour, marker=mark, markersize=4.5, label=f"{query_type} query")
        )
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal", title="Comprehension of each pair")
    axis.set(xlabel="MI of rejected (nats/token)", ylabel="MI of chosen (nats/token)")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=SIZE - 0.5, handletextpad=0.1)


def _margins(axis: Axes, arms: Sequence[Arm]) -> None:
    """A row an arm: a full dot of its training pairs, a hollow one of held-out pairs, the overfitting between them."""
    for place, arm in enumerate(arms):
        train, heldout = arm.spread("train_margin"), arm.spread("heldout_margin")
        if train and heldout and not arm.turned:
            axis.plot([heldout.mean, train.mean], [place] * 2, color=PALETTE[0], linewidth=2.2, alpha=0.5, zorder=2)
        for outcome, end, fill in (("train_margin", train, PALETTE[0]), ("heldout_margin", heldout, PAPER)):
            if end:
                _interval(axis, arm.interval(outcome), place)
                axis.plot(end.mean, place, "o", color=PALETTE[0], markerfacecolor=fill, markersize=5.5, zorder=4)
    axis.axvline(0, color=INK, linewidth=0.8, zorder=1)
    axis.set_yticks(range(len(arms)), [_short(arm.name) for arm in arms], parse_math=False)
    axis.set(ylim=(len(arms) - 0.4, -0.6), xlabel="reward margin (nats)", title="Margins: train against held out")
    axis.grid(False, axis="y")
    kinds = {"train pairs": PALETTE[0], "held-out pairs ↑": PAPER}
    handles = [
        Line2D([], [], linestyle="", marker="o", color=PALETTE[0], markerfacecolor=fill, markersize=5, label=label)
        for label, fill in kinds.items()
    ]
    axis.figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=SIZE - 0.5, handletextpad=0.1)


def _interval(axis: Axes, bounds: tuple[float, float] | None, place: int) -> None:
    if bounds:
        axis.plot(bounds, [place] * 2, color=INK, linewidth=0.9, zorder=3)


def _short(name: str) -> str:
    name = safe(name)
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH // 2 - 1]}…{name[-NAME_WIDTH // 2 :]}"
