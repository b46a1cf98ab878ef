"""The figures about the data: mutual information, its gap and the weights. Frames in, matplotlib figures out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from curate.evaluation.statistics import wilson
from curate.pairs.schema import WEIGHTS
from curate.reporting.canvas import INK, PALE, PALETTE, QUERY_COLOURS, SUBSET_COLOURS, limits, panels
from curate.reporting.claims import Formula
from curate.reporting.table import Spread, fixed, t_interval
from curate.reporting.tables import by_query_type
from curate.reporting.words import plain
from curate.selection.gap import used

WEIGHT_COLOURS = {"chosen_weight": PALETTE[0], "rejected_weight": PALETTE[1], "pair_scale": PALETTE[2]}
BINS = 48


class Drawn(NamedTuple):
    """A figure with the words that go with it: `alt` says what it shows, `reading` how to read it."""

    name: str
    title: str
    alt: str
    reading: str
    figure: Figure
    claims: tuple[Formula, ...] = ()  # what the source says of it, and what stands here in its place
    compared: tuple[str, ...] = ()  # paired comparisons of arms, a line each


def finite(frame: pl.DataFrame) -> pl.DataFrame:
    """The pairs whose MI is finite on both sides: those that can be drawn."""
    return frame.filter(pl.all_horizontal(pl.col("chosen_pmi", "rejected_pmi", "pmi_gap").is_finite()))


def drawn_points(frame: pl.DataFrame, points: int) -> pl.DataFrame:
    """All rows, or a draw of `points` of them (its seed is fixed: 0), in the file's order."""
    if frame.height <= points:
        return frame
    rows = np.random.default_rng(0).choice(frame.height, size=points, replace=False)
    return frame[np.sort(rows)]


def scatter(frame: pl.DataFrame, points: int) -> Drawn:
    """MI(x, y_l) against MI(x, y_w), a panel a query type: the axes of the paper's Figure 2."""
    types = by_query_type(frame)
    figure, axes = panels(len(types), 4.3 * len(types), 4.6, sharex=True, sharey=True)
    low, high = mi_limits(frame)
    said = []
    for axis, (query_type, part) in zip(axes, types, strict=True):
        above, below = (float(part.select(mean).item()) for mean in (_share(">"), _share("<")))
        shown = drawn_points(part, max(1, points * part.height // frame.height))
        axis.plot([low, high], [low, high], color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=3)
        axis.scatter(
            shown["rejected_pmi"],
            shown["chosen_pmi"],
            s=9,
            alpha=0.45,
            linewidths=0,
            color=QUERY_COLOURS[query_type],
            rasterized=True,
            zorder=2,
        )
        axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axis.set(xlabel=r"MI($x$, $y_l$), rejected (nats/token)", title=f"{query_type} queries ({part.height:,} pairs)")
        _corner(axis, 0.03, 0.97, f"{_with_interval(part, '>')} above:\nchosen higher")
        _corner(axis, 0.97, 0.03, f"{_with_interval(part, '<')} below:\nrejected higher")
        said.append(f"{query_type}: {above:.0%} of {part.height:,} pairs above the diagonal, {below:.0%} below")
    axes[0].set_ylabel(r"MI($x$, $y_w$), chosen (nats/token)")
    outside = frame.filter(
        pl.any_horizontal(~pl.col("chosen_pmi", "rejected_pmi").is_between(low, high, closed="both"))
    ).height
    left_out = f" Outside the frame: {outside:,} extreme pair{'s' if outside > 1 else ''}." if outside else ""
    return Drawn(
        "mutual-information",
        "Mutual information of both responses",
        f"Scatter of the rejected response's mutual information against the chosen one's. {'; '.join(said)}.",
        "Each point is a pair. On the dashed diagonal the model comprehends both responses equally well; above it "
        "the chosen response has the higher mutual information, below it the rejected one. The further from the "
        "diagonal, the more imbalanced the pair. In the corners: the shares with their 95% intervals (Wilson). The "
        f"axes are those of the paper's Figure 2.{left_out}",
        figure,
    )


def mi_limits(frame: pl.DataFrame) -> tuple[float, float]:
    """The range of both axes of the scatter, nats/token."""
    return limits(frame.select(pl.concat_list("chosen_pmi", "rejected_pmi").explode()).to_series().to_numpy())


def _share(sign: str) -> pl.Expr:
    return ((pl.col("pmi_gap") > 0) if sign == ">" else (pl.col("pmi_gap") < 0)).mean()


def _with_interval(part: pl.DataFrame, sign: str) -> str:
    share = float(part.select(_share(sign)).item())
    low, high = wilson(share * part.height, part.height)
    return f"{share:.0%} [{low:.0%}, {high:.0%}]"


def _mean_said(values: pl.Series) -> str:
    """A mean and, from three values on, its 95% interval (Student's t)."""
    found = Spread(float(values.mean()), values.std(), len(values))  # type: ignore[arg-type]
    bounds = t_interval(found)
    return fixed(found.mean) + (f" [{fixed(bounds[0])}, {fixed(bounds[1])}]" if bounds else "")


def _corner(axis: Axes, x: float, y: float, text: str) -> None:
    axis.text(
        x,
        y,
        text,
        transform=axis.transAxes,
        ha="left" if x < 0.5 else "right",
        va="bottom" if y < 0.5 else "top",
        zorder=4,
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "boxstyle": "round,pad=0.25"},
    )


def gap_histogram(frame: pl.DataFrame) -> Drawn:
    """The gap by query type, with the balanced and the imbalanced subset filled in and their bounds; the form of the
    gap is that which the subsets were drawn by."""
    gap = used(frame, "subset_gap")
    plain_gap = frame[gap].equals(frame["pmi_gap"])
    label = (
        r"MI($x$, $y_w$) − MI($x$, $y_l$) (nats/token)" if plain_gap else "in the subsets' form (nats/token, scaled)"
    )
    types = by_query_type(frame)
    figure, axes = panels(len(types), 4.3 * max(2, len(types)), 4.0, sharex=True)
    low, high = limits(frame[gap].to_numpy())
    edges = np.linspace(low, high, BINS + 1)
    bounds = []
    for axis, (query_type, part) in zip(axes, types, strict=True):
        axis.stairs(_counts(part[gap], edges), edges, fill=True, color=PALE, label="all pairs")
        for subset, bound in (("balanced", "max"), ("imbalanced", "min")):
            gaps = part.filter(pl.col(subset))[gap] if subset in part.columns else pl.Series()
            if gaps.is_empty():
                continue
            colour = SUBSET_COLOURS[subset]
            edge = float(getattr(gaps.abs(), bound)())
            word = "up to" if bound == "max" else "from"
            axis.stairs(_counts(gaps, edges), edges, fill=True, color=colour, alpha=0.75, label=f"D_{subset}")
            for sign in (-1, 1):
                axis.axvline(sign * edge, color=colour, linewidth=1.2, linestyle=(0, (2, 2)))
            bounds.append(f"{query_type} D_{subset} {word} |gap| {edge:.3f}")
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set(xlabel=f"gap: {label}", xlim=(low, high))
        axis.set_title(f"{query_type} queries\nmean {_mean_said(part[gap])}")
        axis.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.grid(False, axis="x")
    axes[0].set_ylabel("pairs")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    told = "Histograms of the gap of mutual information by query type."
    return Drawn(
        "gap",
        "Gap of mutual information",
        f"{told} Bounds of the subsets: {'; '.join(bounds)}." if bounds else told,
        f"Grey counts all pairs{_OF_SUBSETS if bounds else '.'} The outermost bars hold what lies beyond them. Above: "
        "the mean gap with its 95% interval.",
        figure,
    )


_OF_SUBSETS = (
    ", the colours those in the balanced (near zero) and the imbalanced (far from zero) subset of the training pairs. "
    "Dotted lines stand at the largest |gap| in D_balanced and the smallest in D_imbalanced; they may overlap, since "
    "the subsets are drawn within groups of like pairs (split.match)."
)


def weights(frame: pl.DataFrame, points: int) -> Drawn:
    """How the weights are distributed, and each pair's weights against the gap that they are made of."""
    gap = used(frame, "balance_gap")
    figure, (left, right) = panels(2, 8.6, 4.2)
    columns = list(WEIGHTS)
    low, high = limits(frame.select(pl.concat_list(columns).explode()).to_series().drop_nulls().to_numpy(), 0.0)
    edges = np.linspace(low, high, BINS + 1)
    for name in columns:
        left.stairs(_counts(frame[name], edges), edges, color=WEIGHT_COLOURS[name], linewidth=1.8, label=plain(name))
    left.set(xlabel="weight (no unit)", ylabel="pairs", title="distribution")
    left.grid(False, axis="x")
    left.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    shown = drawn_points(frame, points).sort(gap)
    for name in columns:
        right.scatter(
            shown[gap], shown[name], s=8, alpha=0.5, linewidths=0, color=WEIGHT_COLOURS[name], rasterized=True
        )
        if _is_curve(shown, gap, name):
            right.plot(shown[gap], shown[name], color=WEIGHT_COLOURS[name], linewidth=1)
    right.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    right.set(xlabel="gap d (nats/token)", ylabel="weight (no unit)", title="weight of each pair by its gap")
    right.set_xlim(*limits(frame[gap].to_numpy(), 0.0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    means = ", ".join(f"{plain(name)} {frame[name].mean():.3f}" for name in columns)
    return Drawn(
        "weights",
        "Weights of the loss",
        f"Left: histograms of the weights; means: {means}. Right: the weights of every pair against its gap.",
        "DPO weighs everything with 1 (dashed line). The chosen weight multiplies the chosen response's term of the "
        "loss, the rejected weight the rejected one's, the pair scale the whole pair. Where a weight depends on the "
        "gap alone, its points form a curve.",
        figure,
    )


def _counts(values: pl.Series, edges: np.ndarray) -> np.ndarray:
    inside = np.clip(values.drop_nulls().to_numpy(), edges[0], edges[-1])
    return np.histogram(inside, edges)[0]


def _is_curve(frame: pl.DataFrame, gap: str, name: str) -> bool:
    """Whether the weight never turns back within a sign of the gap, so that it is a function of the gap."""
    halves = (frame.filter(pl.col(gap) <= 0)[name], frame.filter(pl.col(gap) > 0)[name])
    return all(
        bool((half.diff().drop_nulls() <= 1e-9).all() or (half.diff().drop_nulls() >= -1e-9).all()) for half in halves
    )
