"""Which pairs, and the rules that clean them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from curate.base import limits
from curate.base.errors import UsageError
from curate.project.params.section import SAMPLE_FOLDER, Count, Fraction, Section, Seed

WRITTEN = (("data",), ("runs",), ("report",), ("curate",))
"""Folders of a project that the pipeline writes into."""


def is_file(source: str) -> bool:
    """Whether a source of data is a file's name: neither `sample` nor hub:owner/name."""
    return source != "sample" and not source.startswith("hub:")


class DataParams(Section):
    """Which pairs."""

    source: str = Field(
        "sample", description="`sample`, a file (JSON, JSONL, CSV, TSV, Parquet, also .gz or .zst), or hub:owner/name"
    )
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: the source itself where it is a file (its folder where format is "
        "dataset_info), else curate/sample",
        min_length=1,
    )
    format: str = Field("auto", description="a name that `curate prepare --help` lists; `auto` looks at the rows")
    fields: dict[str, str] = Field(
        {}, description="for a file in no known format: our name of a field -> the file's, e.g. {prompt: question}"
    )
    pairing: Literal["best", "adjacent", "all"] = Field(
        "best",
        description="rankings and single replies: pair each worse one with the best, the next better, or all better",
    )
    keep: list[str] = Field([], description="columns of the source to keep; NAME=COLUMN renames one")
    hub_config: str | None = Field(None, description="configuration of a Hub dataset, or a folder in it")
    hub_split: str = Field("train", description="split of a Hub dataset")
    hub_revision: str | None = Field(None, description="branch, tag or commit of a Hub dataset")
    input_limit: str | None = Field(
        None,
        description="largest file to read, unpacked, such as 20GB; none: 4 GiB, and 100 times a compressed file's size",
    )
    limit: Count = Field(0, description="read only the first rows, this many, for a try (0: all)")
    sample_pairs: int = Field(1600, ge=1, le=10**6, description="how many pairs `sample` makes")
    heldout_fraction: Fraction = Field(
        0.2, description="share of each query type's prompts that is kept out of training"
    )
    seed: Seed = Field(0, description="seed of the sample and of the held-out draw")

    @field_validator("input_limit")
    @classmethod
    def _is_a_size(cls, size: str | None) -> str | None:
        try:
            limits.bytes_of("0" if size is None else size, "input_limit")
        except UsageError as error:
            raise ValueError("a size, such as 20GB") from error
        return size

    def watched(self) -> str:
        """What DVC must watch: of a file that a dataset_info.json beside it describes, the folder of both.

        Raises:
            ValueError: that folder is the project, one around it, or has what the pipeline writes.
        """
        if not is_file(self.source):
            return SAMPLE_FOLDER
        if self.format != "dataset_info" or self.fields:
            return self.source
        folder = Path(self.source).parent
        seen = Path(os.path.relpath(folder) if folder.is_absolute() else os.path.normpath(folder))
        if set(seen.parts) <= {".."} or seen.parts in WRITTEN:
            raise ValueError("dataset_info.json and the file that it describes must have a folder of their own")
        return str(folder)

    def record(self) -> dict[str, Any]:
        """What a result depends on: all but how large a file may be."""
        return self.model_dump(exclude={"input_limit"})


class CleaningParams(Section):
    """Rules that are a choice; the others (empty, identical, malformed) always hold."""

    duplicates: Literal["drop", "keep"] = Field(
        "drop", description="what to do with an exact repeat of an earlier pair"
    )
    contradictions: Literal["drop_both", "keep_first", "keep"] = Field(
        "drop_both", description="what to do with the same two responses preferred in both directions"
    )
    max_pairs_per_prompt: Count = Field(0, description="keep at most this many pairs of a prompt, the first (0: all)")
    max_pairs_per_query_type: Count = Field(
        0, description="keep a draw of this many pairs of each query type, safe, unsafe, unknown (0: all)"
    )
    draw_seed: Seed = Field(0, description="seed of that draw")
