"""`curate store`: what the score store holds; `merge` and `prune`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.options import print_json
from curate.cli.tables import console, print_table
from curate.project.params import MANY

if TYPE_CHECKING:
    from curate.scoring.store import Held

DAY = 86_400.0  # seconds

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of the score store [default: .curate/scores in the working folder]."),
]

app = typer.Typer(name="store", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def show(
    context: typer.Context,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show which log-probabilities are kept. A row a model, dtype and engine."""
    if context.invoked_subcommand is not None:
        context.obj = store
        return
    held = _holdings(store)
    if as_json:
        print_json([_record(one) for one in held])
        return
    _print(held)


@app.command()
def merge(context: typer.Context, store: StoreOption = None) -> None:
    """Merge small shards into large ones. Scoring does so as it goes on; others may score meanwhile."""
    from curate.base.progress import say
    from curate.scoring.store import Shards

    for one in _holdings(store or context.obj):
        gone = Shards(one.folder).merge(everything=True)
        say(f"{one.folder.name}: {one.shards} shards -> {one.shards - gone}")


@app.command()
def prune(
    context: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Delete these (see `curate store`).", show_default=False)
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, max=MANY, help="Delete those to which nothing was added for this many days.")
    ] = None,
    damaged: Annotated[
        bool, typer.Option(help="Delete damaged shards, and files that are no shards, of the others.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    store: StoreOption = None,
) -> None:
    """Delete scores that are not needed any more. They can be had again only by scoring again."""
    from curate.base.errors import UsageError
    from curate.base.progress import say

    if not ids and older_than is None and not damaged:
        raise UsageError(
            "say what to delete", expected="ids, --older-than DAYS or --damaged", remedy="see `curate store`"
        )
    held = _holdings(store or context.obj)
    unknown = set(ids or ()) - {one.folder.name for one in held}
    if unknown:
        raise UsageError(
            "no such entry of the score store",
            found=", ".join(sorted(unknown)),
            expected=", ".join(one.folder.name for one in held) or "none: the store is empty",
        )
    now = time.time()
    going = [
        one
        for one in held
        if one.folder.name in (ids or ()) or (older_than is not None and now - one.last_written > older_than * DAY)
    ]
    strangers = [path for one in held if one not in going for path in one.strangers] if damaged else []
    verb = "deleted" if yes else "would delete"
    for one in going:
        if yes:
            shutil.rmtree(one.folder)
        say(f"{verb} {one.folder.name}: {_name(one)}, {one.rows:,} log-probs, {_size(one.bytes)}")
    for path in strangers:
        size = path.stat().st_size
        if yes:
            path.unlink()
        say(f"{verb} {path}: {_size(size)}")
    if not going and not strangers:
        say("nothing to delete")
    elif not yes:
        say("nothing was deleted; --yes does it")


def _holdings(store: Path | None) -> list[Held]:
    from curate.base import files
    from curate.scoring.store import holdings

    return holdings(store or files.state_folder() / "scores")


def _record(one: Held) -> dict[str, object]:
    return {
        "id": one.folder.name,
        **one.label,
        "log_probs": one.rows,
        "shards": one.shards,
        "bytes": one.bytes,
        "last_written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.last_written)),
        "strangers": [str(path) for path in one.strangers],
    }


def _name(one: Held) -> str:
    name, commit = one.label.get("name", "(unreadable scope.json)"), one.label.get("commit")
    return f"{name}@{commit[:8]}" if commit else f"{name} ({str(one.label.get('model', '?'))[:8]})"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _print(held: list[Held]) -> None:
    from curate.base.progress import safe
    from curate.reporting.table import Cell, Table

    rows: list[list[Cell]] = []
    for one in held:
        dtype, engine = (str(one.label.get(name, "?")) for name in ("dtype", "engine"))
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.last_written))
        rows.append([one.folder.name, _name(one), dtype, engine, one.rows, one.shards, _size(one.bytes), written])
    columns = ["id", "model", "dtype", "engine", "log-probs", "shards", "size", "last written"]
    print_table(Table("", columns, rows))
    screen = console()
    total = sum(one.rows for one in held)
    screen.print(f"{total:,} log-probs, {_size(sum(one.bytes for one in held))}", soft_wrap=True)
    for one in held:
        for path in one.strangers:
            screen.print(f"no whole shard, ignored: {safe(str(path))}", soft_wrap=True)
