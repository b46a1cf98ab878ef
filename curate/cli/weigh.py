"""`curate weigh`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.base.progress import quoted
from curate.cli.options import Out, with_params
from curate.project.params import WeighParams


@with_params(WeighParams)
def weigh(
    splits: Annotated[Path, typer.Argument(help="What `curate split` or `curate score` wrote.")],
    params: WeighParams,
    out: Out = Path("weights.parquet"),
) -> None:
    """Give both responses of every pair their weight in the loss.

    The columns are chosen_weight, rejected_weight and pair_scale.
    """
    from curate.base import files
    from curate.base.progress import say
    from curate.cli import inputs
    from curate.cli.options import check_out, say_next
    from curate.pairs.artefact import read_with_provenance
    from curate.selection import measure, weights

    check_out(out, splits)
    files.existing(splits, "make it first with `curate split`")
    scores, before = read_with_provenance(splits, "pairs", "scores")
    params = weights.settled(params, before)
    frame = weights.weigh(scores, params, measure.forms(before))
    files.write_parquet(frame, out, weights.provenance(params, before))
    summary = weights.summarise(frame, params)
    for warning in measure.warnings(before, summary):
        say(f"weigh: warning: {warning}")
    say(
        f"weigh: {frame.height:,} pairs, chosen pushed less in {summary['chosen_pushed_less']:.1%}, "
        f"mean chosen_weight {summary['chosen_weight']['mean']:.3f} -> {out}"
    )
    say_next(f"curate train {quoted(out)} --model {quoted(inputs.model_option(before))} --arm bdpo")
