"""`curate report`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    weights: Annotated[Path, typer.Option(help="What `curate weigh` wrote from splits.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html, figures/, plots/ and metrics.json.")] = Path(
        "report"
    ),
    runs: Annotated[Path | None, typer.Option(help="Folder of runs: ARM/seed-SEED, or of `curate train`.")] = None,
    evaluations: Annotated[
        Path | None, typer.Option(help="Folder of evaluations: ARM/seed-SEED, or of `curate evaluate`.")
    ] = None,
    prepare: Annotated[
        Path | None, typer.Option(help="pairs.prepare.json, which `curate prepare` writes: what was refused.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="reference.json, which `curate reference` writes into its folder.")
    ] = None,
    score: Annotated[Path | None, typer.Option(help="score.json, which a project's stage score writes.")] = None,
    weigh: Annotated[Path | None, typer.Option(help="weigh.json, which a project's stage weigh writes.")] = None,
    params: Annotated[Path | None, typer.Option(help="The params.yaml that made it all; shown on the page.")] = None,
    title: Annotated[
        str | None, typer.Option(help="Of the page [default: that of PARAMS, or by where the pairs came from].")
    ] = None,
) -> None:
    """Write the report, one self-contained page, and its figures.

    A section whose input is not given says so.
    """
    from curate.base.errors import UsageError
    from curate.base.progress import say
    from curate.cli.options import check_spared, with_keys
    from curate.project import params as parameters

    try:
        from curate.reporting import made
        from curate.reporting.inputs import read_material
        from curate.reporting.write import write_report
    except ModuleNotFoundError as error:
        raise UsageError(
            "the report needs packages that are not installed",
            found=f"no {error.name}",
            remedy="pip install 'curate-preferences[report]'",
        ) from error

    check_spared(out / "index.html", _is_ours)
    check_spared(out / "metrics.json", with_keys("pairs", "arms"))
    given = {"prepare": prepare, "reference": reference, "score": score, "weigh": weigh}
    documents = {name: path for name, path in given.items() if path is not None}
    material = read_material(weights, documents, runs, evaluations=evaluations)
    metrics = write_report(material, out, parameters.load(params) if params else None, made.now(), title)
    arms = metrics["arms"]
    trained = sum(arm["seeds"] for arm in arms.values())
    counts = [f"{count:,} {what}{'s' * (count != 1)}" for count, what in ((len(arms), "arm"), (trained, "run"))]
    say(f"report: {metrics['pairs']:,} pairs, {', '.join(counts)} -> {out / 'index.html'}")


def _is_ours(page: Path) -> bool:
    """Whether the page says, at its end, that it is a report's."""
    return b"<code>curate report</code>" in page.read_bytes()
