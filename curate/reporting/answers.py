"""The page's first screen in words: what was asked, what came out, and how sure that is, a sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import polars as pl

from curate.evaluation.compare import FEW_SEEDS, THESE_RUNS, Comparison
from curate.evaluation.statistics import wilson
from curate.reporting import arms as runs
from curate.reporting.arms import Arm
from curate.reporting.table import written
from curate.reporting.verdict import LITTLE, Imbalance
from curate.reporting.words import FIRST_TERMS, TERMS, TRAINED_TERMS

QUESTION = ("bdpo", "dpo")
"""The arms that the paper's question is about, where both are there."""


class Answers(NamedTuple):
    asked: str
    found: str
    sure: str
    terms: list[tuple[str, str]]  # words of these sentences, a line each


def answers(
    scored: pl.DataFrame,
    known: Imbalance | None,
    arms: Sequence[Arm],
    compared: Sequence[Comparison],
    pairs_error: tuple[int, float] | None,
) -> Answers:
    """The first screen's sentences.

    Args:
        known: of these pairs.
        scored: the pairs whose MI is finite, weighted; at least one.
        pairs_error: how many held-out pairs accuracies are of, and the largest standard error of one.
    """
    words = FIRST_TERMS + (TRAINED_TERMS if arms else ())
    return Answers(
        _asked(arms, compared), _found(scored, known, arms, compared), _sure(known, arms, compared, pairs_error),
        [(word, TERMS[word]) for word in words],
    )  # fmt: skip


def _asked(arms: Sequence[Arm], compared: Sequence[Comparison]) -> str:
    first = "Does the reference model comprehend the two responses of a pair equally well"
    safer = " and make a safer model" if compared else ""
    if set(QUESTION) <= {arm.name for arm in arms}:
        return f"{first}, and does pushing the better understood one less (bdpo) overfit less than dpo{safer}?"
    if len(arms) > 1:
        return f"{first}, and which of {len(arms)} ways of training overfits less{safer}?"
    if arms:
        return f"{first}, and does training on the pairs ({arms[0].name}) overfit?"
    return f"{first}, and how much less should training push the better understood one?"


def _found(scored: pl.DataFrame, known: Imbalance | None, arms: Sequence[Arm], compared: Sequence[Comparison]) -> str:
    parts = [_of_pairs(scored, known), _of_training(arms), _of_evaluation(compared)]
    return "; ".join(filter(None, parts)) + "."


def _of_pairs(scored: pl.DataFrame, known: Imbalance | None) -> str:
    higher = int((scored["pmi_gap"] > 0).sum())
    low, high = wilson(higher, scored.height)
    degree = "Nearly equally" if known is None or known.push < LITTLE else "Unequally"
    size = float(scored["pmi_gap"].abs().mean())  # type: ignore[arg-type]
    return (
        f"{degree}: the mean |gap| is {size:.3f} nats/token, and the chosen response has the higher MI in "
        f"{higher / scored.height:.0%} of {scored.height:,} pairs [95%: {low:.0%} to {high:.0%}]"
    )


def _of_training(arms: Sequence[Arm]) -> str:
    arms = runs.comparable(arms)
    gaps = {arm.name: found for arm in arms if not arm.own_beta and (found := arm.spread("margin_gap"))}
    if set(QUESTION) <= set(gaps):
        one, other = (next(arm for arm in arms if arm.name == name) for name in QUESTION)
        ours, theirs = (written(arm.cell("margin_gap")) for arm in (one, other))
        numbers = f"margin gap {ours} against {theirs} nats, lower is better"
        return f"{_overfitting(one, other)} ({numbers})"
    if len(gaps) > 1:
        low, high = (pick(gaps, key=lambda name: gaps[name].mean) for pick in (min, max))
        ends = f"from {written(gaps[low])} nats ({low}) to {written(gaps[high])} ({high})"
        return f"the margin gap (lower is better) runs {ends}"
    if gaps:
        (name,) = gaps
        gap = next(arm.cell("margin_gap") for arm in arms if arm.name == name)
        return f"{name} has a margin gap of {written(gap)} nats (lower is better)"
    return ""


def _overfitting(one: Arm, other: Arm) -> str:
    """Which of two arms overfits less, as far as their seeds show it."""
    difference = runs.compare(one, other, "margin_gap")
    if difference is None:
        # To the decimals that are shown beside it.
        ours, theirs = (round(fmean(arm.values("margin_gap").values()), 3) for arm in (one, other))
        word = "as much as" if ours == theirs else "less than" if ours < theirs else "more than"
        these = "this one run" if len(one.runs) == len(other.runs) == 1 else "these runs, which share hardly a seed"
        return f"{one.name} overfits {word} {other.name} in {these}"
    if difference.within_noise:
        return f"{one.name} is not shown to overfit less or more than {other.name}"
    return f"{one.name} overfits {'less' if difference.mean < 0 else 'more'} than {other.name}"


def _of_evaluation(compared: Sequence[Comparison]) -> str:
    pairs = list(dict.fromkeys((one.arm, one.other) for one in compared))
    if not pairs:
        return ""
    pair = QUESTION if QUESTION in pairs else pairs[-1]
    of_both = [one for one in compared if (one.arm, one.other) == pair]
    counts, total = Counter(one.outcome for one in of_both), len(of_both)
    said = [f"{outcome} in {counts[outcome]}" for outcome in ("better", "worse") if counts[outcome]]
    if not said:
        return f"evaluated, {pair[0]} is not shown to differ from {pair[1]} in any of {total} metrics"
    alone = sum(one.of_these_runs for one in of_both)
    which = "" if alone == sum(counts[outcome] for outcome in ("better", "worse")) else f"{alone} of them of "
    end = f" ({which}{THESE_RUNS})" if alone else ""
    return f"evaluated, {pair[0]} is {' and '.join(said)} of {total} metrics than {pair[1]}{end}"


def _sure(
    known: Imbalance | None, arms: Sequence[Arm], compared: Sequence[Comparison], pairs_error: tuple[int, float] | None
) -> str:
    if arms:
        said = [_of_seeds(arms)]
        if any(arm.over_prompts for arm in arms):
            said.append("brackets hold 95% intervals over the prompts")
        if pairs_error and pairs_error[1]:
            count, error = pairs_error
            said.append(f"accuracies are of {count:,} held-out pairs (standard error up to {error:.3f})")
    else:
        said = ["These numbers are of these pairs and this model alone; nothing was trained"]
    if compared:
        prompts = max(one.difference.prompts for one in compared)
        corrected = f", corrected for all {len(compared)} comparisons" if len(compared) > 1 else ""
        said.append(f"evaluations compare the same prompts (at most {prompts:,}){corrected}")
    if known and (warning := known.length.warning()):
        said.append(f"beware, {warning}")
    return "; ".join(said) + "."


def _of_seeds(arms: Sequence[Arm]) -> str:
    fewest, most = (pick(len(arm.runs) for arm in arms) for pick in (min, max))
    if most == 1:
        if len(arms) == 1:
            return f"One seed, so no interval over seeds: this is of this very run, and a claim needs {FEW_SEEDS}"
        return f"One seed an arm: no interval over seeds, a difference may be chance, a claim needs {FEW_SEEDS}"
    if fewest < FEW_SEEDS:
        return f"Fewer than {FEW_SEEDS} seeds for some arms: of them a difference may be chance"
    return f"{fewest if fewest == most else f'{fewest} to {most}'} seeds an arm"
