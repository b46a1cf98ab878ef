"""The sections of benchmarks/gpu.py on answers: curate's own loop, and vLLM."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gpu_vllm

from curate.evaluation.generation.base import Generated, Request
from curate.models import rendering

if TYPE_CHECKING:
    from gpu_sections import Setup

TEMPERATURES = (0.0, 1.0)
ALONE = 8  # requests that are answered by themselves, too


class Asked:
    """What the engines are asked."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.model = setup, setup.small
        count, self.longest = (6, 8) if setup.tiny else (128, 64)
        self.stop = rendering.stop_token_ids(rendering.load_tokenizer(self.model), self.model)
        self.prompts = setup.prompts(self.model, count)

    def requests(self, temperature: float) -> list[Request]:
        return [Request(ids, self.longest, temperature, 1.0, seed) for seed, ids in enumerate(self.prompts)]

    def measure(self, engine: Any, dtype: str, temperature: float, expected: Sequence[Generated] | None = None) -> None:
        """A row: tokens/s after a first few, and how many answers are the same again, alone, and as `expected`."""
        from gpu_sections import memory

        requests = self.requests(temperature)
        engine.generate(requests[:4])
        with memory() as peak:
            start = time.perf_counter()
            answers = engine.generate(requests)
            seconds = time.perf_counter() - start
        alone = [engine.generate([request])[0] for request in requests[:ALONE]]
        same = {"the same again": _same(answers, engine.generate(requests)), "the same alone": _same(alone, answers)}
        if expected is not None:
            same["as by transformers"] = _same(expected, answers)
        rate = sum(len(answer.ids) for answer in answers) / seconds
        about = {"what": "answers", "dtype": dtype, "temperature": temperature}
        self.setup.add(**about, **{"tokens/s": rate, "seconds": seconds, **peak}, **same)


def _same(some: Sequence[Any], others: Sequence[Any]) -> str:
    return f"{sum(one == other for one, other in zip(some, others, strict=False))} of {len(some)}"


def generation(setup: Setup) -> None:
    """curate's own loop."""
    from curate.evaluation.generation.transformers import TransformersGeneration

    asked = Asked(setup)
    for dtype in ("float32", "bfloat16"):
        engine = TransformersGeneration(asked.model, dtype, asked.stop)
        for temperature in TEMPERATURES:
            asked.measure(engine, dtype, temperature)
        engine.close()


def vllm_answers(setup: Setup) -> None:
    """vLLM, which on a GPU holds its memory in another process; and how many greedy answers are those of our loop."""
    from curate.evaluation.generation.transformers import TransformersGeneration
    from curate.evaluation.generation.vllm import VllmGeneration

    if gpu_vllm.lacking(setup):
        return
    asked, dtype = Asked(setup), "float32" if setup.tiny else "bfloat16"
    own = TransformersGeneration(asked.model, dtype, asked.stop)
    expected = own.generate(asked.requests(0.0))
    own.close()
    start = time.perf_counter()
    engine = VllmGeneration(asked.model, dtype, asked.stop)
    setup.add(what="opened", dtype=dtype, seconds=time.perf_counter() - start)
    for temperature in TEMPERATURES:
        asked.measure(engine, dtype, temperature, None if temperature else expected)
    engine.close()


SECTIONS = (generation, vllm_answers)
