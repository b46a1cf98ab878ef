"""The figures about training: reward margin, accuracy and rewards of every arm over its steps."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from curate.reporting.canvas import INK, PALETTE, panels
from curate.reporting.figures import Drawn
from curate.reporting.inputs import SIDES, Run
from curate.reporting.table import written

DASHES = {"train": "solid", "heldout": (0, (4, 2))}


def margins(runs: Sequence[Run]) -> Drawn:
    figure, (axis,) = panels(1, 8.6, 4.4)
    _draw(axis, runs, "rewards/margins")
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set(xlabel="step", ylabel="reward margin (nats)")
    _legend(figure, runs)
    return Drawn(
        "margins",
        "Reward margin",
        f"Reward margin over the training steps. {_ends(runs, 'rewards/margins')}",
        "The margin is β·Δ of the chosen response minus β·Δ of the rejected one: how much further the policy has "
        "moved towards the chosen response. Solid: pairs it trains on; dashed: held-out pairs. A solid line that "
        "rises away from its dashed one is overfitting. The margin is unweighted in every arm, so arms compare.",
        figure,
    )


def accuracies(runs: Sequence[Run]) -> Drawn:
    figure, (axis,) = panels(1, 8.6, 4.0)
    _draw(axis, runs, "rewards/accuracies")
    axis.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axis.set(xlabel="step", ylabel="reward accuracy (share of pairs)", ylim=(-0.02, 1.02))
    _legend(figure, runs)
    return Drawn(
        "accuracies",
        "Reward accuracy",
        f"Share of pairs with a positive reward margin over the steps. {_ends(runs, 'rewards/accuracies')}",
        "The share of pairs whose margin is positive. The dotted line is chance. At step 0 policy and reference are "
        "the same model and every margin is zero but for rounding, so the first point says nothing.",
        figure,
    )


def rewards(runs: Sequence[Run]) -> Drawn:
    """Both responses' rewards apart: a margin can grow while both sink."""
    figure, axes = panels(2, 8.6, 4.4, sharey=True)
    for axis, side in zip(axes, ("chosen", "rejected"), strict=True):
        _draw(axis, runs, f"rewards/{side}")
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set(xlabel="step", title=f"{side} response")
    axes[0].set_ylabel("reward β·Δ(y) (nats)")
    _legend(figure, runs)
    return Drawn(
        "rewards",
        "Rewards of both responses",
        f"Reward of the chosen response (left) and of the rejected one (right) over the steps. "
        f"Chosen: {_ends(runs, 'rewards/chosen')} Rejected: {_ends(runs, 'rewards/rejected')}",
        "β·Δ(y) is β times the change of the response's log-probability since the reference model. Above zero the "
        "response has become likelier, below zero less likely. A chosen reward that sinks means that the margin "
        "grows only because the rejected response sinks faster.",
        figure,
    )


def _draw(axis: Axes, runs: Sequence[Run], measure: str) -> None:
    for position, run in enumerate(runs):
        for side in SIDES:
            part = run.curve.filter(pl.col("side") == side).sort("step")
            axis.plot(
                part["step"],
                part[measure].cast(pl.Float64),
                color=PALETTE[position % len(PALETTE)],
                linestyle=DASHES[side],
                linewidth=1.8,
                marker="o" if side == "train" else "s",
                markersize=3.2,
            )


def _legend(figure: Figure, runs: Sequence[Run]) -> None:
    handles = [
        Line2D([], [], color=PALETTE[position % len(PALETTE)], linewidth=3, label=run.arm)
        for position, run in enumerate(runs)
    ]
    labels = {"train": "train", "heldout": "held out"}
    handles += [Line2D([], [], color=INK, linestyle=DASHES[side], linewidth=1.6, label=labels[side]) for side in SIDES]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))


def _ends(runs: Sequence[Run], measure: str) -> str:
    ends = (
        f"{run.arm}: {written(run.final('train', measure))} train, {written(run.final('heldout', measure))} held out"
        for run in runs
    )
    return f"At the end, {'; '.join(ends)}."
