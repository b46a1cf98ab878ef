"""`curate show`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.base.progress import safe
from curate.cli.options import print_json
from curate.cli.tables import console, print_table
from curate.project.params import MANY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from curate.reporting.summary import Summary


TEXTS = {"rejects": ("row",), "items": ("prompt", "prefill", "response", "judge_raw")}
"""Columns with texts by kind of file; of the others, the pairs'."""


def show(
    path: Annotated[
        Path,
        typer.Argument(
            help="A Parquet file or JSON summary by curate; a folder: a project, runs, evaluations, a reference, "
            "a published dataset.",
            show_default="the working folder",
        ),
    ] = Path(),
    show_text: Annotated[
        int, typer.Option(min=0, max=MANY, help="Print the texts of this many rows, the first ones.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, without texts.")] = False,
) -> None:
    """Say what a file or folder holds, and what is wrong in it.

    Texts are printed only if asked for.
    """
    from curate.base.errors import UsageError
    from curate.pairs.manifest import is_published
    from curate.reporting.summary import summarise

    if as_json and show_text:
        raise UsageError("--json prints no texts", remedy="leave out --json or --show-text")
    summary = _dataset(path) if is_published(path) else summarise(path)
    if as_json:
        print_json(summary.record())
        return
    _print(summary)
    if show_text and summary.frame is not None:
        _print_texts(summary.frame.head(show_text), TEXTS.get(summary.kind, ("prompt", "chosen", "rejected")))


def _dataset(folder: Path) -> Summary:
    from curate.hub.load import load_folder
    from curate.reporting.summary import of_frame

    loaded = load_folder(folder, "pairs", "scores", "weights")
    return of_frame(folder, loaded.frame, loaded.provenance)


def _print(summary: Summary) -> None:
    from curate.reporting.tables import made_by

    console().print(f"{summary.kind}: {safe(str(summary.path))}")
    provenance = [made_by(summary.provenance)] if summary.provenance else []
    for table in [*summary.tables, *provenance]:
        print_table(table)
    for warning in summary.warnings:
        if not any(warning in line for line in summary.verdict):
            console().print(f"warning: {warning}", soft_wrap=True)
    if summary.faults is not None:
        console().print("faults:" if summary.faults else "no faults found")
        for fault in summary.faults:
            console().print(f"  {fault}", soft_wrap=True)
    for line in summary.verdict:
        console().print(line, soft_wrap=True)


def _print_texts(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    """Texts and conversations; what is null is left out."""
    for number, row in enumerate(frame.iter_rows(named=True)):
        typer.echo(f"\nrow {number}")
        for name in columns:
            text = row[name]
            for turn in [{"role": "", "content": text}] if text and isinstance(text, str) else text or []:
                role = f" [{safe(turn['role'])}]" if turn["role"] else ""
                typer.echo(f"  {name}{role}\n    " + safe(turn["content"] or "").replace("\n", "\n    "))
