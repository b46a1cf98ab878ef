"""`curate show`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.tables import console, print_table, safe

if TYPE_CHECKING:
    import polars as pl

    from curate.reporting.summary import Summary


def show(
    path: Annotated[Path, typer.Argument(help="A Parquet file or JSON summary of ours, a run or reference folder.")],
    show_text: Annotated[int, typer.Option(min=0, help="Print the texts of the first so many rows.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, without texts.")] = False,
) -> None:
    """Say what a file or folder holds, and what is wrong in it; texts only if asked for."""
    from curate.errors import UsageError
    from curate.reporting.summary import summarise

    if as_json and show_text:
        raise UsageError("--json prints no texts", remedy="leave out --json or --show-text")
    summary = summarise(path)
    if as_json:
        typer.echo(json.dumps(summary.record(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    _print(summary)
    if show_text and summary.frame is not None:
        _print_texts(summary.frame.head(show_text), "row" if summary.kind == "rejects" else None)


def _print(summary: Summary) -> None:
    from curate.reporting.table import flattened

    console().print(f"{summary.kind}: {safe(str(summary.path))}")
    provenance = [flattened("Made by", summary.provenance)] if summary.provenance else []
    for table in [*summary.tables, *provenance]:
        print_table(table)
    if summary.faults is not None:
        console().print("faults:" if summary.faults else "no faults found")
        for fault in summary.faults:
            console().print(f"  {fault}", soft_wrap=True)


def _print_texts(frame: pl.DataFrame, column: str | None) -> None:
    """The conversations of pairs, or the one text `column`."""
    for number, row in enumerate(frame.iter_rows(named=True)):
        typer.echo(f"\nrow {number}")
        if column:
            typer.echo(f"  {safe(row[column])}")
            continue
        for name in ("prompt", "chosen", "rejected"):
            for turn in row[name]:
                typer.echo(
                    f"  {name} [{safe(turn['role'] or '')}]\n    " + safe(turn["content"] or "").replace("\n", "\n    ")
                )
