"""`curate split`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.base.progress import quoted
from curate.cli.options import Out, with_params
from curate.project.params import SplitParams


@with_params(SplitParams)
def split(
    scores: Annotated[Path, typer.Argument(help="What `curate score` wrote.")],
    params: SplitParams,
    out: Out = Path("splits.parquet"),
) -> None:
    """Mark three subsets of the training pairs by their MI gap.

    They are balanced (small gaps), imbalanced (large gaps) and random, of one size and matched in length.
    """
    from curate.base import files
    from curate.base.progress import say
    from curate.cli.options import check_out, say_next
    from curate.pairs.artefact import read_with_provenance
    from curate.selection import measure, subsets

    check_out(out, scores)
    scored, before = read_with_provenance(scores, "pairs", "scores")
    frame = subsets.split(scored, params)
    files.write_parquet(frame, out, subsets.provenance(params, before))
    summary = subsets.summarise(frame, params)
    for warning in measure.warnings(before, summary, " ".join(f"--match {name}" for name in subsets.wider(params))):
        say(f"split: warning: {warning}")
    sizes = {name: subset["pairs"] for name, subset in summary["subsets"].items()}
    say(f"split: {', '.join(f'{name} {count:,}' for name, count in sizes.items())} -> {out}")
    say_next(f"curate weigh {quoted(out)}")
