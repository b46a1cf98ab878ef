"""The reference model, and the one that is trained from scratch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from curate.project.params.section import SAMPLE_FOLDER, Count, Positive, Section, Seed


class ModelParams(Section):
    """The reference model: it comprehends (scores) the pairs, and training starts from it."""

    name: str = Field(
        "scratch", description="`scratch` (trained by the reference stage), a local folder, or a Hub id", min_length=1
    )
    revision: str | None = Field(None, description="Hub branch, tag or commit; resolved to a commit and recorded")
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: the model's folder where `name` is one, else curate/sample",
        min_length=1,
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")


class ReferenceParams(Section):
    """The model that `model.name: scratch` trains; without effect for any other model."""

    texts: list[str] = Field(
        ["sample"],
        description="what it reads: `sample`, preference files (training pairs), .txt, .txt.gz, instruction .json",
        min_length=1,
    )
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: a file or folder that has all files of `texts`, else curate/sample",
        min_length=1,
    )
    text_tokens: Count = Field(0, description="of each plain-text file, read at most this many tokens (0: all of it)")
    vocab_size: int = Field(2048, ge=300, le=65536, description="entries of the byte-level BPE tokenizer")
    hidden_size: int = Field(
        128, ge=1, le=65536, description="width; hidden_size / heads must be 32, 64, 96 or 128 for vLLM"
    )
    layers: int = Field(3, ge=1, le=1024, description="transformer blocks")
    heads: int = Field(4, ge=1, le=1024, description="attention heads")
    context: int = Field(512, ge=64, le=2**20, description="longest sequence, tokens")
    steps: Positive = Field(350, description="optimiser steps")
    batch_tokens: Positive = Field(2048, description="tokens per step")
    optimizer: Literal["muon", "adamw"] = Field(
        "muon",
        description="muon (for the layers' matrices, AdamW for the rest) or adamw, which takes nearly twice the steps; "
        "adamw if only a learning rate is given",
    )
    learning_rate: float = Field(
        6e-3, gt=0, le=10, description="peak learning rate; warm-up over 5% of the steps, cosine to a tenth"
    )
    null_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of dialogues with an empty user turn, so that log p(y|null) is in distribution",
    )
    seed: Seed = Field(0, description="seed of the initial weights and the order of the texts")

    @model_validator(mode="before")
    @classmethod
    def _as_before(cls, given: Any) -> Any:
        """Files from before there was a choice have AdamW's learning rate."""
        if isinstance(given, dict) and "learning_rate" in given and "optimizer" not in given:
            return given | {"optimizer": "adamw"}
        return given

    @model_validator(mode="after")
    def _head_dim(self) -> ReferenceParams:
        if self.hidden_size % self.heads or self.hidden_size // self.heads not in (32, 64, 96, 128):
            raise ValueError(
                f"hidden_size / heads is {self.hidden_size}/{self.heads}; it must be 32, 64, 96 or 128 (vLLM's kernels)"
            )
        return self
