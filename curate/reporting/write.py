"""From files to the report folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from curate.base.errors import InputError
from curate.base.files import replacing, write_json
from curate.evaluation import compare
from curate.project.params import Params, ReportParams, without_credentials
from curate.reporting import canvas, curves, figures, page, paired, plots
from curate.reporting.arms import Arm, arms_of, comparable, evaluated, pairs_said
from curate.reporting.evaluations import Shown, metrics_of, shown
from curate.reporting.experiments import experiments
from curate.reporting.figures import Drawn
from curate.reporting.forest import forests
from curate.reporting.glance import glance
from curate.reporting.inputs import Material
from curate.reporting.made import Made


def write_report(
    material: Material, out: Path, params: Params | None, made: Made | None = None, title: str | None = None
) -> dict[str, Any]:
    """Write index.html, figures/, plots/, metrics/ and metrics.json into `out`; index.html comes last.

    Args:
        made: date and run time, which stand in index.html alone; without them its bytes too are the input's alone.
        title: of the page, in place of that of the params.

    Returns:
        What metrics.json holds.

    Raises:
        InputError: no pair, or none with a finite MI.
        OutputError: a file cannot be written; what stood there before still does.
    """
    if figures.finite(material.frame).is_empty():
        raise InputError("no pair to report on", found=f"{material.frame.height} pairs, none with a finite pmi_gap")
    params = without_credentials(params) if params else None
    wanted = params.report if params else ReportParams.model_validate({})
    points = wanted.scatter_points
    arms = arms_of(material, params)
    counts = evaluated(arms)
    tested = compare.arms(material.evaluations, params.train.arms if params else ())
    compared = compare.compare(tested, wanted.compare_with)
    metrics = plots.metrics(material, arms) | metrics_of(tested, compared)
    evaluation: Shown | None = shown(tested, compared) if tested else None
    with ExitStack() as stack:
        # Each is renamed when the stack closes, the first last. DVC keeps a .gitignore in the folder itself.
        index = stack.enter_context(replacing(out / "index.html"))
        plots_folder = stack.enter_context(replacing(out / "plots", plots.PLOTS))
        figures_folder = stack.enter_context(replacing(out / "figures", plots.FIGURES))
        metrics_folder = stack.enter_context(replacing(out / "metrics", plots.METRICS))
        metrics_folder.mkdir()
        plots.write_metrics(metrics, metrics_folder)
        plots_folder.mkdir()
        figures_folder.mkdir()
        plots.write_plots(material, arms, plots_folder, points)
        plots.write_evaluations(tested, plots_folder)
        with canvas.style():
            drawn = [*draw(material, arms, points), *forests(tested)]
            for figure in drawn:
                canvas.save(figure.figure, figures_folder, figure.name)
        beside = paired.table(paired.of(material.runs, material.frame), wanted.compare_with)
        results = page.Results(arms, counts, drawn, figures_folder, compared, evaluation, beside)
        index.write_text(page.render(material, results, params, made, title), encoding="utf-8")
        write_json(metrics, out / "metrics.json")
    return metrics


def draw(material: Material, arms: Sequence[Arm], points: int) -> list[Drawn]:
    """Every figure: about the pairs, about training, and the paper's experiments whose arms are there.

    Args:
        points: drawn in the scatters.
    """
    scored = figures.finite(material.frame)
    drawn = [
        glance(scored, arms),
        figures.scatter(scored, points),
        figures.gap_histogram(scored),
        figures.weights(scored, points),
    ]
    if not arms:
        return drawn
    training = [curves.margins(arms), curves.accuracies(arms), curves.rewards(arms), curves.divergence(arms)]
    return [*drawn, *(figure for figure in training if figure), *experiments(arms, pairs_said(comparable(arms)))]
