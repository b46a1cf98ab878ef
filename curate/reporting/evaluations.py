"""Evaluations as tables: every arm in every metric, and the comparisons with their verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from curate.evaluation.compare import FEW_SEEDS, THESE_RUNS, Arm, Comparison, about, keys
from curate.evaluation.record import BASE, Key
from curate.reporting.table import Cell, Table, Within

PAIR = ("arm", "other")
ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
MOST_COLUMNS = 3
"""Metrics in a table: more do not fit a terminal of 100 columns or a page of 1280 pixels."""
MOST_SENTENCES = 6
"""Of two arms each, at the top of the page."""


class ShownSuite(NamedTuple):
    name: str
    about: str
    judge: str | None  # in words; None: none read the answers
    headline: bool
    tables: list[Table]  # headline metrics; of a suite that has none, the others
    more: list[Table]  # the others
    metrics: list[tuple[str, str]]  # what each metric is


class Shown(NamedTuple):
    """What the page says of the evaluations."""

    warnings: list[str]  # what a reader must know before the numbers
    short: list[str]  # what was found, a sentence for two arms: the first of them
    left_out: int  # sentences
    suites: list[ShownSuite]
    comparisons: Table


def shown(arms: Sequence[Arm], compared: Sequence[Comparison]) -> Shown:
    """Everything about the evaluations, for the page."""
    headline, others = tables_by_suite(arms), tables_by_suite(arms, headline=False)
    suites = [
        ShownSuite(
            name,
            _sentence(arms, name),
            _judge(arms, name) if name in headline else None,
            name in headline,
            headline.get(name) or others[name],
            others.get(name, []) if name in headline else [],
            descriptions(arms, name),
        )
        for name in dict.fromkeys([*headline, *others])
    ]
    said = sentences(compared)
    left_out = max(0, len(said) - MOST_SENTENCES)
    table = comparison_table(compared)
    return Shown(warnings(arms), said[:MOST_SENTENCES], left_out, suites, table)


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
    comparisons: dict[str, dict[str, Any]] = {}  # by names, for dvc compares no lists
    for one in compared:
        said = {name: value for name, value in one.record().items() if name not in Key._fields and name not in PAIR}
        comparisons.setdefault(f"{one.arm} - {one.other}", {})[str(one.key)] = said
    return {"evaluation": evaluation, "comparisons": comparisons}


def sentences(compared: Sequence[Comparison]) -> list[str]:
    """A sentence for two arms: in what the first is better, in what worse, in what no difference is shown; and where
    that is said of these runs alone.

    Those of the arm that others are compared with last come first: of `base` and `dpo` the latter, which trained arms
    are measured by.
    """
    lines = []
    others = list(dict.fromkeys(one.other for one in compared))
    pairs = dict.fromkeys((one.arm, one.other) for other in others[::-1] for one in compared if one.other == other)
    for arm, other in pairs:
        of_both = [one for one in compared if (one.arm, one.other) == (arm, other)]
        parts = (
            f"{outcome} in {_listed(found)}{end}"
            for outcome in ("better", "worse", "no difference shown")
            for end in ("", f" ({THESE_RUNS})")
            if (found := [one.key for one in of_both if one.outcome == outcome and one.of_these_runs == bool(end)])
        )
        lines.append(f"{arm} against {other}: {'; '.join(parts)}.")
    return lines


def _listed(keys: Sequence[Key]) -> str:
    """safe rate (unsafe prompts), over-refusal (safe prompts) of sample and accuracy of gsm8k"""
    parts = []
    for suite in dict.fromkeys(key.suite for key in keys):
        named = [key.metric.partition(", ") for key in keys if key.suite == suite]
        parts.append(", ".join(f"{name} ({part})" if part else name for name, _, part in named) + f" of {suite}")
    return " and ".join(parts)


def warnings(arms: Sequence[Arm]) -> list[str]:
    """What a reader must know before the numbers."""
    said = []
    few = sorted({len(arm.runs) for arm in arms if arm.name != BASE})
    if few and few[0] < FEW_SEEDS:
        said.append(
            f"Some arms were trained {'once' if few[0] == 1 else 'twice'}. Their results hold for these "
            f"runs only: a claim about a method needs at least {FEW_SEEDS} seeds, and a difference that they show."
        )
    secondary = sorted({key.suite for arm in arms for key in arm.estimates} - _with_headline(arms))
    unknown = [suite for suite in secondary if _says_nothing(arms, suite)]
    if unknown:
        said.append(
            f"The prompts of {', '.join(unknown)} are of unknown type: whether they should be refused is not known. So "
            "there is no measure of safety, only how often answers begin as refusals do."
        )
    secondary = [suite for suite in secondary if suite not in unknown]
    if secondary:
        said.append(
            f"No judge read the answers of {', '.join(secondary)}: refusals were found by matching strings, which "
            "is easily wrong. Use a judge (evaluate.judge) before drawing a conclusion."
        )
    return said


def _says_nothing(arms: Sequence[Arm], suite: str) -> bool:
    """Whether none of the suite's metrics says what is good."""
    return all(_about(arms, key)["better"] == "neither" for arm in arms for key in arm.estimates if key.suite == suite)


def _with_headline(arms: Sequence[Arm]) -> set[str]:
    return {key.suite for arm in arms for key in arm.estimates if _about(arms, key)["headline"]}


def _sentence(arms: Sequence[Arm], suite: str) -> str:
    """What the suite measures, in words; its name, of an evaluation that does not say."""
    said = (run.metrics["suites"].get(suite, {}).get("about") for arm in arms for run in arm.runs)
    text = str(next(filter(None, said), suite))
    return text[:1].upper() + text[1:] + "."


def _judge(arms: Sequence[Arm], suite: str) -> str | None:
    """The judge that read a suite's answers, in words."""
    records = (run.metrics["suites"].get(suite, {}).get("judge") for arm in arms for run in arm.runs)
    record: dict[str, Any] | None = next(filter(None, records), None)
    if record is None:
        return None
    model = record.get("model") or {}
    said = [record.get("about"), model.get("name"), f"commit {model['commit']}" if model.get("commit") else None]
    said += [f"harmful is its label {record['label']}"] if "label" in record else []
    return f"{record['judge']} ({', '.join(filter(None, said))})"


def estimate_tables(arms: Sequence[Arm], *, headline: bool = True, most: int | None = MOST_COLUMNS) -> Iterator[Table]:
    """Of each suite that has such metrics its tables, as tables_by_suite."""
    for found in tables_by_suite(arms, headline=headline, most=most).values():
        yield from found


def tables_by_suite(
    arms: Sequence[Arm], *, headline: bool = True, most: int | None = MOST_COLUMNS
) -> dict[str, list[Table]]:
    """Of each suite that has such metrics: tables with a row an arm and a column for each of `most` metrics; None: of
    all of them, so that no two tables are of one suite."""
    every = [
        key
        for key in dict.fromkeys(key for arm in arms for key in arm.estimates)
        if _about(arms, key)["headline"] == headline
    ]
    by_suite: dict[str, list[Table]] = {}
    for suite in dict.fromkeys(key.suite for key in every):
        of_suite = [key for key in every if key.suite == suite]
        width = most or len(of_suite)
        parts = [of_suite[start : start + width] for start in range(0, len(of_suite), width)]
        by_suite[suite] = [
            _estimates(suite if part is parts[0] else f"{suite}, continued", arms, part) for part in parts
        ]
    return by_suite


def _estimates(title: str, arms: Sequence[Arm], metrics: Sequence[Key]) -> Table:
    rows: list[list[Cell]] = []
    for arm in arms:
        there = {key: found for key, found in arm.estimates.items() if key in metrics}
        if there:
            prompts = sorted({found.prompts for found in there.values()})
            said = "–".join(f"{count:,}" for count in dict.fromkeys((prompts[0], prompts[-1])))
            rows.append([arm.name, len(arm.runs), said, *(_cell(there.get(key)) for key in metrics)])
    return Table(title, ["arm", "seeds", "prompts", *(_label(arms, key) for key in metrics)], rows)


def comparison_table(compared: Sequence[Comparison]) -> Table:
    """A row a comparison: the difference with its interval, the p-values, the verdict."""
    rows: list[list[Cell]] = [
        [
            f"{one.arm} − {one.other}",
            f"{one.key} {ARROWS[one.better]}".rstrip(),
            Within(one.difference.mean, one.difference.low, one.difference.high),
            one.difference.p,
            one.p,
            None if math.isnan(one.difference.p_seeds) else one.difference.p_seeds,
            one.verdict,
        ]
        for one in compared
    ]
    columns = ["arms", "metric", "difference [95%]", "p", "p, corrected", "p over seeds", "verdict"]
    return Table("Comparisons", columns, rows)


def descriptions(arms: Sequence[Arm], suite: str) -> list[tuple[str, str]]:
    """(metric and its direction, what it is) of a suite's metrics."""
    found = dict.fromkeys(key for arm in arms for key in keys(arm.runs) if key.suite == suite)
    return [(_label(arms, key), _about(arms, key)["about"]) for key in found]


def _about(arms: Sequence[Arm], key: Key) -> dict[str, Any]:
    return about(next(arm.runs for arm in arms if key in arm.estimates), key)


def _label(arms: Sequence[Arm], key: Key) -> str:
    return f"{key.metric} {ARROWS[_about(arms, key)['better']]}".rstrip()


def _cell(found: object) -> Cell:
    from curate.evaluation.statistics import Estimate

    if not isinstance(found, Estimate):
        return None
    return Within(found.value, found.low, found.high, found.unjudged, found.n)
