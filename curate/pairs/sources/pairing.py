"""Pairs from replies that stand alone or are ranked: which better reply meets which worse one.

Such a format gives a row's prompt and replies, each with a standing; the rows of one prompt are pooled where the
format says so. What meets no other reply goes to the rejects as `unpaired`, so that every row is accounted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Literal, NamedTuple

from curate.pairs.sources.base import Message, Parsed, Ratings, assistant, query_type_of

Pairing = Literal["best", "adjacent", "all"]


class Reply(NamedTuple):
    """One reply to a prompt."""

    said: str
    standing: float  # higher is better; equal standings make no pair
    safe: bool | None = None
    reward: float | None = None  # helpfulness, higher is better
    cost: float | None = None  # harmfulness, higher is worse


class Replies(NamedTuple):
    """One record of a format whose rows are no pairs yet."""

    prompt: list[Message]
    replies: list[Reply]
    unrated: int = 0  # replies left out, for nothing says how good they are


def meetings(standings: Sequence[float], how: Pairing) -> Iterator[tuple[int, int]]:
    """(better, worse) as places in `standings`: each worse reply with a best one, with one a step above, or with all.

    Where several replies are equally good, they take turns, in their order.
    """
    levels = [
        [place for place, standing in enumerate(standings) if standing == level]
        for level in sorted(set(standings), reverse=True)
    ]
    if how == "all":
        for above, better in enumerate(levels):
            for worse in levels[above + 1 :]:
                yield from product(better, worse)
    elif how == "adjacent":
        for better, worse in pairwise(levels):
            yield from _in_turns(better, worse)
    elif levels:
        yield from _in_turns(levels[0], [place for level in levels[1:] for place in level])


def _in_turns(better: list[int], worse: list[int]) -> Iterator[tuple[int, int]]:
    return ((better[nth % len(better)], place) for nth, place in enumerate(worse))


def paired(prompt: list[Message], better: Reply, worse: Reply) -> Parsed:
    """The pair of two replies; the query type follows from their labels (docs/columns.md)."""
    return Parsed(
        prompt,
        [assistant(better.said)],
        [assistant(worse.said)],
        query_type_of(better.safe, worse.safe),
        better.safe,
        worse.safe,
        ratings=Ratings(better.reward, worse.reward, better.cost, worse.cost),
    )
