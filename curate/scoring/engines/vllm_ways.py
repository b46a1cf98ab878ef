"""How log-probs of responses are asked of vLLM and read from its answer, by what the version and the device can do.

vLLM's second model runner, which a CPU has not, scores given ids at given rows: the LM head runs on a response's rows
alone, and one number a token comes back. Else log-probs of the whole prompt are asked for; on a CPU, in this process,
they are made of a response's rows alone all the same.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import numpy as np

from curate.base.device import device_type
from curate.models.rendering import TokenSequence
from curate.scoring.engines.vllm_cpu import FIRST_ROW, score_responses_alone

RAW = "raw_logprobs"
"""vLLM's name for log-probs as the model has them: before temperature, penalties or any cut."""

NEW_FIELDS = ("prompt_logprob_token_ids", "prompt_logprob_start")
"""Of vLLM's sampling parameters, where it can score given ids."""

READING: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "top_p": 1.0, "detokenize": False}
"""One token, which is the least that vLLM generates, and is thrown away."""


class Way(Protocol):
    """One way."""

    told: str  # of what it gives log-probs, and why no better

    def params(self, sequence: TokenSequence, cached: bool) -> Any:
        """vLLM's sampling parameters; `cached`: what the prefix cache holds need not be computed."""
        ...

    def read(self, output: Any, sequence: TokenSequence, cached: bool) -> float:
        """log p of the response, nats; NaN where the prefix cache reached into it."""
        ...


def way_of(engine: Any) -> Way:
    """The best way of an engine (`vllm.LLM`).

    Raises:
        AssertionError: it gives other log-probs than the model's own.
    """
    config = engine.llm_engine.vllm_config
    if config.model_config.logprobs_mode != RAW:
        raise AssertionError(f"vLLM gives {config.model_config.logprobs_mode}, not {RAW}")
    lacks = lacking(config)
    if lacks is None:
        return ResponseRows()
    if device_type() == "cpu":
        lacks = score_responses_alone(engine)
        if lacks is None:
            return OwnRows()
    return WholePrompt(lacks)


def lacking(config: Any) -> str | None:
    """Why vLLM cannot score given ids (`config` is its own); None where it can."""
    import vllm

    if not set(NEW_FIELDS) <= set(getattr(vllm.SamplingParams, "__struct_fields__", ())):
        return "this version takes no ids to score"
    if "prompt_token_id_logprobs" not in inspect.signature(vllm.RequestOutput).parameters:
        return "this version gives no scores of ids"
    if not getattr(config, "use_v2_model_runner", False):
        return "its second model runner is not in use here"
    if getattr(config.cache_config, "kv_sharing_fast_prefill", False):
        return "its fast prefill leaves rows out"
    return None


class ResponseRows:
    """Ids of the response, one a row, from the row that predicts its first token on."""

    told = "of responses alone"

    def params(self, sequence: TokenSequence, cached: bool) -> Any:
        import vllm

        return vllm.SamplingParams(
            **READING,
            prompt_logprob_token_ids=np.asarray(sequence.response_ids, dtype=np.int32)[:, None],
            prompt_logprob_start=len(sequence.prompt_ids) - 1,
            skip_reading_prefix_cache=not cached,
        )

    def read(self, output: Any, sequence: TokenSequence, cached: bool) -> float:
        """vLLM gives no scores at all where the first of the rows came from the cache."""
        scores = output.prompt_token_id_logprobs
        if scores is None and cached:
            return np.nan
        if scores is None or np.shape(scores) != (len(sequence.response_ids), 1):
            raise AssertionError("vLLM returned scores of other rows than it was asked for")
        return float(np.sum(scores, dtype=np.float64))


class WholePrompt:
    """Log-probs of every token of the prompt, as a flat list."""

    def __init__(self, why: str) -> None:
        self.told = f"of whole prompts: {why}"

    def params(self, sequence: TokenSequence, cached: bool) -> Any:
        import vllm

        # A request with prompt log-probs skips the prefix cache unless told not to.
        return vllm.SamplingParams(
            **READING,
            prompt_logprobs=0,
            flat_logprobs=True,
            skip_reading_prefix_cache=not cached,
            extra_args={FIRST_ROW: len(sequence.prompt_ids) - 1},  # what only OwnRows reads
        )

    def read(self, output: Any, sequence: TokenSequence, cached: bool) -> float:
        """The last rows of the list, which may hold no others. Its first position has none; those from the prefix cache
        are garbage or, with vLLM's second model runner, not there."""
        if cached and (output.num_cached_tokens or 0) >= len(sequence.prompt_ids):
            return np.nan
        logprobs, expected = output.prompt_logprobs, sequence.response_ids.tolist()
        responses = len(expected)
        if not responses <= len(logprobs) <= sequence.length or logprobs.token_ids[-responses:] != expected:
            raise AssertionError("vLLM returned log-probs of other tokens than it was given")
        return float(np.sum(np.array(logprobs.logprobs[-responses:], dtype=np.float64)))


class OwnRows(WholePrompt):
    """The same question, answered on the response's rows alone (`curate.scoring.engines.vllm_cpu`)."""

    def __init__(self) -> None:
        self.told = "of responses alone"
