"""The whole params.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, model_validator

from curate.project.params.arms import DEFAULT_ARMS, ArmName, ArmParams
from curate.project.params.data import CleaningParams, DataParams
from curate.project.params.evaluate import EvaluateParams
from curate.project.params.model import ModelParams, ReferenceParams
from curate.project.params.results import PublishParams, ReportParams
from curate.project.params.score import ScoreParams
from curate.project.params.section import SAMPLE_FOLDER, Section
from curate.project.params.selection import SplitParams, WeighParams
from curate.project.params.train import TrainParams


class Params(Section):
    """The choices behind a result; what has no key is a constant of the code."""

    model: ModelParams = Field(default_factory=ModelParams)
    reference: ReferenceParams = Field(default_factory=ReferenceParams)
    data: DataParams = Field(default_factory=DataParams)
    cleaning: CleaningParams = Field(default_factory=CleaningParams)
    score: ScoreParams = Field(default_factory=ScoreParams)
    split: SplitParams = Field(default_factory=SplitParams)
    weigh: WeighParams = Field(default_factory=WeighParams)
    train: TrainParams = Field(default_factory=TrainParams)
    arms: dict[ArmName, ArmParams] = Field(
        default_factory=lambda: dict(DEFAULT_ARMS), description="Training arms by name; train.arms says which run."
    )
    evaluate: EvaluateParams = Field(default_factory=EvaluateParams)
    report: ReportParams = Field(default_factory=ReportParams)
    publish: PublishParams = Field(default_factory=PublishParams)

    @model_validator(mode="after")
    def _what_is_read_is_watched(self) -> Params:
        source = self.data.source
        _watches("data.watch", self.data.watch, self.data.watched())
        _watches("model.watch", self.model.watch, _folder(self.model.name))
        for key in ("judge", "attacker"):
            if f"{key}_watch" in self.evaluate.model_fields_set:  # a file of before has none, nor has its dvc.yaml
                folder = _folder(getattr(self.evaluate, f"{key}_model"))
                _watches(f"evaluate.{key}_watch", getattr(self.evaluate, f"{key}_watch"), folder)
        _covers("evaluate.watch", (self.evaluate.watch, self.evaluate.watch_also), self.evaluate.files())
        texts = (text for text in self.reference.texts if text not in ("sample", source))
        _covers("reference.watch", (self.reference.watch,), texts)
        if "watch" in self.train.model_fields_set:
            arms = (self.arms[name].training(self.train) for name in self.train.arms if name in self.arms)
            _covers("train.watch", (self.train.watch,), (arm.accelerate for arm in arms if arm.accelerate))
        return self

    @model_validator(mode="after")
    def _arms_exist(self) -> Params:
        if "base" in self.arms:
            raise ValueError("an arm cannot be named base: that is the model before training, in the evaluation")
        if "pairs" in self.arms:
            raise ValueError("an arm cannot be named pairs: report/metrics/pairs.json is not of an arm")
        for name in self.train.arms:
            if name not in self.arms:
                raise ValueError(f"train.arms names {name!r}, which is not in arms: {', '.join(self.arms)}")
        return self


def _folder(model: str | None) -> str:
    """The model's folder, where it is one or is written as one (`./judge`, which may not be made yet); else what never
    changes by itself."""
    is_folder = model and model != "scratch" and (Path(model).is_dir() or model.startswith(("./", "../", "/")))
    return model if model and is_folder else SAMPLE_FOLDER


def _watches(key: str, watched: str, expected: str) -> None:
    if watched != expected:
        raise ValueError(f"{key} must be {expected}, or its changes go unnoticed")


def _covers(key: str, watched: Iterable[str], files: Iterable[str]) -> None:
    folders = {Path(one) for one in watched}
    for file in files:
        if not folders & {Path(file), *Path(file).parents}:
            raise ValueError(f"{key} must be {file} or a folder above it, or its changes go unnoticed")
