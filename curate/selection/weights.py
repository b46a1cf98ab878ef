"""Balance weights w_w, w_l and scaling factor s of every pair. [ours, METHOD 1.2 and 1.3]

The paper states that the response of higher mutual information gets the lower weight and that a scaling
factor keeps the gradient's magnitude stable; its equations were not to be found, so these are ours, each a
named choice. d = MI(x, y_w) - MI(x, y_l), nats/token, is the column `pmi_gap`.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import ValidationError

from curate import __version__
from curate.project.params import WeighParams

TANH_BOUND = 4.0  # |alpha d| beyond which tanh weights stop moving
POWER_FLOOR = 0.01  # nats/token: MI below it counts as this much
GEOMETRIC_BOUNDS = (0.2, 5.0)


def balance_weights(params: WeighParams) -> tuple[pl.Expr, pl.Expr]:
    """(w_w, w_l) as expressions over chosen_pmi, rejected_pmi and pmi_gap.

    tanh       dc = clip(d, -4/alpha, +4/alpha); w_w = 1 - tanh(alpha dc / 2), w_l = 1 + tanh(alpha dc / 2)
    power      M = max(MI, 0.01); w_w = 2 M_l^alpha / (M_w^alpha + M_l^alpha), w_l = 2 - w_w
    geometric  w_w = exp(-alpha d / 2), w_l = exp(alpha d / 2), each clipped to [0.2, 5]
    none       1, 1

    alpha = 0 gives (1, 1) in every scheme. `direction: higher_mi_higher_weight` swaps the two.
    """
    alpha, gap = params.alpha, pl.col("pmi_gap")
    if params.scheme == "tanh":
        half = ((alpha * gap).clip(-TANH_BOUND, TANH_BOUND) / 2).tanh()
        weights = (1 - half, 1 + half)
    elif params.scheme == "power":
        # M_l^a / (M_w^a + M_l^a) as a logistic of the log ratio: no overflow at any alpha.
        log_ratio = pl.col("chosen_pmi").clip(POWER_FLOOR).log() - pl.col("rejected_pmi").clip(POWER_FLOOR).log()
        chosen = 2 / (1 + (alpha * log_ratio).exp())
        weights = (chosen, 2 - chosen)
    elif params.scheme == "geometric":
        weights = (
            (-alpha * gap / 2).exp().clip(*GEOMETRIC_BOUNDS),
            (alpha * gap / 2).exp().clip(*GEOMETRIC_BOUNDS),
        )
    else:
        weights = (pl.lit(1.0), pl.lit(1.0))
    return weights if params.direction == "higher_mi_lower_weight" else (weights[1], weights[0])


def scaling_factor(params: WeighParams, chosen: pl.Expr, rejected: pl.Expr) -> pl.Expr:
    """s. `norm`: sqrt(2 / (w_w^2 + w_l^2)), so that the gradient's coefficient norm stays DPO's sqrt(2)."""
    if params.scaling == "norm":
        return (2 / (chosen**2 + rejected**2)).sqrt()
    return pl.lit(params.constant if params.scaling == "constant" else 1.0)


def weigh(splits: pl.DataFrame, params: WeighParams) -> pl.DataFrame:
    """Add chosen_weight, rejected_weight and pair_scale (schema.WEIGHTS); needs the columns of schema.SCORES."""
    chosen, rejected = balance_weights(params)
    weighted = splits.with_columns(
        chosen_weight=chosen.cast(pl.Float64),
        rejected_weight=rejected.cast(pl.Float64),
    )
    return weighted.with_columns(
        pair_scale=scaling_factor(params, pl.col("chosen_weight"), pl.col("rejected_weight")).cast(pl.Float64)
    )


def unweighted(splits: pl.DataFrame) -> pl.DataFrame:
    """The pairs with every weight and scale 1, for arms whose loss has none."""
    return weigh(splits, WeighParams(scheme="none", scaling="none"))


def provenance(params: WeighParams, before: dict[str, Any]) -> dict[str, Any]:
    return {"stage": "weigh", "version": __version__, "params": params.model_dump(), "from": before}


def params_of(provenance: Any) -> WeighParams | None:
    """The params in what `provenance` made; None where it is no such record, or of another version."""
    if not isinstance(provenance, dict) or provenance.get("stage") != "weigh":
        return None
    try:
        return WeighParams.model_validate(provenance.get("params"))
    except ValidationError:
        return None


def at_bound(weighted: pl.DataFrame, params: WeighParams) -> float | None:
    """Share of pairs whose weights the scheme's bound or floor decides; None without pairs."""
    saturated = {
        "tanh": (params.alpha * pl.col("pmi_gap")).abs() >= TANH_BOUND,
        "power": (pl.col("chosen_pmi") < POWER_FLOOR) | (pl.col("rejected_pmi") < POWER_FLOOR),
        "geometric": pl.col("chosen_weight").is_in(GEOMETRIC_BOUNDS)
        | pl.col("rejected_weight").is_in(GEOMETRIC_BOUNDS),
        "none": pl.lit(False),
    }[params.scheme]
    share: float | None = weighted.select(saturated.cast(pl.Float64).mean()).item()
    return share


def summarise(weighted: pl.DataFrame, params: WeighParams) -> dict[str, Any]:
    """weigh.json: the scheme, and what it did to the pairs."""
    columns = ("chosen_weight", "rejected_weight", "pair_scale")
    return {
        **params.model_dump(),
        "pairs": weighted.height,
        "chosen_pushed_less": weighted.select((pl.col("chosen_weight") < pl.col("rejected_weight")).mean()).item(),
        "at_bound": at_bound(weighted, params),
        **{
            name: {"mean": weighted[name].mean()}
            | {f"q{int(q * 100):02d}": weighted[name].quantile(q, "linear") for q in (0.05, 0.5, 0.95)}
            for name in columns
        },
    }
