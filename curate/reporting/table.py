"""A small table of results, and how its cells are written; the page and `curate show` share it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1; None for one value) of n values."""

    mean: float
    sd: float | None
    n: int


def t_interval(found: Spread) -> tuple[float, float] | None:
    """The 95% interval of the mean (Student's t over the seeds); None below three values, of which it says nothing."""
    if found.sd is None or found.n < 3:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, found.n - 1)) * found.sd / math.sqrt(found.n)
    return found.mean - half, found.mean + half


class Within(NamedTuple):
    """A value and its 95% interval; `unjudged` of the `n` answers that it is of count as the worst value."""

    value: float
    low: float
    high: float
    unjudged: int = 0
    n: int = 0


Cell = str | int | float | bool | Spread | Within | None


class Table(NamedTuple):
    """`rows` hold one cell a column; the first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]

    def records(self) -> list[dict[str, Cell]]:
        """The rows as JSON objects; a number that JSON cannot hold (NaN, infinity) is null."""
        return [
            {name: None if isinstance(cell, float) and not math.isfinite(cell) else cell for name, cell in pairs}
            for pairs in (zip(self.columns, row, strict=True) for row in self.rows)
        ]


def from_frame(title: str, frame: pl.DataFrame) -> Table:
    return Table(title, frame.columns, [list(row) for row in frame.rows()])


def fixed(value: float, form: str = "z.3f") -> str:
    """A number with as many decimals as `form` says: −0.012, and 0.000 where nothing but a sign would be left."""
    return f"{value:{form}}".replace("-", "−")


def written(cell: Cell) -> str:
    """A cell as a person reads it: 12,345; −0.012; 1.2e-05; 0.914 ± 0.003; yes; – where there is nothing."""
    if isinstance(cell, Spread):
        mean = written(cell.mean)
        if cell.sd is None:
            return mean
        if abs(cell.mean) < 0.001 <= cell.sd:
            mean = fixed(cell.mean)
        _, point, decimals = mean.partition(".")
        return f"{mean} ± " + (f"{cell.sd:.{len(decimals)}f}" if point and decimals.isdigit() else written(cell.sd))
    if isinstance(cell, Within):
        value, low, high = map(written if 0 < max(map(abs, cell[:3])) < 0.001 else fixed, cell[:3])
        return f"{value} [{low}, {high}]" + (f" ({cell.unjudged:,} of {cell.n:,} unjudged)" if cell.unjudged else "")
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int | float) and cell < 0:
        return f"−{written(-cell)}"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        if not math.isfinite(cell):
            return str(cell)
        if cell == 0:
            return "0"
        if abs(cell) < 0.001:
            return f"{cell:.1e}"
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3f}" if abs(cell) < 100 else f"{cell:.1f}"
    return cell


def is_number(cell: Cell) -> bool:
    """Whether the cell is set flush right."""
    return cell is None or (isinstance(cell, int | float | Spread | Within) and not isinstance(cell, bool))


def from_json(title: str, value: Mapping[str, Any]) -> list[Table]:
    """A JSON object as tables: its plain values in one, every object in it in one of its own.

    An object whose values are all flat objects becomes one table with a row for each.
    """
    flat = {key: _cell(item) for key, item in value.items() if not isinstance(item, Mapping)}
    tables = [Table(title, ["", "value"], [[key, cell] for key, cell in flat.items()])] if flat else []
    for key, item in value.items():
        if not isinstance(item, Mapping) or not item:
            continue
        name = f"{title}: {key}" if title else key
        if all(isinstance(row, Mapping) and not _has_objects(row) for row in item.values()):
            columns = list(dict.fromkeys(column for row in item.values() for column in row))
            rows = [[row_name, *(_cell(row.get(column)) for column in columns)] for row_name, row in item.items()]
            tables.append(Table(name, ["", *columns], rows))
        else:
            tables += from_json(name, item)
    return tables


def _has_objects(value: Mapping[str, Any]) -> bool:
    return any(isinstance(item, Mapping) for item in value.values())


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(str(item) for item in value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
