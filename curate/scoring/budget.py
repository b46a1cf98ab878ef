"""How much one forward pass holds: what was planned, and less from the first one on that the device's memory cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from curate.base import memory
from curate.base.errors import InputError, first_line
from curate.base.progress import say
from curate.scoring.packing.forward import of_one_length

T = TypeVar("T")


class Budget:
    """Tokens of one forward pass, at most (or one row). A pass that does not fit the device's memory is halved until it
    does, and what fits is the budget from then on. A person is told so, once for each such pass.

    Args:
        tokens: of a pass, as planned.
        command: that says so: `score`, `judge`.
        folder: of the model.
        remedy: what to do where the smallest pass does not fit either.
    """

    def __init__(self, tokens: int, command: str, folder: Path, remedy: str) -> None:
        self.tokens = tokens
        self.command, self.folder, self.remedy = command, folder, remedy

    def rows(self, length: int) -> int:
        """Rows of a pass, of so many tokens each."""
        return max(1, self.tokens // max(1, length))

    def of_one_length(
        self, lengths: Sequence[int], run: Callable[[list[int]], T], unit: str
    ) -> Iterator[tuple[list[int], T]]:
        """As `each`, of rows of these lengths, without padding."""
        return self.each(of_one_length(lengths, self.tokens), lambda rows: lengths[rows[0]], run, unit)

    def each(
        self,
        batches: Iterable[list[int]],
        length: Callable[[list[int]], int],
        run: Callable[[list[int]], T],
        unit: str,
    ) -> Iterator[tuple[list[int], T]]:
        """The rows of each pass and what `run` makes of them: of every batch as it is, or in parts that fit.

        Args:
            length: tokens that each row of a batch takes, at most.
            unit: what rows are, in the plural.

        Raises:
            InputError: a row does not fit by itself.
        """
        for batch in batches:
            left, long = batch, length(batch)
            while left:
                run_first = _of_the_first(left, run)
                part, out = self.fit(
                    run_first, min(len(left), self.rows(long)), f"{unit} of {long:,} tokens", each=long
                )
                yield part, out
                left = left[len(part) :]

    def fit(self, run: Callable[[int], T], size: int, unit: str, *, each: int = 1, least: int = 1) -> T:
        """What `run(size)` gives; where that does not fit, `run` of half the size, and so on.

        Args:
            unit: what a size counts, in the plural.
            each: tokens of one.
            least: the smallest size to try.

        Raises:
            InputError: that does not fit either.
        """
        tried = [size]
        while True:
            try:
                out = run(tried[-1])
                break
            except RuntimeError as error:
                if not memory.no_room(error):
                    raise
                if tried[-1] <= least:
                    raise InputError(
                        "a batch does not fit the device's memory",
                        file=self.folder,
                        found=f"{unit} at once: tried {', '.join(f'{one:,}' for one in tried)}; {first_line(error)}",
                        remedy=self.remedy,
                    ) from error
            # Not within `except`: the error holds what did not fit.
            tried.append(max(tried[-1] // 2, least))
            memory.give_back()
        if len(tried) > 1:
            self.tokens = tried[-1] * each
            say(
                f"{self.command}: {size:,} {unit} at once do not fit the device's memory; it goes on with {tried[-1]:,}"
            )
        return out


def _of_the_first(rows: list[int], run: Callable[[list[int]], T]) -> Callable[[int], tuple[list[int], T]]:
    return lambda size: (rows[:size], run(rows[:size]))
