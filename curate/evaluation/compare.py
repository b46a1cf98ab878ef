"""Evaluations side by side: every arm with its seeds pooled, and arms compared on the same prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.evaluation import statistics
from curate.evaluation.record import BASE, Evaluation, Key, of_prompts, of_table
from curate.evaluation.statistics import Difference, Estimate
from curate.selection.seeds import MEASURING, made

FEW_SEEDS = 3
"""Fewer say nothing of a method (docs/evaluation.md, Statistics; ours)."""
LEVEL = 0.05
NOT_DRAWN = ("hhh", "gsm8k", "advglue", "harness")
"""Suites whose answers are not drawn as `evaluate`'s params say: by likelihood, or as their own options say."""
BESIDES = ("batch", "suffixes", "templates")
"""Options that change no item's answer. What files hold is in the items."""
THESE_RUNS = "these runs, not the method"
RESOLUTION = 0.01
"""The corrected p that the bootstrap must be able to reach, however many comparisons there are."""


class Arm(NamedTuple):
    """An arm's evaluations, by seed, and its pooled estimates."""

    name: str
    runs: list[Evaluation]
    estimates: dict[Key, Estimate]

    @property
    def seeds(self) -> list[int | None]:
        return [run.seed for run in self.runs]


class Comparison(NamedTuple):
    """`arm` minus `other` in one metric, over the same prompts."""

    key: Key
    arm: str
    other: str
    better: str  # "higher" or "lower"
    difference: Difference
    p: float  # of no difference, corrected for all comparisons made together (Holm 1979)
    seeds: int  # training runs of the arm that has fewer, `base` not counted

    @property
    def outcome(self) -> str:
        """`better`, `worse` or `no difference shown`, of the runs compared."""
        if self.p >= LEVEL:
            return "no difference shown"
        return "better" if (self.difference.mean > 0) == (self.better == "higher") else "worse"

    @property
    def of_these_runs(self) -> bool:
        """Whether a difference is shown of these runs and not of the methods: there are too few seeds, or they do not
        show it by themselves (`Difference.p_seeds`)."""
        return self.p < LEVEL and not (self.seeds >= FEW_SEEDS and self.difference.p_seeds < LEVEL)

    @property
    def verdict(self) -> str:
        """The outcome, and what it may not be taken for."""
        if not self.of_these_runs:
            return self.outcome
        return f"{self.outcome} ({self.seeds} seed{'s' if self.seeds > 1 else ''}: {THESE_RUNS})"

    def record(self) -> dict[str, Any]:
        """As JSON."""
        names = {"suite": self.key.suite, "metric": self.key.metric, "arm": self.arm, "other": self.other}
        found = self.difference._asdict() | {"seeds": self.seeds, "p_corrected": self.p, "verdict": self.verdict}
        return names | {name: None if value != value else value for name, value in found.items()}  # JSON has no NaN


class Tables(NamedTuple):
    """Two arms' values of one metric, and how they pair; as `statistics.compare` has them."""

    ours: np.ndarray  # [prompts, seeds]
    theirs: np.ndarray
    items: np.ndarray  # [prompts]
    paired: bool
    trained: bool

    def compare(self, draws: int) -> Difference:
        return statistics.compare(
            self.ours, self.theirs, self.items, paired_seeds=self.paired, trained=self.trained, draws=draws
        )


def arms(evaluations: Sequence[Evaluation], order: Sequence[str] = ()) -> list[Arm]:
    """The arms: `base` first, then those of `order`, then the others as they come.

    Raises:
        InputError: seeds of one arm were trained or evaluated in different ways, or evaluated on different items.
    """
    names = list(dict.fromkeys(one.name for one in evaluations))
    place = {name: number for number, name in enumerate((BASE, *order))}
    names.sort(key=lambda name: place.get(name, len(place)))
    made = []
    for name in names:
        runs = sorted((one for one in evaluations if one.name == name), key=lambda one: one.seed or 0)
        estimates = {}
        _check_seeds(runs)
        check_alike(runs)
        of_all = keys(runs)
        if left_out := {Key(*row) for run in runs for row in _named(run)} - set(of_all):
            said = ", ".join(sorted(map(str, left_out)))
            say(f"compare: {name}: not all of its seeds have these, which are left out: {said}")
        for key in of_all:
            unjudged = sum(int((~_of(run, key)["judged"]).sum()) for run in runs)
            estimates[key] = of_table(*table(runs, key))._replace(unjudged=unjudged)
        made.append(Arm(name, runs, estimates))
    return made


def keys(runs: Sequence[Evaluation]) -> list[Key]:
    """The metrics that all of `runs` have, in the order of the first."""
    shared = [set(_named(run)) for run in runs]
    return [Key(*row) for row in _named(runs[0]) if all(row in some for some in shared)]


def _named(run: Evaluation) -> list[tuple[str, str]]:
    return [
        (suite, metric) for suite, metric in run.values.select("suite", "metric").unique(maintain_order=True).rows()
    ]


def about(runs: Sequence[Evaluation], key: Key) -> dict[str, Any]:
    """What metrics.json says of a metric: `better`, `headline`, `about`."""
    found: dict[str, Any] = runs[0].metrics["suites"][key.suite]["metrics"][key.metric]
    return found


def _check_seeds(runs: Sequence[Evaluation]) -> None:
    """Raise `InputError` where runs of one name differ in more than their seed: they are no seeds of one arm."""
    ways: dict[str, Evaluation] = {}
    for run in runs:
        ways.setdefault(made(run.metrics.get("made") or {}, MEASURING), run)
    if len(ways) > 1:
        raise InputError(
            "evaluations of one name are of models that differ in more than their seed",
            field=f"name {runs[0].name}",
            found=" and ".join(f"seed {run.seed}" for run in ways.values()),
            expected="the same pairs, model, settings and weights",
            remedy="give `curate evaluate` another --name for one of them",
        )


def check_alike(runs: Sequence[Evaluation]) -> None:
    """Raise `InputError` where a suite was judged by different judges, or answered with different settings: what
    differs is then not the model alone."""
    for run in runs[1:]:
        for suite in sorted(run.metrics["suites"].keys() & runs[0].metrics["suites"].keys()):
            ours, theirs = _protocol(runs[0], suite), _protocol(run, suite)
            if differing := [name for name in ours if not _same(ours[name], theirs[name])]:
                raise InputError(
                    "evaluations made in different ways cannot be compared",
                    field=f"{suite}: {', '.join(differing)}",
                    found=f"{runs[0].called} and {run.called}",
                    remedy="evaluate both with the same judge and settings",
                )


def _protocol(run: Evaluation, suite: str) -> dict[str, Any]:
    """How a suite's answers came to their values; not on what machine, or by which engine."""
    said, params = run.metrics["suites"][suite], run.metrics.get("params", {})
    options = said.get("options") or {}
    used = {"judge": _which(said.get("judge")), "options": {k: v for k, v in options.items() if k not in BESIDES}}
    if suite == "pair":
        used["attacker"] = _which(run.metrics.get("with", {}).get("attacker"))
    if suite in NOT_DRAWN:
        return used
    temperature = options.get("temperature", params.get("temperature"))
    top_p = params.get("top_p") if temperature else None  # of the likeliest token it says nothing
    return used | {"max_tokens": params.get("max_tokens"), "temperature": temperature, "top_p": top_p}


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two parts of a protocol are one. Of a model in a record of before no tokenizer is known: there its digest
    alone decides."""
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return bool(ours == theirs)
    if "digest" in ours and "digest" in theirs and ("tokenizer" in ours) != ("tokenizer" in theirs):
        ours, theirs = ({name: value for name, value in one.items() if name != "tokenizer"} for one in (ours, theirs))
    return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in ours)


def _which(record: Any) -> Any:
    """Of a model's or judge's record what can change its words: where there is a digest, a name says nothing."""
    if not isinstance(record, dict):
        return record
    besides = {"engine", "about", *({"name", "commit"} if "digest" in record else ())}
    return {name: _which(value) for name, value in record.items() if name not in besides}


def table(runs: Sequence[Evaluation], key: Key) -> tuple[np.ndarray, np.ndarray]:
    """Values [prompts, runs] of a metric, prompts in the order of their ids, items of one prompt averaged; and how many
    items each prompt has [prompts].

    Raises:
        InputError: the runs were not evaluated on the same items.
    """
    columns = [_of(run, key) for run in runs]
    for run, column in zip(runs[1:], columns[1:], strict=True):
        if not column["item"].sort().equals(columns[0]["item"].sort()):
            raise InputError(
                "evaluations of different items cannot be compared",
                field=f"{key.suite}, {key.metric}",
                found=f"{runs[0].called} and {run.called}",
                remedy="evaluate both on the same source with the same limit and options",
            )
    prompts = [of_prompts(column) for column in columns]
    return np.stack([each["value"].to_numpy() for each in prompts], axis=1), prompts[0]["items"].to_numpy()


def compare(arms: Sequence[Arm], others: Sequence[str]) -> list[Comparison]:
    """Every arm against each of `others` that is there, in every headline metric both have; p corrected over them all.

    Raises:
        InputError: two arms were evaluated on different items, or in different ways.
    """
    named = {arm.name: arm for arm in arms}
    pairs: dict[frozenset[str], tuple[Arm, Arm]] = {}  # two arms are compared once
    for other in others:
        for arm in arms:
            if other in named and arm.name not in (BASE, other):
                pairs.setdefault(frozenset((arm.name, other)), (arm, named[other]))
    found, tables = [], []
    for arm, against in pairs.values():
        check_alike([*arm.runs, *against.runs])
        for key in keys([*arm.runs, *against.runs]):
            said = about(arm.runs, key)
            both, items = table([*arm.runs, *against.runs], key)  # others stand side by side, and are of the same items
            if said["headline"]:
                ours, theirs = np.split(both, [len(arm.runs)], axis=1)
                tables.append(Tables(ours, theirs, items, arm.seeds == against.seeds, against.name != BASE))
                trained = min(len(one.runs) for one in (arm, against) if one.name != BASE)
                found.append((key, arm.name, against.name, said["better"], trained))
    differences = [_difference(one, len(tables)) for one in tables]
    corrected = statistics.holm([one.p for one in differences])
    return [
        Comparison(*one[:4], difference, float(p), one[4])
        for one, difference, p in zip(found, differences, corrected, strict=True)
    ]


def _difference(tables: Tables, comparisons: int) -> Difference:
    """The difference; from more draws where its p is the least that the usual number can give, and that, times the
    number of comparisons, would say nothing."""
    found = tables.compare(statistics.DRAWS)
    wanted = math.ceil(2 * comparisons / RESOLUTION)
    if wanted > statistics.DRAWS and found.p <= 2 / (statistics.DRAWS + 1):
        found = tables.compare(wanted)
    return found


def _of(run: Evaluation, key: Key) -> pl.DataFrame:
    return run.values.filter(suite=key.suite, metric=key.metric)


def missing(arms: Sequence[Arm], others: Sequence[str]) -> str:
    """What it takes to compare the arms with `others`, where nothing was compared; in words."""
    trained = [arm.name for arm in arms if arm.name != BASE]
    if not any(name != other for name in trained for other in others):
        return "evaluate another trained arm, too (`curate evaluate RUN/model --name ARM`)"
    headline = {arm.name: {key for key in arm.estimates if about(arm.runs, key)["headline"]} for arm in arms}
    bare = [name for name, found in headline.items() if not found]
    if bare:
        return (
            f"no headline metric in {', '.join(bare)}. Evaluate them with a judge (evaluate.judge, `--judge`); prompts "
            "of your own also need safety labels. Or take a suite that needs neither, such as hhh"
        )
    suites = "; ".join(f"{name}: {', '.join(sorted({key.suite for key in found}))}" for name, found in headline.items())
    return f"the arms share no headline metric. Evaluate each on the same suites ({suites})"


def check_others(arms: Sequence[Arm], others: Sequence[str]) -> None:
    """Raise `UsageError` where one of `others` was not evaluated."""
    there = [arm.name for arm in arms]
    for other in others:
        if other not in there:
            raise UsageError(
                "no such arm among the evaluations", field="--with", found=other, expected=", ".join(there)
            )
