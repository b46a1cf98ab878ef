"""What a section of params.yaml is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

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
Dtype = Literal["float32", "bfloat16", "float16"]
"""Of a model's weights and activations where it is only run."""
TrainingDtype = Literal["float32", "bfloat16"]
"""float16 would need its losses scaled."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic takes true, "3" and 3.0 for whole numbers, and 1 for true: DVC, which reads the file too, does not.

        A number that is none in YAML 1.1 stays: 1e-3 is a word there.
        """
        kinds = set(_kinds(cls.model_fields[str(info.field_name)].annotation))
        for one in _values(value):
            if kinds & {int, float} and isinstance(one, bool) and bool not in kinds:
                raise ValueError(f"Input should be a valid {'integer' if int in kinds else 'number'}")
            if int in kinds and isinstance(one, str | float) and not kinds & {str, float}:
                raise ValueError("Input should be a valid integer, written as one")
            if bool in kinds and isinstance(one, str | int | float) and not isinstance(one, bool):
                raise ValueError("Input should be true or false")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types of the values that `annotation` allows, those within lists and dictionaries too."""
    if get_origin(annotation) is Literal:
        return
    if not get_args(annotation):
        yield annotation
    elif get_origin(annotation) is dict:
        yield from _kinds(get_args(annotation)[1])
    else:
        for part in get_args(annotation):
            yield from _kinds(part)


def _values(value: Any) -> Iterator[Any]:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    if within is None:
        yield value
        return
    for part in within:
        yield from _values(part)
