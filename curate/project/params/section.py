"""What a section of params.yaml is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
SAMPLE_FOLDER = "curate/sample"
CONFIGS_FOLDER = "configs"
MANY = 10**9
"""Bound of whole numbers that nothing else bounds: tokens, pairs, steps."""
Positive = Annotated[int, Field(gt=0, le=MANY)]
Count = Annotated[int, Field(ge=0, le=MANY)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
