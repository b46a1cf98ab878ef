"""What a section of params.yaml is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
LARGEST_SEED = 2**32 - 1
"""NumPy's and transformers' bound."""
Seed = Annotated[int, Field(ge=0, lt=LARGEST_SEED + 1)]
SAMPLE_FOLDER = "curate/sample"
CONFIGS_FOLDER = "configs"
MANY = 10**9
"""Bound of whole numbers that nothing else bounds: tokens, pairs, steps."""
Positive = Annotated[int, Field(gt=0, le=MANY)]
Count = Annotated[int, Field(ge=0, le=MANY)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
