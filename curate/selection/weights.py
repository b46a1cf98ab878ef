"""Balance weights w_w, w_l and scaling factor s of every pair. [ours: docs/method.md, Weights]

The paper states that the response of higher mutual information gets the lower weight and that a scaling
factor keeps the gradient's magnitude stable; its equations were not to be found, so these are ours, each a
named choice. d = MI(x, y_w) - MI(x, y_l), nats/token, in the form of `weigh.normalisation`, is the column balance_gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import ValidationError

from curate import __version__
from curate.base.errors import InputError
from curate.project.params import WeighParams
from curate.selection import gap, measure
from curate.selection.length import explained

TANH_BOUND = 4.0  # |alpha d| beyond which tanh weights stop moving
POWER_FLOOR = 0.01  # nats/token: MI below it counts as this much
GEOMETRIC_BOUNDS = (0.2, 5.0)


def settled(params: WeighParams, before: Any) -> WeighParams:
    """`params` with the form that `as_split` means by the provenance of what is weighed."""
    if params.normalisation != measure.AS_SPLIT:
        return params
    return params.model_copy(update={"normalisation": measure.normalisation(before)})


def balance_weights(params: WeighParams) -> tuple[pl.Expr, pl.Expr]:
    """(w_w, w_l) as expressions over balance_gap; for `power` over _chosen_mi and _rejected_mi.

    tanh       dc = clip(d, -4/alpha, +4/alpha); w_w = 1 - tanh(alpha dc / 2), w_l = 1 + tanh(alpha dc / 2)
    power      M = max(MI, 0.01); w_w = 2 M_l^alpha / (M_w^alpha + M_l^alpha), w_l = 2 - w_w
    geometric  w_w = exp(-alpha d / 2), w_l = exp(alpha d / 2), each clipped to [0.2, 5]
    none       1, 1

    alpha = 0 gives (1, 1) in every scheme. `direction: higher_mi_higher_weight` swaps the two.
    """
    alpha, d = params.alpha, pl.col("balance_gap")
    if params.scheme == "tanh":
        half = ((alpha * d).clip(-TANH_BOUND, TANH_BOUND) / 2).tanh()
        weights = (1 - half, 1 + half)
    elif params.scheme == "power":
        # M_l^a / (M_w^a + M_l^a) as a logistic of the log ratio: no overflow at any alpha.
        log_ratio = pl.col("_chosen_mi").clip(POWER_FLOOR).log() - pl.col("_rejected_mi").clip(POWER_FLOOR).log()
        chosen = 2 / (1 + (alpha * log_ratio).exp())
        weights = (chosen, 2 - chosen)
    elif params.scheme == "geometric":
        weights = (
            (-alpha * d / 2).exp().clip(*GEOMETRIC_BOUNDS),
            (alpha * d / 2).exp().clip(*GEOMETRIC_BOUNDS),
        )
    else:
        weights = (pl.lit(1.0), pl.lit(1.0))
    return weights if params.direction == "higher_mi_lower_weight" else (weights[1], weights[0])


def scaling_factor(params: WeighParams, chosen: pl.Expr, rejected: pl.Expr) -> pl.Expr:
    """s. `norm`: sqrt(2 / (w_w^2 + w_l^2)), so that the gradient's coefficient norm stays DPO's sqrt(2)."""
    if params.scaling == "norm":
        return (2 / (chosen**2 + rejected**2)).sqrt()
    return pl.lit(params.constant if params.scaling == "constant" else 1.0)


def weigh(splits: pl.DataFrame, params: WeighParams, forms: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Add balance_gap, chosen_weight, rejected_weight and pair_scale (schema.WEIGHTS).

    Args:
        splits: the columns of schema.SCORES, and split.
        params: `settled`; as_split is per_token here.
        forms: columns that hold d already, and in which form (`measure.forms` of the file's provenance).

    Raises:
        InputError: no training pair to fit the gap's form on.
        UsageError: scheme power with the form residual.
    """
    form = _form(params)
    weighted = _with_sides(splits.with_columns(gap.gap(splits, form, forms).alias("balance_gap")), params)
    chosen, rejected = balance_weights(params)
    weighted = weighted.with_columns(
        chosen_weight=chosen.cast(pl.Float64),
        rejected_weight=rejected.cast(pl.Float64),
    )
    return weighted.with_columns(
        pair_scale=scaling_factor(params, pl.col("chosen_weight"), pl.col("rejected_weight")).cast(pl.Float64)
    ).drop("_chosen_mi", "_rejected_mi", strict=False)


def _form(params: WeighParams) -> str:
    return measure.PER_TOKEN if params.normalisation == measure.AS_SPLIT else params.normalisation


def _with_sides(frame: pl.DataFrame, params: WeighParams) -> pl.DataFrame:
    """With _chosen_mi and _rejected_mi where the scheme is of each response's MI."""
    if params.scheme != "power":
        return frame
    chosen, rejected = gap.information(frame, _form(params))
    return frame.with_columns(chosen.alias("_chosen_mi"), rejected.alias("_rejected_mi"))


def provenance(params: WeighParams, before: dict[str, Any]) -> dict[str, Any]:
    """`params` with the gap's form settled."""
    params = settled(params, before)
    return {"stage": "weigh", "version": __version__, "params": params.model_dump(), "from": before}


def params_of(provenance: Any) -> WeighParams | None:
    """The params in what `provenance` made; None where it is no such record, or of another version."""
    if not isinstance(provenance, dict) or provenance.get("stage") != "weigh":
        return None
    try:
        return WeighParams.model_validate(provenance.get("params"))
    except ValidationError:
        return None


def known_params(provenance: Any) -> WeighParams:
    """The same, for those who need them.

    Raises:
        InputError: `provenance` does not tell them.
    """
    params = params_of(provenance)
    if params is None:
        raise InputError(
            "how these pairs were weighed is not known: the file has no record of it, or one by another version",
            remedy="weigh them again: curate weigh",
        )
    return params


def at_bound(weighted: pl.DataFrame, params: WeighParams) -> float | None:
    """Share of pairs whose weights the scheme's bound or floor decides; None without pairs."""
    d = pl.col(gap.used(weighted, "balance_gap"))
    saturated = {
        "tanh": (params.alpha * d).abs() >= TANH_BOUND,
        "power": (pl.col("_chosen_mi") < POWER_FLOOR) | (pl.col("_rejected_mi") < POWER_FLOOR),
        "geometric": pl.col("chosen_weight").is_in(GEOMETRIC_BOUNDS)
        | pl.col("rejected_weight").is_in(GEOMETRIC_BOUNDS),
        "none": pl.lit(False),
    }[params.scheme]
    share: float | None = _with_sides(weighted, params).select(saturated.cast(pl.Float64).mean()).item()
    return share


def summarise(weighted: pl.DataFrame, params: WeighParams) -> dict[str, Any]:
    """weigh.json: the scheme, the gap's form and how much of it is length, and what became of the pairs.

    Args:
        params: `settled`.
    """
    columns = ("chosen_weight", "rejected_weight", "pair_scale")
    return {
        **params.model_dump(),
        **gap.describe(weighted, _form(params)),
        "length_explains": explained(weighted, "balance_gap")._asdict(),
        "pairs": weighted.height,
        "chosen_pushed_less": weighted.select((pl.col("chosen_weight") < pl.col("rejected_weight")).mean()).item(),
        "at_bound": at_bound(weighted, params),
        **{
            name: {"mean": weighted[name].mean()}
            | {f"q{int(q * 100):02d}": weighted[name].quantile(q, "linear") for q in (0.05, 0.5, 0.95)}
            for name in columns
        },
    }
