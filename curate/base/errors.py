"""What went wrong, said once and completely: where, what was found, what was expected, what to do.

Everything a user can cause is raised as a `CurateError`; the command line prints it without a traceback and
exits with its `exit_code`. Any other exception is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curate.base.credentials import redacted

LONGEST = 500  # characters of one detail: a file's text may stand in it
_SEEN = 20_000  # characters of it that are looked at


def shortened(value: object, longest: int = LONGEST) -> str:
    """`value` as an error may show it: without credentials, and its middle left out where it is long."""
    text = str(value)
    if len(text) > 2 * _SEEN:
        text = f"{text[:_SEEN]} … {text[-_SEEN:]}"
    text = redacted(text)
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 3]} … {text[-tail:]}"


def few(names: Sequence[str], most: int = 5) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class CurateError(Exception):
    """A failure that a user can understand and mend; exit code 1.

    `what` is one sentence; the keyword arguments are printed below it on three lines at most, those given, each
    shortened and without credentials.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        field: str | None = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what = shortened(what)
        self.details: dict[str, str] = {
            name: shortened(value, LONGEST if name in ("found", "field") else 4 * LONGEST)
            for name, value in (
                ("file", file),
                ("row", row),
                ("field", field),
                ("found", found),
                ("expected", expected),
                ("remedy", remedy),
            )
            if value is not None
        }
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled whole, to come from another process with its details."""
        return partial(type(self), self.what, **self.details), ()  # type: ignore[arg-type]

    def __str__(self) -> str:
        """At most four lines: what; where; what was found and expected; what to do."""
        told = dict(self.details)
        where = [told.get("file"), f"row {told['row']}" if "row" in told else None, told.get("field")]
        asked = [f"{name}: {told[name]}" for name in ("found", "expected") if name in told]
        lines = [
            f"where: {', '.join(filter(None, where))}" if any(where) else None,
            "; ".join(asked) or None,
            f"remedy: {told['remedy']}" if "remedy" in told else None,
        ]
        return "\n".join([self.what, *(f"  {' '.join(line.split())}" for line in lines if line)])


class InputError(CurateError):
    """A file, a row or a model that cannot be used as it is; exit code 1."""


class UsageError(CurateError):
    """An option or a parameter that makes no sense; exit code 2, as click and argparse use it."""

    exit_code = 2


class OutputError(CurateError):
    """A result that cannot be written (disk full, folder not writable); exit code 1, nothing half-written."""


def causes(error: BaseException | None) -> list[BaseException]:
    """An exception, what led to it, and so on."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def first_line(error: BaseException) -> str:
    """What a library's exception says, the first line of it that is not empty, with the next where it announces that;
    its kind, where it says nothing."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {rest[0].strip()}" if rest and first.endswith(":") else first
