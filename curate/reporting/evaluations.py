"""Evaluations as tables: every arm in every metric, and the comparisons with their verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from curate.evaluation.compare import FEW_SEEDS, Arm, Comparison, Key, about, keys
from curate.evaluation.evaluate import BASE
from curate.evaluation.suites import SUITES
from curate.reporting.table import Cell, Table, Within

MOST_SENTENCES = 6
"""Of two arms each, at the top of the page: the last, which are of the last arm that others are compared with."""


class ShownSuite(NamedTuple):
    name: str
    about: str
    judge: str | None  # in words; None: none read the answers
    table: Table  # headline metrics
    more: Table | None  # the others


class Shown(NamedTuple):
    """What the page says of the evaluations."""

    warnings: list[str]  # what a reader must know before the numbers
    short: list[str]  # what was found, a sentence for two arms
    suites: list[ShownSuite]
    comparisons: Table
    metrics: list[tuple[str, str]]


def shown(arms: Sequence[Arm], compared: Sequence[Comparison]) -> Shown:
    """Everything about the evaluations, for the page."""
    more = {table.title: table for table in estimate_tables(arms, headline=False)}
    suites = [
        ShownSuite(table.title, _sentence(table.title), _judge(arms, table.title), table, more.pop(table.title, None))
        for table in estimate_tables(arms)
    ]
    suites += [ShownSuite(name, _sentence(name), None, table, None) for name, table in more.items()]
    return Shown(_warnings(arms), short(compared), suites, comparison_table(compared), descriptions(arms))


def metrics_of(arms: Sequence[Arm], compared: Sequence[Comparison]) -> dict[str, Any]:
    """What `dvc metrics` compares: the arms' headline metrics, and what may be concluded."""
    if not arms:
        return {}
    evaluation = {
        arm.name: {
            str(key): {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
            for key, found in arm.estimates.items()
            if about(arm.runs, key)["headline"]
        }
        for arm in arms
    }
    return {"evaluation": evaluation, "comparisons": [one.record() for one in compared]}


def short(compared: Sequence[Comparison]) -> list[str]:
    """A sentence for two arms: in what the first is better, in what worse, in what no difference is shown."""
    lines = []
    for arm, other in dict.fromkeys((one.arm, one.other) for one in compared):
        by_verdict: dict[str, list[str]] = {}
        for one in compared:
            if (one.arm, one.other) == (arm, other):
                by_verdict.setdefault(one.outcome, []).append(str(one.key))
        parts = (
            f"{outcome} in {', '.join(by_verdict[outcome])}"
            for outcome in ("better", "worse", "no difference shown")
            if outcome in by_verdict
        )
        lines.append(f"{arm} against {other}: {'; '.join(parts)}.")
    return lines[-MOST_SENTENCES:]


def _warnings(arms: Sequence[Arm]) -> list[str]:
    said = []
    few = sorted({len(arm.runs) for arm in arms if arm.name != BASE})
    if few and few[0] < FEW_SEEDS:
        said.append(
            f"Some arms were trained {'once' if few[0] == 1 else 'twice'}. What is said of them is said of these "
            f"very runs: a claim about a method needs at least {FEW_SEEDS} seeds."
        )
    secondary = sorted({key.suite for arm in arms for key in arm.estimates} - _with_headline(arms))
    if secondary:
        said.append(
            f"No judge read the answers of {', '.join(secondary)}: refusals were found by matching strings, which "
            "wording fools. Give a judge (evaluate.judge) before drawing a conclusion."
        )
    return said


def _with_headline(arms: Sequence[Arm]) -> set[str]:
    return {key.suite for arm in arms for key in arm.estimates if _about(arms, key)["headline"]}


def _sentence(suite: str) -> str:
    text = SUITES[suite].about if suite in SUITES else suite
    return text[:1].upper() + text[1:] + "."


def _judge(arms: Sequence[Arm], suite: str) -> str | None:
    """The judge that read a suite's answers, in words."""
    record = next(found["judge"] for arm in arms for run in arm.runs if (found := run.metrics["suites"].get(suite)))
    if not record:
        return None
    return ", ".join(f"{name} {value}" for name, value in record.items() if isinstance(value, str | int | float))


def estimate_tables(arms: Sequence[Arm], *, headline: bool = True) -> Iterator[Table]:
    """Of each suite that has such metrics a table: a row an arm, a column a metric."""
    every = [
        key
        for key in dict.fromkeys(key for arm in arms for key in arm.estimates)
        if _about(arms, key)["headline"] == headline
    ]
    for suite in dict.fromkeys(key.suite for key in every):
        of_suite = [key for key in every if key.suite == suite]
        columns = ["arm", "seeds", "prompts", *(_label(arms, key) for key in of_suite)]
        rows: list[list[Cell]] = []
        for arm in arms:
            there = {key: found for key, found in arm.estimates.items() if key in of_suite}
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
            str(one.key),
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
    return [(str(key), _about(arms, key)["about"]) for key in found]


def _about(arms: Sequence[Arm], key: Key) -> dict[str, Any]:
    return about(next(arm.runs for arm in arms if key in arm.estimates), key)


def _label(arms: Sequence[Arm], key: Key) -> str:
    return f"{key.metric} {'↑' if _about(arms, key)['better'] == 'higher' else '↓'}"


def _cell(found: object) -> Cell:
    from curate.evaluation.statistics import Estimate

    return Within(found.value, found.low, found.high, found.unjudged) if isinstance(found, Estimate) else None
