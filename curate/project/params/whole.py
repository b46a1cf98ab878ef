"""The whole params.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from curate.project.params.arms import DEFAULT_ARMS, ArmName, ArmParams
from curate.project.params.data import CleaningParams, DataParams
from curate.project.params.evaluate import SUITE_FILES, EvaluateParams
from curate.project.params.model import ModelParams, ReferenceParams
from curate.project.params.results import PublishParams, ReportParams
from curate.project.params.score import ScoreParams
from curate.project.params.section import SAMPLE_FOLDER, Section
from curate.project.params.selection import SplitParams, WeighParams
from curate.project.params.train import TrainParams


class Params(Section):
    """Everything that changes a result."""

    model: ModelParams = Field(default_factory=ModelParams)
    reference: ReferenceParams = Field(default_factory=ReferenceParams)
    data: DataParams = Field(default_factory=DataParams)
    cleaning: CleaningParams = Field(default_factory=CleaningParams)
    score: ScoreParams = Field(default_factory=ScoreParams)
    split: SplitParams = Field(default_factory=SplitParams)
    weigh: WeighParams = Field(default_factory=WeighParams)
    train: TrainParams = Field(default_factory=TrainParams)
    arms: dict[ArmName, ArmParams] = Field(
        default_factory=lambda: dict(DEFAULT_ARMS),
        description="Training arms by name; train.arms says which run.",
    )
    evaluate: EvaluateParams = Field(default_factory=EvaluateParams)
    report: ReportParams = Field(default_factory=ReportParams)
    publish: PublishParams = Field(default_factory=PublishParams)

    @model_validator(mode="after")
    def _source_is_watched(self) -> Params:
        source = self.data.source
        expected = SAMPLE_FOLDER if source == "sample" or source.startswith("hub:") else source
        if self.data.watch != expected:
            raise ValueError(f"data.watch must be {expected}, or a change of the source would go unnoticed")
        is_folder = self.model.name != "scratch" and Path(self.model.name).is_dir()
        expected = self.model.name if is_folder else SAMPLE_FOLDER
        if self.model.watch != expected:
            raise ValueError(f"model.watch must be {expected}, or a change of the model would go unnoticed")
        for suite in self.evaluate.suites:
            _, named, source = suite.partition("=")
            watched = Path(self.evaluate.watch)
            options = self.evaluate.options.get(suite.partition("=")[0], {})
            read = [str(options[name]) for name in SUITE_FILES if options.get(name)]
            if named and source != "sample" and not source.startswith("hub:"):
                read.append(source)
            for file in read:
                if watched not in (Path(file), *Path(file).parents):
                    raise ValueError(f"evaluate.watch must be {file} or a folder above it, or its changes go unnoticed")
        watched = Path(self.reference.watch)
        for text in self.reference.texts:
            if text not in ("sample", self.data.source) and watched != Path(text) and watched not in Path(text).parents:
                raise ValueError(f"reference.watch must be {text} or a folder above it, or its changes go unnoticed")
        return self

    @model_validator(mode="after")
    def _arms_exist(self) -> Params:
        if "base" in self.arms:
            raise ValueError("an arm cannot be named base: that is the model before training, in the evaluation")
        for name in self.train.arms:
            if name not in self.arms:
                raise ValueError(f"train.arms names {name!r}, which is not in arms: {', '.join(self.arms)}")
        return self
