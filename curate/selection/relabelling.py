"""Which response is the chosen one, decided anew: by safety labels (SafeDPO, DOOR) or by reward and cost (C-DPO).

Everything that a row knows of a side changes places with it: `swap` goes by the names of the columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from curate.base.errors import InputError, UsageError
from curate.pairs.schema import GAPS, RATINGS, RELABELLED

SIGNED = ("pmi_gap", "margin", *GAPS)  # chosen minus rejected: the swap turns the sign
OTHER = {"chosen": "rejected", "rejected": "chosen"}
CONVERGED = 1e-6  # dual ascent ends where the expected cost is so near the limit


class Relabelled(NamedTuple):
    """What became of the pairs."""

    frame: pl.DataFrame
    swapped: int
    dropped: int


def swap(frame: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
    """Exchange chosen and rejected on the rows `where` (null: no).

    Every column with `chosen` in its name trades values with the one that says `rejected` instead (texts, labels,
    ratings, tokens, log-probabilities, weights); the gaps and the rater's margin turn their sign; the boolean
    `relabelled`, false where it was not there, is turned over. The others say the same of both orders, or (pair_id, the
    subsets) speak of the pair as it came.

    Raises:
        InputError: a column of one side has no partner, or one of another type.
    """
    mask = where.fill_null(False)
    have = frame.schema
    exchanged = []
    for name in have:
        other = _other_side(name)
        if other is None:
            continue
        if have.get(other) != have[name]:
            raise InputError(
                "a column of one response has no counterpart for the other, so the two cannot be exchanged",
                field=name,
                found=f"{other}: {have.get(other, 'missing')}",
                expected=f"{other}: {have[name]}",
                remedy=f"add it, or drop {name}",
            )
        exchanged.append(pl.when(mask).then(pl.col(other)).otherwise(pl.col(name)).alias(name))
    signed = [pl.when(mask).then(-pl.col(name)).otherwise(pl.col(name)).alias(name) for name in SIGNED if name in have]
    before = pl.col(RELABELLED) if RELABELLED in have else pl.lit(False)
    return frame.with_columns(*exchanged, *signed, (before ^ mask).alias(RELABELLED))


def _other_side(column: str) -> str | None:
    """The name of the other response's column; None for a column of neither."""
    other = re.sub("chosen|rejected", lambda side: OTHER[side.group()], column)
    return None if other == column else other


def safedpo(frame: pl.DataFrame) -> Relabelled:
    """SafeDPO's relabelling (arXiv 2505.20065): chosen unsafe and rejected safe change places; both unsafe is dropped.

    Args:
        frame: columns of schema.PAIRS at least.

    Raises:
        InputError: a row has no safety label.
    """
    check_labels(frame)
    chosen, rejected = pl.col("chosen_safe"), pl.col("rejected_safe")
    kept = frame.filter(chosen | rejected)
    return _swapped(kept, chosen.not_() & rejected, dropped=frame.height - kept.height)


def check_labels(frame: pl.DataFrame) -> None:
    """Refuse pairs without safety labels.

    Raises:
        InputError: a row has no safety label, which SafeDPO reads in its relabelling and in its loss.
    """
    _check(
        frame,
        ("chosen_safe", "rejected_safe"),
        pl.Expr.is_not_null,
        "the safety labels that SafeDPO relabels by are missing",
        "true or false on every row",
        "use a source with labels (PKU-SafeRLHF, or columns chosen_safe and rejected_safe), or another objective",
    )


def door(frame: pl.DataFrame) -> Relabelled:
    """What DOOR needs of a pair: a chosen response that is not unsafe, to refuse with or as benign data. [ours]

    Chosen unsafe and rejected safe change places, as SafeDPO has it: the safe response is then y_s or benign, the
    unsafe one y_h. Chosen unsafe and rejected not known to be safe is dropped. Where the source is silent of the chosen
    response the pair stays as it is.

    Args:
        frame: columns of schema.PAIRS at least.

    Returns:
        `frame` itself, without a column `relabelled`, where no chosen response is unsafe.
    """
    unsafe = pl.col("chosen_safe").not_().fill_null(False)
    safer = pl.col("rejected_safe").fill_null(False)
    kept = frame.filter(unsafe.not_() | safer)
    if not kept.select(unsafe.any()).item():
        return Relabelled(kept, 0, frame.height - kept.height)
    return _swapped(kept, unsafe & safer, dropped=frame.height - kept.height)


def cdpo(frame: pl.DataFrame, lambda_: float) -> Relabelled:
    """C-DPO's relabelling by r_lambda = r - lambda c (arXiv 2403.02475 [digest]); which of the two is chosen: [ours].

    The response of higher r_lambda is chosen; equal ones stay as they are. [ours]

    Args:
        frame: columns of schema.PAIRS and schema.RATINGS at least.
        lambda_: price of a unit of cost, in units of reward; >= 0.

    Raises:
        InputError: a rating is missing or not finite.
        UsageError: lambda is negative or no number.
    """
    _check_ratings(frame)
    _check_lambda(lambda_)
    return _swapped(frame, _advantage(lambda_) < 0)


def dual_ascent(frame: pl.DataFrame, limit: float, eta: float, rounds: int) -> tuple[float, pl.DataFrame]:
    """The lambda of the constraint E[c] <= limit, by lambda <- max(0, lambda + eta (E_lambda[c] - limit)). [digest]

    [ours] The expectation is over each pair's two responses, a with probability sigmoid(r_lambda(a) - r_lambda(b)):
    the preference model restricted to the pair. So it estimates the cost of the response that r_lambda prefers among
    those on file, not the cost of what a policy trained on that preference would say; only samples of the policy,
    rated, tell that.

    Stops after `rounds`, or once E_lambda[c] is within 1e-6 of the limit, or below it at lambda = 0. E_lambda[c] falls
    as lambda rises, so the ascent converges if eta is below 8 / E[(c_chosen - c_rejected)^2]; a larger one may swing,
    which the history shows.

    Args:
        frame: columns of schema.RATINGS at least.
        limit: C_limit, in the cost model's unit.
        eta: step, lambda per unit of cost; > 0.

    Returns:
        lambda, and a row for each value it took, the first one 0: round (from 0), lambda, expected_reward and
        expected_cost (under that lambda).

    Raises:
        InputError: a rating is missing or not finite, there is no pair, or no lambda keeps the limit.
        UsageError: eta or rounds makes no sense.
    """
    _check_ratings(frame)
    if not (eta > 0 and rounds >= 0):
        found = f"eta {eta}, rounds {rounds}"
        raise UsageError("dual ascent cannot step", found=found, expected="eta > 0, rounds >= 0")
    if frame.is_empty():
        raise InputError("there is no pair to find lambda on", remedy="prepare with more pairs, or another subset")
    lowest = frame.select(pl.min_horizontal("chosen_cost", "rejected_cost").mean()).item()
    if limit < lowest:
        raise InputError(
            "no lambda keeps the cost limit on these pairs",
            field="cost limit",
            found=limit,
            expected=f"at least {lowest:.4g}, the mean cost of each pair's less costly response",
            remedy="raise the limit, or add pairs with a response of lower cost",
        )
    history: list[tuple[int, float, float, float]] = []
    lambda_ = 0.0
    for number in range(rounds + 1):
        reward, cost = expected_ratings(frame, lambda_)
        history.append((number, lambda_, reward, cost))
        moved = max(0.0, lambda_ + eta * (cost - limit))
        if abs(moved - lambda_) < CONVERGED * eta or number == rounds:
            break
        lambda_ = moved
    schema = {"round": pl.Int64} | dict.fromkeys(("lambda", "expected_reward", "expected_cost"), pl.Float64)
    return lambda_, pl.DataFrame(history, schema=schema, orient="row")


def expected_ratings(frame: pl.DataFrame, lambda_: float) -> tuple[float, float]:
    """(E_lambda[r], E_lambda[c]), as `dual_ascent` has them."""
    chosen = _sigmoid(_advantage(lambda_))
    means = (
        (chosen * pl.col(f"chosen_{rating}") + (1 - chosen) * pl.col(f"rejected_{rating}")).mean().alias(rating)
        for rating in ("reward", "cost")
    )
    reward, cost = frame.select(*means).row(0)
    return reward, cost


def _swapped(frame: pl.DataFrame, where: pl.Expr, dropped: int = 0) -> Relabelled:
    mask = frame.select(where.alias("_swap")).to_series()
    return Relabelled(swap(frame, pl.lit(mask)), int(mask.sum()), dropped)


def _advantage(lambda_: float) -> pl.Expr:
    """r_lambda(chosen) - r_lambda(rejected)."""
    reward = pl.col("chosen_reward") - pl.col("rejected_reward")
    return reward - lambda_ * (pl.col("chosen_cost") - pl.col("rejected_cost"))


def _sigmoid(x: pl.Expr) -> pl.Expr:
    return 1 / (1 + (-x).exp())  # exp may overflow to infinity: then 0, as it should be


def _check_lambda(lambda_: float) -> None:
    if not 0 <= lambda_ < float("inf"):
        raise UsageError("lambda must be 0 or more", field="lambda", found=lambda_, expected="a finite number >= 0")


def _check_ratings(frame: pl.DataFrame) -> None:
    _check(
        frame,
        tuple(RATINGS),
        pl.Expr.is_finite,
        "the ratings that C-DPO relabels by are missing",
        "a finite number on every row",
        "rate the pairs with `curate rate --reward MODEL --cost MODEL`, or use a source that has these columns",
    )


def _check(
    frame: pl.DataFrame,
    columns: tuple[str, ...],
    good: Callable[[pl.Expr], pl.Expr],
    what: str,
    expected: str,
    remedy: str,
) -> None:
    """Raise `InputError` unless `good` holds of each of `columns` on every row."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(what, field=", ".join(missing), found="no such column", expected=expected, remedy=remedy)
    bad = {name: pl.col(name).is_null() | good(pl.col(name)).not_() for name in columns}
    rows = frame.filter(pl.any_horizontal(*bad.values()))
    if rows.is_empty():
        return
    counts = frame.select(wrong.sum().alias(name) for name, wrong in bad.items()).row(0, named=True)
    first = rows.row(0, named=True)
    raise InputError(
        what,
        file=first.get("source"),
        row=first.get("source_row"),
        field=", ".join(name for name, count in counts.items() if count),
        found=f"none on {rows.height:,} of {frame.height:,} rows",
        expected=expected,
        remedy=remedy,
    )
