"""`curate check`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.options import print_json
from curate.project.params import Dtype


def check(
    model: Annotated[
        str | None, typer.Argument(help="A model's folder or Hub id; without one, the machine and what is installed.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Pairs to render and score, the first 64; else six plain ones of our own.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
    dtype: Annotated[Dtype, typer.Option(help="Of the weights and activations, as `curate score` has it.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Say whether a model can be used, how fast, and what to fix.

    It looks at the chat template, where a response begins and ends in token ids, batching, and the numbers themselves.
    Exit code 1 where the model cannot be used. Add the output to a report of a fault: it holds no text of any pair.
    """
    import polars as pl

    from curate.base import machine
    from curate.base.progress import safe, say
    from curate.cli import inputs

    frame = None
    if pairs is not None:
        with inputs.pairs(pairs) as found:
            frame = pl.read_parquet(found.file, n_rows=64)
    facts = list(machine.facts())
    if not as_json:
        _print(facts)
    if model is not None:
        from curate.scoring import check as checks

        for fact in checks.check(model, revision, dtype, frame, trust_remote_code=trust_remote_code):
            facts.append(fact)
            if not as_json:
                _print([fact])
    faults = [fact.fault for fact in facts if fact.fault is not None]
    if as_json:
        told = {fact.name: fact.text if fact.value is ... else fact.value for fact in facts}
        told |= {"usable": model and not faults, "faults": [safe(str(fault)) for fault in faults]}
        print_json(told)
    elif model is not None:
        typer.echo(f"{'verdict':<13}{'cannot be used as it is' if faults else 'can be used'}")
    if faults:
        for fault in faults if not as_json else ():
            say(f"curate: {fault}")
        raise typer.Exit(1)


def _print(facts: list) -> None:
    from curate.base.progress import safe

    for fact in facts:
        typer.echo(safe(f"{fact.name:<13}{fact.text}"))
