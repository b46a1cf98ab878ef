"""Subsets and weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curate.project.params.section import Section, Seed


class SplitParams(Section):
    """D_balanced, D_imbalanced and D_random, of one size [ours]."""

    normalisation: Literal["per_token", "total", "sqrt", "residual"] = Field(
        "per_token",
        description="the gap's form, here and in `weigh`: MI per token, in total, per square root of the tokens, or "
        "the per-token gap without what length explains",
    )
    fraction: float = Field(1 / 3, gt=0, le=0.5, description="share of the training pairs in each subset")
    match: list[Literal["sign", "length", "total_length"]] = Field(
        ["sign", "length"],
        description="what subsets are matched in besides query type: the sign of the gap, the token-length difference "
        "(length), the tokens of both responses (total_length)",
    )
    length_bins: int = Field(4, ge=1, le=1000, description="quantile bins for matching each length")
    seed: Seed = Field(0, description="seed of the random subset")


class WeighParams(Section):
    """w_w, w_l and s of every pair [ours]."""

    scheme: Literal["tanh", "power", "geometric", "none"] = Field(
        "tanh", description="formula of the weights (docs/method.md)"
    )
    alpha: float = Field(1.5, ge=0, le=1000, description="strength of the weights; 0 is DPO; the paper finds 1.5 best")
    direction: Literal["higher_mi_lower_weight", "higher_mi_higher_weight"] = Field(
        "higher_mi_lower_weight",
        description="which response gets the lower weight: the one of higher MI, or of lower",
    )
    scaling: Literal["norm", "none", "constant"] = Field(
        "norm", description="pair_scale: norm (the gradient's coefficient norm stays DPO's), none or constant"
    )
    constant: float = Field(1.0, gt=0, le=1000, description="pair_scale where scaling is `constant`")
    normalisation: Literal["as_split", "per_token", "total", "sqrt", "residual"] = Field(
        "as_split", description="the gap's form: that of `split` (per_token without a split), or another"
    )

    @model_validator(mode="after")
    def _scheme_has_its_numbers(self) -> WeighParams:
        if self.scheme == "power" and self.normalisation == "residual":
            raise ValueError("scheme power weighs by the MI of each response; normalisation residual has only the gap")
        return self
