"""A figure's SVG file as an element of the page: ids of its own, no style that the page's policy forbids, and
colours that follow the screen's light or dark scheme."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup, escape

from curate.reporting.canvas import THEME
from curate.reporting.figures import Drawn

PIXELS = 104
"""An inch of a figure on the page, unless the screen is narrower."""
_COLOURS = {colour.lower(): f"var(--{name})" for colour, name in THEME.items()}


def inline(path: Path, figure: Drawn) -> Markup:
    """An SVG file as an element: no prologue, scaled by its view box, named by the figure's `alt`.

    What it styles becomes attributes, for the page's policy allows no style but the page's own. A colour of THEME
    becomes the page's variable; pictures inside (dense scatters) keep their colours.
    """
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' style="([^"]*)"', lambda found: _as_attributes(found[1]), svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{figure.name}-", svg)
    attributes = f' role="img" aria-label="{escape(figure.alt)}"'
    opening = re.sub(r' (height|version)="[^"]*"', "", svg[: svg.index(">")]) + attributes
    opening = re.sub(r' width="([\d.]+)pt"', lambda points: f' width="{float(points[1]) / 72 * PIXELS:.0f}"', opening)
    return Markup(opening + svg[svg.index(">") :])  # our own file, made by matplotlib


def _as_attributes(style: str) -> str:
    """Declarations as attributes."""
    made = []
    for part in style.split(";"):
        name, _, value = (piece.strip() for piece in part.partition(":"))
        if name:
            made.append(f' {name}="{_COLOURS.get(value.lower(), value)}"')
    return "".join(made)
