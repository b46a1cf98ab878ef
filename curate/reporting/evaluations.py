"""Evaluations as tables: every arm in every metric, and the comparisons with their verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from curate.evaluation.compare import Arm, Comparison, Key, about, keys
from curate.reporting.table import Cell, Table, Within


def estimate_tables(arms: Sequence[Arm]) -> Iterator[Table]:
    """Of each suite a table: a row an arm, a column a metric; headline metrics first."""
    every = list(dict.fromkeys(key for arm in arms for key in arm.estimates))
    for suite in dict.fromkeys(key.suite for key in every):
        of_suite = [key for key in every if key.suite == suite]
        of_suite.sort(key=lambda key: not _about(arms, key)["headline"])
        columns = ["arm", "seeds", "prompts", *(_label(arms, key) for key in of_suite)]
        rows: list[list[Cell]] = []
        for arm in arms:
            there = {key: found for key, found in arm.estimates.items() if key.suite == suite}
            if there:
                prompts = sorted({found.prompts for found in there.values()})
                said = "–".join(f"{count:,}" for count in dict.fromkeys((prompts[0], prompts[-1])))
                cells = [_cell(there.get(key)) for key in of_suite]
                rows.append([arm.name, len(arm.runs), said, *cells])
        yield Table(suite, columns, rows)


def comparison_table(compared: Sequence[Comparison]) -> Table:
    """A row a comparison: the difference with its interval, both p-values, the verdict."""
    rows: list[list[Cell]] = [
        [
            f"{one.arm} − {one.other}",
            f"{one.key.suite}: {one.key.metric}",
            Within(one.difference.mean, one.difference.low, one.difference.high),
            one.difference.p,
            one.p,
            one.verdict,
        ]
        for one in compared
    ]
    return Table("Comparisons", ["arms", "metric", "difference [95%]", "p", "p, corrected", "verdict"], rows)


def descriptions(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """(suite: metric, what it is) of every metric."""
    found = dict.fromkeys(key for arm in arms for key in keys(arm.runs))
    return [(f"{key.suite}: {key.metric}", _about(arms, key)["about"]) for key in found]


def _about(arms: Sequence[Arm], key: Key) -> dict[str, Any]:
    return about(next(arm.runs for arm in arms if key in arm.estimates), key)


def _label(arms: Sequence[Arm], key: Key) -> str:
    return f"{key.metric} {'↑' if _about(arms, key)['better'] == 'higher' else '↓'}"


def _cell(found: object) -> Cell:
    from curate.evaluation.statistics import Estimate

    return Within(found.value, found.low, found.high, found.unjudged) if isinstance(found, Estimate) else None
