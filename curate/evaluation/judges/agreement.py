"""How far a judge agrees with people: the same responses, labelled by both.

A response that the judge cannot judge is a disagreement in the accuracy, which is over all rows, and left out of
kappa and of the measures of ranking, which are over the judged ones; it has a column of its own in the table.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate import __version__
from curate.base.errors import InputError
from curate.base.files import file_digest
from curate.evaluation import statistics
from curate.evaluation.items import Judgement, Refusal
from curate.evaluation.judges.base import Case, Judge
from curate.pairs.sources.base import kind, named
from curate.pairs.sources.files import read_file
from curate.pairs.sources.text import sound_rows

COLUMNS = ("prompt", "response", "label")
HARMLESS, HARMFUL = "harmless", "harmful"
_BINARY = {
    **dict.fromkeys(("yes", "true", "harmful", "unsafe", "1", "1.0"), HARMFUL),
    **dict.fromkeys(("no", "false", "harmless", "not_harmful", "safe", "0", "0.0"), HARMLESS),
}
_CLASSES = {
    **dict.fromkeys(("full_compliance", "compliance", "1_full_compliance", "none"), Refusal.NONE),
    **dict.fromkeys(("partial_refusal", "3_partial_refusal", "partial"), Refusal.PARTIAL),
    **dict.fromkeys(("full_refusal", "refusal", "2_full_refusal", "full"), Refusal.FULL),
}
LABELS: dict[str, tuple[str, ...]] = {"harm": (HARMLESS, HARMFUL), "compliance": tuple(map(str, Refusal))}
EXPECTED = {
    "harm": "harmful or harmless (also yes/no, true/false, unsafe/safe, 1/0), or a score from 0 to 1",
    "compliance": "full_compliance, partial_refusal or full_refusal (XSTest's spellings, too)",
}


RESAMPLES = 1000
FEW_PROMPTS = 10  # below, drawing prompts says nothing
BINS = 10


class Labelled(NamedTuple):
    """What people said of responses."""

    cases: list[Case]
    labels: list[str]  # of LABELS[task]
    scores: list[float] | None  # harm from 0 to 1, where the labels are scores


def read_labels(path: Path, task: str, threshold: float = 0.5) -> Labelled:
    """Rows with columns prompt, response and label, of a JSON, JSON lines, CSV or Parquet file.

    Args:
        threshold: of scores: from it on a response is harmful. Labels are scores where one is neither 0 nor 1.

    Raises:
        InputError: a column is missing, or a row has a prompt, a response or a label that is none.
    """
    rows = sound_rows(read_file(path), path)
    cases, values = [], []
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError("a row is no object", file=path, row=number, found=kind(row), expected="object")
        for name in COLUMNS:
            if name not in row:
                raise InputError(
                    "a column is missing",
                    file=path,
                    row=number,
                    field=name,
                    found=named(row) or "none",
                    expected=", ".join(COLUMNS),
                )
        for name in COLUMNS[:2]:
            if not isinstance(row[name], str) or (name == "prompt" and not row[name].strip()):
                found = "blank" if isinstance(row[name], str) else kind(row[name])
                raise InputError("a row has no text", file=path, row=number, field=name, found=found, expected="text")
        cases.append(Case(row["prompt"], row["response"], row["response"]))
        values.append(row["label"])
    known = _BINARY if task == "harm" else _CLASSES
    labels = [known.get(_spelled(value)) for value in values]
    if None in labels:
        scores = [_score(value) if task == "harm" else None for value in values]
        sure = [score for score in scores if score is not None]
        if len(sure) == len(values):
            return Labelled(cases, [HARMFUL if score >= threshold else HARMLESS for score in sure], sure)
        # Among words the number is the fault, among numbers the word.
        told = scores if len(sure) > len(labels) - labels.count(None) else labels
        row = told.index(None)
        raise InputError(
            "a row has an unknown label",
            file=path,
            row=row,
            field="label",
            found=_shown(values[row]),
            expected=EXPECTED[task],
        )
    return Labelled(cases, [str(label) for label in labels], None)


def agreement(labelled: Labelled, judge: Judge, task: str, threshold: float = 0.5) -> dict[str, Any]:
    """What judge and people say of the same responses, as JSON-able numbers.

    Args:
        threshold: the judge's harm from which on a response counts as harmful.

    Returns:
        n, unjudged, why (reasons of the unjudged), accuracy (all rows, unjudged ones are wrong) with its 95%
        interval (Wilson's where each prompt has one response, or there are few), kappa (judged rows; None where chance
        alone agrees on everything), labels, confusion ([people, judge]; the last column is the unjudged), recall by
        label (all rows); of a judge that gives shades of harm: auroc against the labels, ece, and spearman where
        people gave scores (judged rows; None where all are equal). intervals: at 95% of accuracy and, from FEW_PROMPTS
        prompts on, of kappa, auroc and ece, by drawing prompts with all their responses. by_length: n, accuracy and
        auroc of thirds of the responses by their words, since short refusals are easy.
    """
    statistics.check_installed()
    wanted = [number for number, case in enumerate(labelled.cases) if case.response.strip()]
    verdicts = [Judgement(why="empty response")] * len(labelled.cases)
    asked = [labelled.cases[number] for number in wanted]
    for number, verdict in zip(wanted, judge.judge(asked, task) if asked else [], strict=True):
        verdicts[number] = verdict
    said = [_label(verdict, task, threshold) for verdict in verdicts]
    names = LABELS[task]
    judged = [number for number, label in enumerate(said) if label is not None]
    matrix = statistics.confusion(
        [labelled.labels[number] for number in judged], [str(said[number]) for number in judged], names
    )
    right, n = int(matrix.trace()), len(said)
    left_out = [sum(said[row] is None for row, label in enumerate(labelled.labels) if label == name) for name in names]
    totals = matrix.sum(axis=1) + left_out
    result: dict[str, Any] = {
        "task": task,
        "n": n,
        "unjudged": n - len(judged),
        "why": dict(
            sorted(Counter(v.why or "no verdict" for v, s in zip(verdicts, said, strict=True) if s is None).items())
        ),
        "accuracy": right / n,
        "accuracy_interval": list(statistics.wilson(right, n)),
        "kappa": statistics.kappa(matrix),
        "labels": list(names),
        "confusion": [[*map(int, row), missing] for row, missing in zip(matrix, left_out, strict=True)],
        "recall": {
            name: int(matrix[at, at]) / int(total) if total else None
            for at, (name, total) in enumerate(zip(names, totals, strict=True))
        },
    }
    if task == "harm":
        harm = np.array([verdicts[number].harm for number in judged], dtype=np.float64)
        result["threshold"] = threshold
        if not set(harm.tolist()) <= {0.0, 1.0}:
            positive = np.array([labelled.labels[number] == HARMFUL for number in judged])
            result |= {"auroc": auroc(harm, positive), "ece": ece(harm, positive)}
        if labelled.scores is not None:
            result["spearman"] = spearman(harm, np.array([labelled.scores[number] for number in judged]))
    return result | _uncertainty(_Rows.of(labelled, verdicts, said), labelled, result)


class _Rows(NamedTuple):
    """Every response: arrays [rows]."""

    prompts: np.ndarray  # which prompt, numbered from 0
    people: np.ndarray  # their label, as text
    judge: np.ndarray  # the judge's, "" where it has none
    harm: np.ndarray  # the judge's, NaN where it has none

    @classmethod
    def of(cls, labelled: Labelled, verdicts: list[Judgement], said: list[str | None]) -> _Rows:
        prompts = np.unique([case.question for case in labelled.cases], return_inverse=True)[1]
        harm = [np.nan if verdict.harm is None else verdict.harm for verdict in verdicts]
        return cls(
            prompts, np.array(labelled.labels), np.array([one or "" for one in said]), np.array(harm, np.float64)
        )

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(*(column[rows] for column in self))

    def measures(self, names: tuple[str, ...], *, shades: bool) -> dict[str, float | None]:
        judged = self.take(self.judge != "")
        matrix = statistics.confusion(judged.people.tolist(), judged.judge.tolist(), names)
        found = {"accuracy": float((self.people == self.judge).mean()), "kappa": statistics.kappa(matrix)}
        if shades:
            positive = judged.people == HARMFUL
            found |= {"auroc": auroc(judged.harm, positive), "ece": ece(judged.harm, positive)}
        return found


def _uncertainty(rows: _Rows, labelled: Labelled, result: dict[str, Any]) -> dict[str, Any]:
    """The keys accuracy_interval, intervals and by_length of `agreement`, which has found `result`."""
    prompts, names, shades = len(set(rows.prompts)), tuple(result["labels"]), "auroc" in result
    intervals = _intervals(rows, names, shades=shades) if prompts >= FEW_PROMPTS else {}
    accuracy = result["accuracy_interval"]
    if intervals and prompts < result["n"]:  # Wilson's takes responses to one prompt as independent
        accuracy = intervals["accuracy"]
    return {
        "accuracy_interval": accuracy,
        "intervals": intervals | {"accuracy": accuracy},
        "by_length": _by_length(rows, labelled, names, shades=shades),
    }


def _intervals(rows: _Rows, names: tuple[str, ...], *, shades: bool) -> dict[str, list[float] | None]:
    """95% intervals by a bootstrap over prompts; None where a measure is undefined in most draws."""
    rng = np.random.default_rng(0)
    order = np.argsort(rows.prompts, kind="stable")
    of = np.split(order, np.cumsum(np.bincount(rows.prompts))[:-1])
    drawn: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        picked = np.concatenate([of[prompt] for prompt in rng.integers(len(of), size=len(of))])
        for name, value in rows.take(picked).measures(names, shades=shades).items():
            drawn.setdefault(name, []).extend([] if value is None else [value])
    enough = RESAMPLES // 2
    return {
        name: [float(bound) for bound in np.quantile(values, statistics.TAILS)] if len(values) > enough else None
        for name, values in drawn.items()
    }


def _by_length(rows: _Rows, labelled: Labelled, names: tuple[str, ...], *, shades: bool) -> list[dict[str, Any]]:
    """Thirds by the number of words of the response."""
    words = np.array([len(case.response.split()) for case in labelled.cases])
    bounds = np.quantile(words, (1 / 3, 2 / 3))
    third = np.searchsorted(bounds, words, side="left")
    found = []
    for number in range(3):
        part, lengths = rows.take(third == number), words[third == number]
        if len(lengths):
            known = part.measures(names, shades=shades)
            row = {"words": [int(lengths.min()), int(lengths.max())], "n": len(lengths), "accuracy": known["accuracy"]}
            found.append(row | ({"auroc": known["auroc"]} if shades else {}))
    return found


def read_from(path: Path) -> dict[str, Any]:
    """The record of the file of labels."""
    return {"version": __version__, "file": path.name, "sha256": file_digest(path)}


def auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The probability that a positive has a higher score than a negative, ties half; None without both.

    (sum of the positives' ranks - P (P + 1) / 2) / (P N), of equal scores the mean rank (Mann and Whitney 1947).
    SciPy's mannwhitneyu finds a p-value as well, a millisecond in each of a thousand draws.
    """
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return None
    ranks = np.asarray(pl.Series(scores, dtype=pl.Float64).rank("average"))
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def ece(harm: np.ndarray, positive: np.ndarray) -> float | None:
    """Expected calibration error (Naeini et al. 2015): over ten bins of harm, |mean harm - share of positives| weighted
    by the bins' shares; None without a value."""
    if not len(harm):
        return None
    at = np.minimum((harm * BINS).astype(int), BINS - 1)
    gaps = np.bincount(at, harm - positive, minlength=BINS)
    return float(np.abs(gaps).sum() / len(harm))


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """The correlation of the ranks, SciPy's; None where one side is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def _label(verdict: Judgement, task: str, threshold: float) -> str | None:
    if task == "compliance":
        return None if verdict.refusal is None else str(verdict.refusal)
    if verdict.harm is None:
        return None
    return HARMFUL if verdict.harm >= threshold else HARMLESS


def _shown(value: Any) -> str:
    """A label in a message: a text may be a response in the wrong column, and is not told."""
    return repr(value) if isinstance(value, bool | int | float) else kind(value)


def _spelled(value: Any) -> str:
    """A label as `_BINARY` and `_CLASSES` spell it."""
    text = json.dumps(value) if isinstance(value, bool | int | float) else value if isinstance(value, str) else ""
    return re.sub(r"[\s_-]+", "_", text.strip().casefold())


def _score(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= 1 else None
