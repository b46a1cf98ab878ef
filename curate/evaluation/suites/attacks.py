"""What attacks have in common: behaviours to attack with, and files of texts that a request is dressed in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from curate.base import limits
from curate.base.errors import InputError
from curate.evaluation.items import Item
from curate.evaluation.suites.base import Columns, Row, make_item, text_of, user
from curate.evaluation.suites.behaviours import GOAL, TARGET
from curate.pairs.identity import draw_order, prompt_key
from curate.pairs.sources.base import kind, named
from curate.pairs.sources.files import read_file
from curate.pairs.sources.text import sound_rows

BEHAVIOUR: Columns = {"goal": GOAL}
WITH_TARGET: Columns = {"goal": GOAL, "target": TARGET}


class Text(NamedTuple):
    """A suffix or a template."""

    row: int  # or line, from 0
    name: str | None  # None: the file has none
    text: str


def behaviours(rows: Sequence[Row], suite: str) -> list[Item]:
    """The plain request of each row, with its target where the suite reads one.

    Raises:
        InputError: a row without a goal, or without the target that it should have.
    """
    items = []
    for number, row in enumerate(rows):
        target = text_of(row, "target", number, suite) if "target" in row else ""
        items.append(make_item(user(text_of(row, "goal", number, suite)), target=target))
    return items


def dressed(goal: str, attack: str, group: str = "") -> Item:
    """An item that asks `attack` and is judged, and counted, as `goal`."""
    return make_item(user(attack), group=group, question=goal, cluster=prompt_key(user(goal)))


def draw(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` of the different items (0: all), the same whatever their order, each as often and where it stands."""
    ids = list({item.item for item in items})
    order = dict(zip(ids, draw_order(ids, seed), strict=True))
    kept = set(sorted(ids, key=order.__getitem__)[: count or None])
    return [item for item in items if item.item in kept]


def read_texts(path: str, what: str, columns: Sequence[str], names: Sequence[str] = ()) -> list[Text]:
    """The texts of a file: of a .txt one a line, of others (JSON, JSON lines, CSV, Parquet) one a row. Of equal texts
    the first is there.

    Args:
        what: as errors call a text: "suffix".
        columns: accepted spellings of the text's column.
        names: and of its name's, which need not be there.

    Raises:
        InputError: the file cannot be read, a row has no text, or there is none at all.
    """
    if Path(path).suffix.lower() == ".txt":
        try:
            # Only line ends end a line: a suffix may hold what str.splitlines takes for one.
            lines = limits.read_bytes(path).decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise InputError("cannot read the file", file=path, found=error, expected="UTF-8 text") from error
        found = [Text(number, None, line.removesuffix("\r")) for number, line in enumerate(lines) if line.strip()]
    else:
        rows = sound_rows(read_file(path), path)
        found = [_of_row(row, number, path, what, columns, names) for number, row in enumerate(rows)]
    if not found:
        raise InputError(f"there is no {what} in the file", file=path, expected=f"a {what} a line")
    first: dict[str, Text] = {}
    for one in found:
        first.setdefault(one.text, one)
    return list(first.values())


def _of_row(row: object, number: int, path: str, what: str, columns: Sequence[str], names: Sequence[str]) -> Text:
    fields = row if isinstance(row, dict) else {columns[0]: row}
    text = next((fields[column] for column in columns if column in fields), None)
    if not (isinstance(text, str) and text.strip()):
        raise InputError(
            f"a row has no {what}",
            file=path,
            row=number,
            field=columns[0],
            found=named(fields) if text is None else "an empty text" if text == "" else kind(text),
            expected=f"a text in the column {' or '.join(columns)}",
        )
    name = next((fields[column] for column in names if fields.get(column) not in (None, "")), None)
    return Text(number, None if name is None else str(name), text)
