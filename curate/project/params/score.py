"""How pairs are scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curate.project.params.section import Count, Dtype, Section, Seed


class ScoreParams(Section):
    """log pi_ref(y|x) and log pi_ref(y|null) of both responses."""

    engine: Literal["auto", "vllm", "transformers", "server", "ray"] = Field(
        "auto",
        description="auto (vllm where it is installed for this device and runs the model), vllm, transformers, "
        "server or ray",
    )
    dtype: Dtype = Field("float32", description="of the weights and activations")
    null_prompt: Literal["empty_user", "bos", "contrastive"] = Field(
        "empty_user", description="what `null` is: an empty user turn, a beginning-of-sequence token, or other prompts"
    )
    contrastive_prompts: int = Field(
        4,
        ge=1,
        le=1000,
        description="other training prompts of the query type in the contrastive mean; own x is left out",
    )
    contrastive_seed: Seed = Field(0, description="of the draw of those prompts")
    too_long: Literal["error", "reject"] = Field(
        "error", description="a pair longer than the model's context: stop, or put it among the rejects"
    )
    unrenderable: Literal["error", "reject"] = Field(
        "error", description="a pair whose prompt and responses cannot be told apart exactly in token ids: as too_long"
    )
    max_length: Count = Field(0, description="longest sequence in tokens (0: the model's context)")
    server_urls: list[str] = Field(
        [], description="engine server: base URLs of OpenAI-compatible vLLM servers that serve this very model"
    )
    server_model: str | None = Field(None, description="engine server: the name it serves the model by, if another")
    server_concurrency: int = Field(16, ge=1, le=10_000, description="engine server: requests under way at each URL")
    ray_address: str | None = Field(None, description="engine ray: cluster to join (auto, host:port); none: start one")
    ray_workers: int = Field(
        2, ge=1, le=10_000, description="engine ray: actors, each with one GPU where there are any"
    )
    ray_engine: Literal["auto", "vllm", "transformers"] = Field("auto", description="engine ray: what each actor runs")

    @model_validator(mode="after")
    def _servers_are_named(self) -> ScoreParams:
        if self.engine == "server" and not self.server_urls:
            raise ValueError("engine: server needs server_urls, for example [http://localhost:8000/v1]")
        return self
