"""Progress of long work: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

from curate.base.credentials import redacted

console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")
"""Where everything that is said to a person goes; standard output is for results. Of the processes of a distributed
training, the first one speaks."""

PLAIN_LINE_SECONDS = 15.0
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that could steer a terminal."""


class Advance(Protocol):
    def __call__(self, amount: float = 1, /) -> None: ...


def safe(text: str) -> str:
    """`text` with control characters written out, so that it cannot steer the terminal, and without credentials.

    Bytes of a file's name that are no UTF-8 are written out too: no stream takes them.
    """
    text = CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), redacted(text))
    return text.encode("utf-8", "backslashreplace").decode()


def quoted(path: object) -> str:
    """A path or a name as a shell reads it; one that begins with - as no command takes it for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def say(message: str) -> None:
    """One line to the person who runs the command; what it quotes of a file cannot steer the terminal."""
    console.print(safe(message), markup=False)


@contextmanager
def progress(what: str, total: float, unit: str) -> Iterator[Advance]:
    """Yield a function to call with the amount done. `total` and the amounts are in `unit`s."""
    start = time.monotonic()
    done = 0.0

    def rate() -> float:
        return done / max(time.monotonic() - start, 1e-9)

    def speed() -> str:
        """Units a second; of slow work seconds a unit."""
        each = rate()
        return f"{each:,.0f}/s" if each >= 1 or not done else f"{1 / each:,.1f} s/{unit.removesuffix('s')}"

    if console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit + " {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        ) as bar:
            task = bar.add_task(what, total=total, rate="")

            def advance(amount: float = 1, /) -> None:
                nonlocal done
                done += amount
                bar.update(task, completed=done, rate=f"({speed()})")

            yield advance
    else:
        last = start

        def advance(amount: float = 1, /) -> None:
            nonlocal done, last
            done += amount
            now = time.monotonic()
            if now - last >= PLAIN_LINE_SECONDS:
                last = now
                left = (total - done) / max(rate(), 1e-9)
                say(f"{what}: {done:,.0f} of {total:,.0f} {unit}, {speed()}, {left:,.0f} s left")

        yield advance
    if total and sys.exc_info()[0] is None:
        say(f"{what}: {done:,.0f} {unit} in {time.monotonic() - start:.1f} s ({speed()})")
