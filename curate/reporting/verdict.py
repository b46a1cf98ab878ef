"""Is there imbalance to balance, and how much of it is length: two sentences about weighted pairs [ours]."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.reporting.figures import finite
from curate.selection.gap import used
from curate.selection.length import Explained, explained
from curate.selection.measure import PER_TOKEN, forms

LITTLE, MUCH = 0.05, 0.2
"""Mean |chosen_weight - 1|: below the first B-DPO trains nearly as DPO does, above the second far from it [ours]."""
FORMS = {
    "per_token": "per token",
    "total": "in total, scaled",
    "sqrt": "by the root of the length, scaled",
    "residual": "with its regression on length taken off, scaled",
}
"""How the gap is normalised, in words."""


class Imbalance(NamedTuple):
    """What the verdict is made of."""

    pairs: int
    mean_gap: float  # mean |gap|, nats/token
    push: float  # mean |chosen_weight - 1|, no unit
    low: float  # the middle 90% of the chosen weight
    high: float
    length: Explained  # shares of the variance of the gap that the weights are made of
    form: str  # its normalisation


def imbalance(frame: pl.DataFrame, provenance: Any = None) -> Imbalance | None:
    """Of weighted pairs whose MI is finite, by the gap that their weights are made of; None without any."""
    scored = finite(frame).drop_nulls("chosen_weight")
    if scored.is_empty():
        return None
    gap = used(scored, "balance_gap", "subset_gap")
    weight = scored["chosen_weight"].to_numpy()
    low, high = np.quantile(weight, (0.05, 0.95))
    return Imbalance(
        pairs=scored.height,
        mean_gap=float(np.abs(scored[gap].to_numpy()).mean()),
        push=float(np.abs(weight - 1).mean()),
        low=float(low),
        high=float(high),
        length=explained(scored, gap),
        form=forms(provenance or {}).get(gap, PER_TOKEN),
    )


def sentences(found: Imbalance) -> list[str]:
    """Is there imbalance to balance; how much of it is length."""
    how = f"measured {FORMS.get(found.form, found.form)}"
    form = "" if found.form == PER_TOKEN else f" (gap {how})"
    about = (
        f"mean |gap| {found.mean_gap:.3f} nats/token{form}; the middle 90% of the chosen weights run from "
        f"{found.low:.2f} to {found.high:.2f}, where DPO has 1"
    )
    if found.push < LITTLE:
        first = f"There is hardly any imbalance to balance, and these weights train nearly as DPO does: {about}."
    elif found.push < MUCH:
        first = f"There is imbalance to balance: {about}."
    else:
        first = f"There is much imbalance to balance: {about}."
    if found.length.gap is None:
        return [first, f"How much of the gap, {how}, is length cannot be told: too few training pairs, or all alike."]
    if warning := found.length.warning():
        return [first, f"Beware: {warning} (gap {how})."]
    share = f"Length explains {found.length.gap:.0%} of the variance of the gap, {how}"
    return [first, f"{share}: the weights are not mainly weights of length."]
