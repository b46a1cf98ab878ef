"""The figures about training: reward margin, accuracy, rewards and KL to the reference of the arms over their steps."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from curate.base.progress import safe
from curate.evaluation.statistics import wilson
from curate.reporting.arms import Arm
from curate.reporting.canvas import INK, PALETTE, panels
from curate.reporting.figures import Drawn
from curate.reporting.inputs import SIDES, Run
from curate.reporting.table import written

DASHES = {"train": "solid", "heldout": (0, (4, 2))}
MOST_ARMS = len(PALETTE)
"""More are not told apart."""


def margin_figure(arms: Sequence[Arm], colours: Sequence[str]) -> Figure:
    figure, (axis,) = panels(1, 8.6, 4.4)
    draw(axis, arms, "rewards/margins", colours)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set(xlabel="step", ylabel="reward margin (nats)")
    legend(figure, arms, colours)
    return figure


def margins(arms: Sequence[Arm]) -> Drawn:
    return Drawn(
        "margins",
        "Reward margin",
        f"Reward margin over the training steps. {_ends(arms, 'heldout_margin', 'train_margin')}",
        "The margin is β·Δ of the chosen response minus β·Δ of the rejected one: how much further the policy has "
        "moved towards the chosen response. Solid: pairs it trains on; dashed: held-out pairs. A solid line that "
        "rises away from its dashed one is overfitting. The margin is unweighted in every arm, so arms of one β "
        f"compare. {beta_said(arms)}{_turned_said(arms)}{lines_said(arms)}{_left_out(arms)}",
        margin_figure(arms, PALETTE),
    )


def beta_said(arms: Sequence[Arm]) -> str:
    own = ", ".join(safe(arm.name) for arm in arms if arm.own_beta)
    return f"In units of a β of their own: {own}. " if own else ""


def _turned_said(arms: Sequence[Arm]) -> str:
    turned = ", ".join(safe(arm.name) for arm in arms if arm.turned)
    return f"Not so of {turned}: the training pairs were turned round, the held-out ones were not. " if turned else ""


def accuracies(arms: Sequence[Arm]) -> Drawn:
    figure, (axis,) = panels(1, 8.6, 4.0)
    draw(axis, arms, "rewards/accuracies", PALETTE)
    axis.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axis.set(xlabel="step", ylabel="reward accuracy (share of pairs)", ylim=(-0.02, 1.02))
    legend(figure, arms, PALETTE)
    return Drawn(
        "accuracies",
        "Reward accuracy",
        f"Share of pairs with a positive reward margin over the steps. {_ends(arms, 'heldout_accuracy')}",
        "The share of pairs whose margin is positive. The dotted line is chance. At step 0 policy and reference are "
        f"the same model and every margin is zero but for rounding, so the first point says nothing. "
        f"{lines_said(arms)}{_wilson_said(arms)}{_left_out(arms)}",
        figure,
    )


def _wilson_said(arms: Sequence[Arm]) -> str:
    alone = any(len(arm.runs) == 1 and arm.followed for arm in arms)
    return (
        " Where an arm has one seed, the band is the 95% interval of a share of so many pairs (Wilson)."
        if alone
        else ""
    )


def rewards(arms: Sequence[Arm]) -> Drawn:
    """Both responses' rewards apart: a margin can grow while both sink."""
    figure, axes = panels(2, 8.6, 4.4, sharey=True)
    for axis, side in zip(axes, ("chosen", "rejected"), strict=True):
        draw(axis, arms, f"rewards/{side}", PALETTE)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set(xlabel="step", title=f"{side} response")
    axes[0].set_ylabel("reward β·Δ(y) (nats)")
    legend(figure, arms, PALETTE)
    return Drawn(
        "rewards",
        "Rewards of both responses",
        f"Reward of the chosen response (left) and of the rejected one (right) over the steps. "
        f"Chosen: {_ends(arms, 'heldout_chosen_reward')} Rejected: {_ends(arms, 'heldout_rejected_reward')}",
        "β·Δ(y) is β times the change of the response's log-probability since the reference model. Above zero the "
        "response has become likelier, below zero less likely. A chosen reward that sinks means that the margin "
        f"grows only because the rejected response sinks faster. {beta_said(arms)}{lines_said(arms)}{_left_out(arms)}",
        figure,
    )


def divergence(arms: Sequence[Arm]) -> Drawn | None:
    """How far each policy has moved from the reference; None where no run has estimated it."""
    if not any(run.curve["kl"].is_not_null().any() for arm in arms for run in arm.runs):
        return None
    figure, (axis,) = panels(1, 8.6, 4.0)
    draw(axis, arms, "kl", PALETTE, sides=["heldout"])
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set(xlabel="step", ylabel="KL to the reference (nats a response)")
    legend(figure, arms, PALETTE, sides=["heldout"])
    return Drawn(
        "divergence",
        "KL to the reference",
        f"KL divergence of each policy from the reference over the steps. {_ends(arms, 'heldout_kl')}",
        "How far the policy has moved in what it would say itself, in nats a response: for each of some held-out "
        "prompts a response is drawn from the policy, and the divergence of its next-token distribution from the "
        "reference's is summed along it. At the same held-out accuracy, the lower the better: the same preference "
        f"for less change. {_seeds_said(arms)}{_left_out(arms)}",
        figure,
    )


def draw(axis: Axes, arms: Sequence[Arm], measure: str, colours: Sequence[str], sides: Sequence[str] = SIDES) -> None:
    """A line an arm and side, the first arm on top: the mean over the seeds, in a band from the lowest to the highest.

    Of `arms` the first are drawn, one for each of `colours`.
    """
    for arm, colour in reversed(list(zip(arms, colours, strict=False))):
        for side in sides:
            line = over_seeds(arm.runs, side, measure)
            axis.plot(
                line["step"],
                line["mean"],
                color=colour,
                linestyle=DASHES[side],
                linewidth=1.8,
                marker="o" if side == "train" else "s",
                markersize=3.2,
            )
            if len(arm.runs) > 1:
                axis.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.16, linewidth=0)
            elif measure == "rewards/accuracies" and side == "heldout" and arm.followed:
                bounds = [wilson(rate * arm.followed, arm.followed) for rate in line["mean"]]
                low, high = zip(*bounds, strict=True)
                axis.fill_between(line["step"], low, high, color=colour, alpha=0.12, linewidth=0)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def over_seeds(runs: Sequence[Run], side: str, measure: str) -> pl.DataFrame:
    """step, mean, low and high over the runs, at the steps at which every run has a value."""
    curves = pl.concat(
        [run.curve.filter(pl.col("side") == side).select("step", pl.col(measure).cast(pl.Float64)) for run in runs]
    )
    values = pl.col(measure)
    spread = (
        curves.drop_nulls()
        .group_by("step")
        .agg(values.mean().alias("mean"), values.min().alias("low"), values.max().alias("high"), pl.len())
    )
    return spread.filter(pl.col("len") == len(runs)).drop("len").sort("step")


def legend(figure: Figure, arms: Sequence[Arm], colours: Sequence[str], sides: Sequence[str] = SIDES) -> None:
    handles = [
        Line2D([], [], color=colour, linewidth=3, label=arm.name) for arm, colour in zip(arms, colours, strict=False)
    ]
    labels = {"train": "train", "heldout": "held out"}
    handles += [Line2D([], [], color=INK, linestyle=DASHES[side], linewidth=1.6, label=labels[side]) for side in sides]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))


def lines_said(arms: Sequence[Arm]) -> str:
    """How many seeds the lines are made of, and whether of fewer pairs than the numbers at the end."""
    fewer = " Lines are of fewer pairs (train.eval_pairs) than the numbers at the end (train.end_pairs)."
    return _seeds_said(arms) + (fewer if any(_of_fewer(run) for arm in arms for run in arm.runs) else "")


def _of_fewer(run: Run) -> bool:
    each = (run.record.get("train") or {}).get("eval_pairs")
    return each is not None and run.rewards is not None and any(len(run.rewards.filter(side=s)) > each for s in SIDES)


def _seeds_said(arms: Sequence[Arm]) -> str:
    """How many seeds lines and bands are made of."""
    counts = sorted({len(arm.runs) for arm in arms})
    if counts == [1]:
        return "One seed an arm: no interval over seeds."
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    said = f"Lines are means over the seeds ({n}), bands reach from the lowest seed to the highest."
    uneven = any(len({tuple(run.curve["step"].unique().sort()) for run in arm.runs}) > 1 for arm in arms)
    return said + (" Steps that not every seed of an arm reached are left out." if uneven else "")


def _left_out(arms: Sequence[Arm]) -> str:
    if len(arms) <= MOST_ARMS:
        return ""
    return f" Drawn are the first {MOST_ARMS} of {len(arms)} arms; the table has them all."


def _ends(arms: Sequence[Arm], heldout: str, train: str | None = None) -> str:
    ends = (
        f"{arm.name}: "
        + (f"{written(arm.spread(train))} train, " if train else "")
        + f"{written(arm.spread(heldout))} held out"
        for arm in arms[:MOST_ARMS]
    )
    return f"At the end, {'; '.join(ends)}."
