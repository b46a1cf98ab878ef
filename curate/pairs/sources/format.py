"""What an input format declares: the fields that make a row its own, those that it reads besides, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from curate.pairs.sources.base import Parsed, Record
from curate.pairs.sources.pairing import Replies


@dataclass(frozen=True)
class Format:
    """One input format. Detection, the help, docs/formats.md and the remedy for an unknown shape come from here."""

    name: str  # what `--format` takes
    about: str  # one line: the fields, and what they mean
    needs: tuple[frozenset[str], ...]  # sets of fields, any of which makes a row this format's; the larger first
    parse: Callable[[Record], Parsed | Replies]  # raises `Refused` where the record gives no pair
    reads: frozenset[str] = frozenset()  # fields read besides, where there
    lists: frozenset[str] = frozenset()  # of all these, lists or objects that are never a text: one's text is read
    looks: Callable[[Record], bool] | None = None  # what detection asks of a record besides its fields' names
    when_named: Callable[[Record], Parsed | Replies] | None = None  # parse where the user named the format
    detected: bool = True  # whether `auto` may choose it
    pooled: bool = False  # whether the rows of one prompt are paired with each other
    refusal: str = ""  # why such a file is not read at all
    hint: str = ""  # what a person may want to know who has such a file
    by_fields: str = ""  # options that read the same rows by their fields, and a transcript in the prompt as turns
    asked: frozenset[str] = frozenset()  # columns or paths that the user named: some row has each
    card: str = ""  # where the schema is published

    def fits(self, record: Record) -> frozenset[str] | None:
        """Which of `needs` the record has, if it looks like this format's; nulls do not count against it."""
        found = next((fields for fields in self.needs if fields <= record.keys()), None)
        return found if found is not None and (self.looks is None or self.looks(record)) else None


def fields(*names: str) -> tuple[frozenset[str], ...]:
    """Sets of fields, each written as words."""
    return tuple(frozenset(words.split()) for words in names)
