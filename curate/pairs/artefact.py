"""How a file of pairs is read: the Parquet file that a stage wrote, with the columns that the next one needs, whose
values are looked at before anything is done with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import polars as pl

from curate.base import limits
from curate.base.errors import InputError, first_line
from curate.base.files import existing, read_provenance
from curate.base.progress import say
from curate.pairs.identity import OF_OTHER_TEXTS
from curate.pairs.schema import LARGEST, MADE_BY, MESSAGES, OPTIONAL, PARQUET, RAW, STAGES, check_columns

NULLABLE = {"chosen_safe", "rejected_safe", "source", "source_format", "source_row", *OPTIONAL}
"""Columns of the pairs that say nothing on some rows."""
Answer = TypeVar("Answer")
HIGHEST_LOGP = 1e-3  # nats: a log-probability is at most 0, but for rounding


def read_artefact(path: str | Path, *stages: str) -> pl.DataFrame:
    """A Parquet file of ours with the columns of every stage named (see `curate.pairs.schema.STAGES`).

    Raises:
        InputError: missing, not Parquet, without the columns, or with values that these stages do not write.
    """
    with _reading(path):
        frame = _scan(path, *stages).collect()
        check_values(frame, *stages, file=path)
        if "pairs" in stages:
            tell_of_other_texts(frame, path)
    return frame


def read_with_provenance(path: str | Path, *stages: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """`read_artefact`, and what that very file says of how it was made (`files.read_provenance`).

    Raises:
        InputError: as there; or the file was replaced meanwhile.
    """
    return read_with(read_provenance, path, *stages)


def read_with(ask: Callable[[str | Path], Answer], path: str | Path, *stages: str) -> tuple[pl.DataFrame, Answer]:
    """`read_artefact`, and what `ask` finds of that very file. Raises as `read_with_provenance`."""
    check = unchanged(path)
    frame, answer = read_artefact(path, *stages), ask(path)
    check()
    return frame, answer


def unchanged(path: str | Path, error: Callable[[Path], InputError] | None = None) -> Callable[[], None]:
    """What raises `error`, or an `InputError` of its own, from the moment on that another file, or other bytes, are at
    the path."""
    path = Path(path)

    def found() -> tuple[int, ...] | None:
        try:
            told = path.stat()
        except OSError:
            return None
        return told.st_ino, told.st_size, told.st_mtime_ns

    before = found()

    def check() -> None:
        if found() != before:
            raise (error or _replaced)(path)

    return check


def _replaced(path: Path) -> InputError:
    return InputError(
        "the file was replaced while it was read",
        file=path,
        remedy="run the same command again when nothing writes to it",
    )


def scan_artefact(path: str | Path, *stages: str) -> pl.LazyFrame:
    """`read_artefact`, not yet read; its values are checked in one pass that holds little in memory."""
    with _reading(path):
        frame = _scan(path, *stages)
        check_values(frame, *stages, file=path)
    return frame


def _scan(path: str | Path, *stages: str) -> pl.LazyFrame:
    path = existing(path, f"make it first with `curate {MADE_BY[stages[-1]]}`" if stages else "check the path")
    if path.is_dir():
        raise InputError("this is a folder, not a Parquet file", file=path)
    size = limits.check_regular(path, any_size=True)
    _check_made(path)
    frame = pl.scan_parquet(path, glob=False)
    check_columns(frame, *stages, file=path)
    limits.check_rows(frame.select(pl.len()).collect().item(), path, size)
    return frame


def _check_made(path: Path) -> None:
    """Refuse data that no step has read yet: neither named nor made as a Parquet file."""
    if path.suffix == ".parquet":
        return
    with path.open("rb") as file:
        if file.read(len(PARQUET)) == PARQUET:
            return
    raise InputError(
        "this is not a file that an earlier step wrote",
        file=path,
        found=f"a file {path.suffix}" if path.suffix else "no Parquet file",
        expected="a Parquet file of ours",
        remedy=RAW,
    )


def tell_of_other_texts(frame: pl.DataFrame | pl.LazyFrame, file: str | Path) -> None:
    """Warn where texts are not those that pair_id was made of, and scores, if any, neither; a text takes some 10 µs."""
    rows = frame.lazy().select(pl.arg_where(OF_OTHER_TEXTS)).collect(engine="streaming").to_series()
    if rows.len():
        say(
            f"warning: {file}: pair_id is not that of the texts on {rows.len():,} "
            f"{'row' if rows.len() == 1 else 'rows'}, the first of them row {rows[0]} (from 0). If texts were edited, "
            "what was computed before is not theirs: `curate prepare` reads the file again, then score it again"
        )


class Fault(NamedTuple):
    """What a column may not hold: which rows are at fault, and how that is told."""

    column: str
    rows: pl.Expr  # boolean
    found: str
    expected: str


def check_values(frame: pl.DataFrame | pl.LazyFrame, *stages: str, file: str | Path) -> None:
    """Raise `InputError` where columns of `stages` hold what would be silently wrong later.

    That is: an id that stands twice; a null where none may be; NaN, infinity; a log-probability above 0, a weight or
    a count below 0; a conversation without a turn or with one that has no text. The frame has the columns
    (`check_columns`). Texts are read once and not kept.
    """
    lazy = frame.lazy()
    have = lazy.collect_schema()
    faults = [fault for stage in stages for name, dtype in STAGES[stage].items() for fault in _faults(name, dtype)]
    if "pairs" in stages:
        faults += [fault for name in OPTIONAL if name in have for fault in _faults(name, OPTIONAL[name])]
    counts = [fault.rows.sum().alias(str(number)) for number, fault in enumerate(faults)]
    if "pairs" in stages:
        counts.append((pl.len() - pl.col("pair_id").n_unique()).alias("twice"))
    if not counts:
        return
    found = lazy.select(counts).collect(engine="streaming").row(0, named=True)
    if found.get("twice"):
        faults.insert(0, Fault("pair_id", pl.col("pair_id").is_duplicated(), "ids that stand twice", "each id once"))
        found = {"0": found["twice"]}
    for number, fault in enumerate(faults):
        if found.get(str(number)):
            raise _error(lazy, fault, int(found[str(number)]), stages, file)


def _faults(name: str, dtype: pl.DataType | type[pl.DataType]) -> Iterator[Fault]:
    column = pl.col(name)
    if name not in NULLABLE:
        yield Fault(name, column.is_null(), "null", "a value on every row")
    if dtype == pl.Float64:
        yield Fault(name, column.is_infinite() | column.is_nan(), "NaN or infinite", "finite numbers")
        yield Fault(name, column.abs() > LARGEST, f"beyond {LARGEST:g}", "numbers of which sums and squares are finite")
    if name.endswith("_logps"):
        yield Fault(name, column > HIGHEST_LOGP, "above 0", "log-probabilities, at most 0")
    if name.endswith(("_tokens", "_weight")) or name == "pair_scale":
        yield Fault(name, column < 0, "below 0", "numbers from 0 on")
    if dtype == MESSAGES:
        gaps = pl.element().struct.field("role").is_null() | pl.element().struct.field("content").is_null()
        yield Fault(name, column.list.len() == 0, "without a turn", "at least one turn")
        yield Fault(name, column.list.eval(gaps).list.any(), "with a turn without role or text", "role and content")


def _error(lazy: pl.LazyFrame, fault: Fault, count: int, stages: tuple[str, ...], file: str | Path) -> InputError:
    stage = next(stage for stage in stages if fault.column in STAGES[stage] | (OPTIONAL if stage == "pairs" else {}))
    first = lazy.select(fault.rows.arg_true().first()).collect().item()
    return InputError(
        f"the file holds values that `curate {MADE_BY[stage]}` does not write",
        file=file,
        row=first,
        field=fault.column,
        found=f"{count:,} {'row' if count == 1 else 'rows'}: {fault.found}",
        expected=fault.expected,
        remedy=f"write the file again with `curate {MADE_BY[stage]}`; rows count from 0",
    )


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # polars' own way out of a file that is badly damaged
            raise
        raise _unreadable(path, error) from None


def _unreadable(path: str | Path, error: BaseException) -> InputError:
    return InputError("not a readable Parquet file", file=path, found=first_line(error), remedy="write it again")
