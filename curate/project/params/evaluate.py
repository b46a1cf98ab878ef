"""What models are evaluated on, and who judges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from curate.project.params.data import is_file
from curate.project.params.section import SAMPLE_FOLDER, Count, Dtype, Positive, Section, Seed

SUITE_FILES = ("suffixes", "templates", "include_path")
"""Options of suites that name files."""
WATCHES = ("watch", "watch_also", "judge_watch", "attacker_watch")
"""Keys of `evaluate` that say what DVC watches, and nothing of how a model is evaluated."""


class EvaluateParams(Section):
    """What the trained arms, and the model they started from (`base`), are evaluated on."""

    suites: list[str] = Field(
        ["sample", "prefill=sample"],
        description="NAME or NAME=SOURCE, a file, hub:owner/name or `sample`; `curate suites` lists the names",
    )
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: a file or folder that has all files of `suites`, else curate/sample",
        min_length=1,
    )
    watch_also: str = Field(
        SAMPLE_FOLDER,
        description="a second such file or folder, where the suites' files have no folder of their own in common",
        min_length=1,
    )
    judge_watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: judge_model's folder where it is one, else curate/sample",
        min_length=1,
    )
    attacker_watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: attacker_model's folder where it is one, else curate/sample",
        min_length=1,
    )
    limit: Count = Field(0, description="draw this many prompts of each part of a suite (0: all)")
    seed: Seed = Field(0, description="seed of the draws of items, answers and attacks")
    engine: Literal["auto", "vllm", "transformers"] = Field(
        "auto",
        description="what generates; auto: on a GPU vllm if it is installed and runs the model, else transformers",
    )
    dtype: Dtype = Field("float32", description="number format of the model under test")
    max_tokens: Positive = Field(96, description="longest answer, tokens")
    temperature: float = Field(0.0, ge=0, le=100, description="sampling temperature; 0: always the likeliest token")
    top_p: float = Field(
        1.0, gt=0, le=1, description="nucleus sampling: the share of probability that tokens are drawn from"
    )
    judge: Literal["none", "rubric", "strongreject", "classifier"] = Field(
        "none",
        description="rubric (an instruct model reads the rubric), strongreject (the fine-tuned evaluator), classifier "
        "(a safety classifier), none: string matching of refusals alone; the suite `sample` has its own",
    )
    judge_model: str | None = Field(None, description="the judge: a folder, or a Hub id")
    judge_revision: str | None = Field(None, description="branch, tag or commit of a Hub judge")
    judge_url: str | None = Field(
        None, description="rubric: an OpenAI-compatible endpoint that serves judge_model, instead of this machine"
    )
    judge_dtype: Dtype = Field("float32", description="number format of a judge on this machine")
    judge_label: str | None = Field(None, description="classifier: the label that means harmful")
    attacker_model: str | None = Field(None, description="pair: the model that writes attacks: a folder, or a Hub id")
    attacker_url: str | None = Field(None, description="pair: an endpoint that serves it, instead of this machine")
    options: dict[str, dict[str, Any]] = Field({}, description="a suite's own settings, by its name")

    @model_validator(mode="after")
    def _judge_is_named(self) -> EvaluateParams:
        if (self.judge == "none") != (self.judge_model is None):
            raise ValueError("judge and judge_model go together: name both, or neither")
        if self.judge_url and self.judge != "rubric":
            raise ValueError("judge_url is for judge: rubric; the others run on this machine")
        return self

    def files(self) -> Iterator[str]:
        """The files that the suites read, their options' too."""
        for suite in self.suites:
            name, _, source = suite.partition("=")
            options = self.options.get(name, {})
            yield from (str(options[key]) for key in SUITE_FILES if options.get(key))
            if source and is_file(source):
                yield source
