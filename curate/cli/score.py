"""`curate score`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.base.progress import quoted
from curate.cli.options import Out, with_params
from curate.project.params import MANY, ScoreParams


@with_params(ScoreParams)
def score(
    pairs: Annotated[
        Path, typer.Argument(help="What `curate prepare` wrote, a file that it reads, or a published dataset's folder.")
    ],
    model: Annotated[str, typer.Option(help="A model's folder or Hub id; the reference model.")],
    params: ScoreParams,
    out: Out = Path("scores.parquet"),
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the score store [default: .curate/scores in the working folder].")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, max=MANY, help="Score only the first pairs, this many, for a try (0: all).")
    ] = 0,
) -> None:
    """Measure how well a model comprehends each pair's responses.

    It computes their log-probabilities after the prompt and after an empty one, and from these the mutual information
    (MI). What the score store holds is not computed again, so an interrupted run goes on where it stopped. Pairs set
    aside go to OUT with the suffix .rejects.parquet.
    """
    from curate.base import files
    from curate.base.progress import say
    from curate.cli import inputs
    from curate.cli.options import check_beside, check_out, rejects_path, say_next
    from curate.models.resolve import resolve_given
    from curate.scoring.runners import runner
    from curate.scoring.score import score_file

    check_out(out, pairs)
    check_beside(rejects_path(out), pairs)
    with inputs.pairs(pairs, limit) as found, inputs.with_rejects(out, "score") as (new, keep):
        resolved = resolve_given(model, revision, trust_remote_code=trust_remote_code)
        folder = store or files.state_folder() / "scores"
        result = score_file(found.file, resolved, params, folder, new, runner(params.engine))
        rejects = keep(result.provenance, found.rejects, result.rejects)
    say(f"score: {result.summary['pairs']:,} pairs -> {out}" + (f"; set aside -> {rejects}" if rejects else ""))
    say_next(f"curate split {quoted(out)}")
