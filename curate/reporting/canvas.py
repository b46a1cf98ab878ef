"""How every figure looks and is written: one style, a palette for all eyes, the same bytes every time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, told apart by people of every colour vision."""
QUERY_COLOURS = {"safe": PALETTE[0], "unsafe": PALETTE[1], "unknown": "#777777"}
QUERY_MARKS = {"safe": "o", "unsafe": "s", "unknown": "^"}
SUBSET_COLOURS = {"balanced": PALETTE[0], "imbalanced": PALETTE[4]}
INK = "#1b1f24"
PALE = "#c8cdd3"
EDGE = "#8a9099"
GRID = "#e6e8eb"
PAPER = "#ffffff"
BASE_COLOUR = "#777777"
"""Of the model before training, beside trained arms."""
THEME = {INK: "ink", PALE: "pale", EDGE: "soft", GRID: "line", PAPER: "paper", BASE_COLOUR: "unknown"} | {
    colour: f"series-{place}" for place, colour in enumerate(PALETTE)
}
"""Colour of the figures -> the page's name for it (web/page.css), whose value differs on a dark screen."""

_STYLE = {
    "font.family": "DejaVu Sans",  # matplotlib brings it along
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "curate",
    "svg.fonttype": "path",
    "path.simplify": True,
}


def style() -> AbstractContextManager[None]:
    """Figures must be made and saved inside it."""
    context: AbstractContextManager[None] = matplotlib.rc_context(_STYLE)
    return context


def panels(
    columns: int, width: float, height: float, *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with `columns` panels side by side; `width` and `height` in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False, sharex=sharex, sharey=sharey)[0])
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(5))  # of more, long numbers run into each other
    return figure, axes


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write NAME.svg and NAME.png, without dates or versions in them."""
    layout = figure.get_layout_engine()
    if layout is not None:  # once: with a layout to come matplotlib draws all twice for each file
        layout.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(folder / f"{name}.svg", format="svg", dpi=200, metadata={"Date": None, "Creator": None})
    figure.savefig(folder / f"{name}.png", format="png", dpi=150, metadata={"Software": None})


def limits(values: np.ndarray, outside: float = 0.002) -> tuple[float, float]:
    """A range that leaves out at most the fraction `outside` at either end, with a margin; never empty."""
    if values.size == 0:
        return (-1.0, 1.0)
    low, high = np.quantile(values, [outside, 1 - outside])
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
