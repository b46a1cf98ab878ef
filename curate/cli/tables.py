"""Tables on a terminal, or in a file, which has no edge."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from curate.base.progress import safe

if TYPE_CHECKING:
    from rich.console import Console

    from curate.reporting.table import Table


@cache
def console() -> Console:
    from rich.console import Console

    made = Console(highlight=False, markup=False, emoji=False)
    return made if made.is_terminal else Console(highlight=False, markup=False, emoji=False, width=200)


def print_table(table: Table) -> None:
    """Print it; columns of numbers flush right."""
    from rich import box
    from rich import table as rich
    from rich.text import Text

    from curate.reporting.table import is_number, written

    drawn = rich.Table(
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
    console().print(drawn)
