"""`curate show`"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

    from curate.reporting.summary import Summary

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that could steer a terminal."""


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
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from curate.reporting.table import flattened, is_number, written

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=200)  # a file has no edge
    console.print(f"{summary.kind}: {safe(str(summary.path))}")
    provenance = [flattened("Made by", summary.provenance)] if summary.provenance else []
    for table in [*summary.tables, *provenance]:
        drawn = Table(
            title=Text(safe(table.title)) if table.title else None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
        )
        for position, name in enumerate(table.columns):
            numbers = position > 0 and all(is_number(row[position]) for row in table.rows)
            drawn.add_column(Text(safe(name)), justify="right" if numbers else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(safe(written(cell))) for cell in row))
        console.print(drawn)
    if summary.faults is not None:
        console.print("faults:" if summary.faults else "no faults found")
        for fault in summary.faults:
            console.print(f"  {fault}", soft_wrap=True)


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


def safe(text: str) -> str:
    """`text` with control characters written out, so that it cannot steer the terminal."""
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
