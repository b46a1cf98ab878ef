"""params.yaml as typed, validated models. Every default lives here, once; every key says what it means.

`python -m curate.project.params` prints the commented params.yaml that the defaults amount to; a preset is the same
file with other values.
"""

from curate.project.params.arms import DEFAULT_ARMS, OBJECTIVES, WEIGHTED, ArmName, ArmParams
from curate.project.params.data import CleaningParams, DataParams, is_file
from curate.project.params.evaluate import EvaluateParams
from curate.project.params.model import ModelParams, ReferenceParams
from curate.project.params.reader import check, load
from curate.project.params.results import REPOSITORY, PublishParams, ReportParams, is_repository
from curate.project.params.score import ScoreParams
from curate.project.params.section import (
    LARGEST_SEED,
    MANY,
    SAMPLE_FOLDER,
    Count,
    Dtype,
    Fraction,
    Positive,
    Section,
    Seed,
    TrainingDtype,
)
from curate.project.params.selection import SplitParams, WeighParams
from curate.project.params.train import IDLE_KEYS, PIPELINE_KEYS, TrainParams
from curate.project.params.whole import Params
from curate.project.params.writer import to_yaml, without_credentials

__all__ = [
    "DEFAULT_ARMS",
    "IDLE_KEYS",
    "LARGEST_SEED",
    "MANY",
    "OBJECTIVES",
    "PIPELINE_KEYS",
    "REPOSITORY",
    "SAMPLE_FOLDER",
    "WEIGHTED",
    "ArmName",
    "ArmParams",
    "CleaningParams",
    "Count",
    "DataParams",
    "Dtype",
    "EvaluateParams",
    "Fraction",
    "ModelParams",
    "Params",
    "Positive",
    "PublishParams",
    "ReferenceParams",
    "ReportParams",
    "ScoreParams",
    "Section",
    "Seed",
    "SplitParams",
    "TrainParams",
    "TrainingDtype",
    "WeighParams",
    "check",
    "is_file",
    "is_repository",
    "load",
    "to_yaml",
    "without_credentials",
]
