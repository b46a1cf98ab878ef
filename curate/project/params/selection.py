"""Subsets and weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curate.project.params.section import Section, Seed


class SplitParams(Section):
    """D_balanced, D_imbalanced and D_random, of one size (METHOD 1.5, ours)."""

    fraction: float = Field(1 / 3, gt=0, le=0.5, description="of the training pairs in each subset")
    match: list[Literal["sign", "length"]] = Field(
        ["sign", "length"],
        description="confounders held equal besides query type: the sign of the gap, the token-length difference",
    )
    length_bins: int = Field(4, ge=1, description="quantile bins of the token-length difference")
    seed: Seed = Field(0, description="of the random subset")


class WeighParams(Section):
    """w_w, w_l and s of every pair (METHOD 1.2 and 1.3, ours)."""

    scheme: Literal["tanh", "power", "geometric", "none"] = Field("tanh", description="tanh, power, geometric or none")
    alpha: float = Field(1.5, ge=0, description="strength; 0 is DPO; the paper finds 1.5 best")
    direction: Literal["higher_mi_lower_weight", "higher_mi_higher_weight"] = Field(
        "higher_mi_lower_weight",
        description="which response is pushed less: the one of higher MI, or of lower",
    )
    scaling: Literal["norm", "none", "constant"] = Field(
        "norm", description="pair_scale: norm (the gradient's coefficient norm stays DPO's), none or constant"
    )
    constant: float = Field(1.0, gt=0, description="pair_scale where scaling is `constant`")
