"""How pairs are scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curate.project.params.section import Count, Dtype, Section, Seed


class ScoreParams(Section):
    """log pi_ref(y|x) and log pi_ref(y|null) of both responses."""

    engine: Literal["auto", "vllm", "transformers", "server", "ray"] = Field(
        "auto",
        description="auto: vllm if it is installed for this device and runs the model, else transformers",
    )
    dtype: Dtype = Field("float32", description="number format of the weights and activations")
    null_prompt: Literal["empty_user", "bos", "contrastive"] = Field(
        "empty_user", description="what `null` is: an empty user turn, a beginning-of-sequence token, or other prompts"
    )
    contrastive_prompts: int = Field(
        4,
        ge=1,
        le=1000,
        description="contrastive: how many other training prompts of the query type are in the mean",
    )
    contrastive_seed: Seed = Field(0, description="seed of the draw of those prompts")
    too_long: Literal["error", "reject"] = Field(
        "error", description="if a pair is longer than the model's context: stop, or set it aside"
    )
    unrenderable: Literal["error", "reject"] = Field(
        "error", description="the same if prompt and responses cannot be separated exactly in token ids"
    )
    max_length: Count = Field(0, description="longest sequence in tokens (0: the model's context)")
    server_urls: list[str] = Field(
        [], description="engine server: base URLs of OpenAI-compatible vLLM servers that serve this model"
    )
    server_model: str | None = Field(
        None, description="engine server: the name by which it serves the model, if different"
    )
    server_concurrency: int = Field(16, ge=1, le=10_000, description="engine server: requests at a time to each URL")
    ray_address: str | None = Field(None, description="engine ray: cluster to join (auto, host:port); none: start one")
    ray_workers: int = Field(2, ge=1, le=10_000, description="engine ray: actors, each with one GPU if there are any")
    ray_engine: Literal["auto", "vllm", "transformers"] = Field("auto", description="engine ray: what each actor runs")

    @model_validator(mode="after")
    def _servers_are_named(self) -> ScoreParams:
        if self.engine == "server" and not self.server_urls:
            raise ValueError("engine: server needs server_urls, for example [http://localhost:8000/v1]")
        return self
