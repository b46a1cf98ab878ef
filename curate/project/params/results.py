"""The report, and the dataset on the Hub."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from curate.project.params.section import Section


class ReportParams(Section):
    """The figures and the page."""

    title: str = Field("B-DPO on the embedded sample", description="of the page")
    scatter_points: int = Field(
        4000, ge=1, le=10**6, description="points in the MI scatter's figure, a seeded draw beyond it"
    )
    compare_with: list[str] = Field(
        ["base", "dpo"],
        description="what every evaluated arm is compared with, where it is there; base: the model before training",
    )
    examples: int = Field(
        6, ge=0, le=10_000, description="pairs shown (masked until clicked): largest gaps of either sign"
    )
    texts: int = Field(
        2000,
        ge=0,
        le=10**6,
        description="pairs at most whose texts the page holds (masked): the examples and a seeded draw; 0: none",
    )


_REPOSITORY = re.compile(r"(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9](?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)


def is_repository(name: str) -> bool:
    """Whether `name` is owner/name as the Hub's client takes it (`huggingface_hub.utils.validate_repo_id`)."""
    return bool(_REPOSITORY.fullmatch(name))


def _repository(name: str) -> str:
    if not is_repository(name):
        raise ValueError(REPOSITORY)
    return name


REPOSITORY = "owner/name, each of at most 96 letters, digits, - _ and .; no - or . at an end, no -- or .., no .git last"


class PublishParams(Section):
    """The weighted pairs as a dataset on the Hugging Face Hub."""

    repos: list[Annotated[str, AfterValidator(_repository)]] = Field(
        [], description="dataset repositories to push to, owner/name; none: nothing is published"
    )
    public: bool = Field(
        False, description="make a new repository public, or push to a public one; a private one stays private"
    )
    license: str | None = Field(
        None, description="the licence to publish under, by the Hub's identifier; none: the source's"
    )
    pretty_name: str | None = Field(None, description="title of the dataset; none: the card's own, or the name")
    language: list[str] = Field(
        ["en"], description="language of the texts, ISO 639-1; a card that names one keeps its own"
    )
    patience: float = Field(300, ge=0, le=10**6, description="how many seconds a busy or failing Hub is asked again")
