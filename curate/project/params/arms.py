"""Training arms: an objective on all or some training pairs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from curate.project.params.section import Section
from curate.project.params.selection import WeighParams
from curate.project.params.train import PIPELINE_KEYS, TrainParams

OBJECTIVES = ("bdpo", "dpo", "ipo", "cpo", "simpo", "safedpo", "wpo", "kldpo", "cdpo", "door", "w-door")
WEIGHTED = ("bdpo",)
"""Those whose loss takes the columns of `weigh`; for all others they are 1."""
ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""A folder's name, and a key's: DVC reads a dot as a path."""


class ArmParams(Section):
    """One training arm: an objective on all or some training pairs."""

    objective: Literal[*OBJECTIVES] = Field("dpo", description=", ".join(OBJECTIVES))  # type: ignore[valid-type]
    subset: Literal["all", "balanced", "imbalanced", "random"] = Field("all", description="which training pairs")
    balance_weight: bool = Field(True, description="bdpo: use chosen_weight and rejected_weight (BW); else 1")
    scaling_factor: bool = Field(True, description="bdpo: use pair_scale (SF); else 1")
    weigh: dict[str, Any] = Field({}, description="bdpo: keys of `weigh` that this arm has otherwise")
    settings: dict[str, float] = Field({}, description="of the objective, by name (`curate objectives` lists them)")
    train: dict[str, Any] = Field({}, description="keys of `train` that this arm has otherwise")

    @model_validator(mode="after")
    def _fits_the_objective(self) -> ArmParams:
        if self.objective not in WEIGHTED and not (self.balance_weight and self.scaling_factor and not self.weigh):
            raise ValueError("balance_weight, scaling_factor and weigh are bdpo's")
        if self.weigh.get("normalisation") == "as_split":
            raise ValueError("weigh.normalisation: as_split is what an arm has without this key")
        for name, section, barred in (("weigh", WeighParams, ()), ("train", TrainParams, PIPELINE_KEYS)):
            given = getattr(self, name)
            if unknown := set(given) - (set(section.model_fields) - set(barred)):
                raise ValueError(f"{name} has no key {', '.join(sorted(unknown))} that an arm may set")
            try:
                section.model_validate(given)
            except ValidationError as error:
                fault = error.errors()[0]
                raise ValueError(f"{name}.{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
        return self

    @property
    def reads_weights(self) -> bool:
        """Whether what `weigh` adds to the pairs reaches this arm's loss."""
        return self.objective in WEIGHTED and (self.balance_weight or self.scaling_factor)

    def training(self, shared: TrainParams) -> TrainParams:
        """`shared` with what this arm has otherwise."""
        own = TrainParams.model_validate(self.train)
        return shared.model_copy(update={name: getattr(own, name) for name in self.train})

    def weighing(self, shared: WeighParams) -> WeighParams:
        """`shared` with what this arm has otherwise."""
        own = WeighParams.model_validate(self.weigh)
        return shared.model_copy(update={name: getattr(own, name) for name in self.weigh})

    def record(self) -> dict[str, Any]:
        """The keys that say something: the objective, and what differs from the defaults."""
        return {"objective": self.objective} | self.model_dump(exclude_defaults=True)


DEFAULT_ARMS = {
    "dpo": ArmParams(),
    "bdpo": ArmParams(objective="bdpo"),
    "bw": ArmParams(objective="bdpo", scaling_factor=False),
    "sf": ArmParams(objective="bdpo", balance_weight=False),
    "dpo-balanced": ArmParams(subset="balanced"),
    "dpo-imbalanced": ArmParams(subset="imbalanced"),
    "dpo-random": ArmParams(subset="random"),
    **{name: ArmParams(objective=name) for name in OBJECTIVES[2:]},
}
