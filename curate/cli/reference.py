"""`curate reference`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.base.progress import quoted
from curate.cli.options import Out, with_params
from curate.project.params import LARGEST_SEED, CleaningParams, DataParams, ReferenceParams

_DATA = DataParams()


@with_params(ReferenceParams, skip=("watch",))
def reference(
    params: ReferenceParams,
    out: Out = Path("reference"),
    sample_pairs: Annotated[
        int, typer.Option(help="Pairs that `sample` makes.", min=1, max=10**6)
    ] = _DATA.sample_pairs,
    heldout_fraction: Annotated[
        float, typer.Option(help="Of the prompts of preference files, not read: as given to `curate prepare`.")
    ] = _DATA.heldout_fraction,
    heldout_seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of the held-out draw: the --seed given to `curate prepare`.")
    ] = _DATA.seed,
) -> None:
    """Train a small model from scratch, to try things with.

    OUT gets a tokenizer and a Qwen2. Give --texts once for each text. Of preference files it reads the training pairs
    only, so that held-out pairs stay unseen.
    """
    from curate.base import files
    from curate.base.progress import say
    from curate.cli.options import say_next
    from curate.models.resolve import REFERENCE
    from curate.models.scratch.pretrain import train_reference
    from curate.models.scratch.texts import Kind, kind
    from curate.project.params import check

    files.check_replaceable(out, REFERENCE)
    source = next((name for name in params.texts if kind(name) == Kind.PREFERENCES), "sample")
    data = check(
        DataParams,
        {"source": source, "sample_pairs": sample_pairs, "heldout_fraction": heldout_fraction, "seed": heldout_seed},
    )
    summary = train_reference(params, data, CleaningParams(), out)
    say(f"reference: {summary['parameters']:,} parameters, {summary['vocab_size']:,} tokens of vocabulary -> {out}")
    say_next(f"curate score pairs.parquet --model {quoted(out)}")
