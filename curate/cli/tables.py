"""Tables on a terminal, as wide as it is; elsewhere as wide as COLUMNS says, or 100."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.base.progress import safe

if TYPE_CHECKING:
    from rich.console import Console

    from curate.reporting.table import Cell, Table

ELSEWHERE = 100  # characters
BESIDE, EDGE = 3, 1  # spaces of a column's own; of the table's
LEAST_TEXT = 24
"""Characters of a text's column: a longer text folds where that spares a second table."""


def console() -> Console:
    import os

    from rich.console import Console

    made = Console(highlight=False, markup=False, emoji=False)
    if made.is_terminal:
        return made
    given = os.environ.get("COLUMNS", "")
    return Console(highlight=False, markup=False, emoji=False, width=int(given) if given.isdigit() else ELSEWHERE)


def print_table(table: Table) -> None:
    """Print it; columns of numbers flush right. What is too wide goes into further tables with the same first column.

    A heading folds between its words, a text where it must, a number never.
    """
    from rich import box
    from rich import table as rich
    from rich.text import Text

    from curate.reporting.table import written

    screen = console()
    for part in parts(table, screen.width):
        if part.title:  # (a table's own would fold to its width)
            screen.print(Text(safe(part.title), style="bold"))
        drawn = rich.Table(box=box.SIMPLE_HEAD)
        columns = [[row[place] for row in part.rows] for place in range(len(part.columns))]
        whole = EDGE + sum(
            max(len(safe(text)) for text in (name, *map(written, cells))) + BESIDE
            for name, cells in zip(part.columns, columns, strict=True)
        )
        for place, (name, cells) in enumerate(zip(part.columns, columns, strict=True)):
            numbers = _numbers(place, cells)
            drawn.add_column(
                Text(safe(name)),
                justify="right" if numbers else "left",
                overflow="fold",
                width=_least(name, cells) if numbers and whole > screen.width else None,
            )
        for row in part.rows:
            drawn.add_row(*(Text(safe(written(cell))) for cell in row))
        screen.print(drawn)


def parts(table: Table, width: int) -> list[Table]:
    """The table, cut between its columns so that each part fits so many characters; the first column is in each."""
    least = [_least(name, [row[place] for row in table.rows], place) for place, name in enumerate(table.columns)]
    cuts: list[list[int]] = [[]]
    for place, wide in enumerate(least[1:], 1):
        taken = EDGE + sum(least[at] + BESIDE for at in (0, *cuts[-1]))
        if cuts[-1] and taken + wide + BESIDE > width:
            cuts.append([])
        cuts[-1].append(place)
    if len(cuts) == 1:
        return [table]
    return [
        table._replace(
            title=table.title if cut is cuts[0] else f"{table.title}, continued".removeprefix(", "),
            columns=[table.columns[place] for place in (0, *cut)],
            rows=[[row[place] for place in (0, *cut)] for row in table.rows],
        )
        for cut in cuts
    ]


def _numbers(place: int, cells: list[Cell]) -> bool:
    from curate.reporting.table import is_number

    return place > 0 and all(is_number(cell) for cell in cells)


def _least(name: str, cells: list[Cell], place: int = 1) -> int:
    """The fewest characters that the column takes, its heading's words and its numbers unbroken."""
    from curate.reporting.table import written

    words = max(map(len, name.split()), default=0)
    longest = max((len(safe(written(cell))) for cell in cells), default=0)
    return max(words, longest if _numbers(place, cells) else min(longest, LEAST_TEXT))
