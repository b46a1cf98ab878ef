"""The vLLM engine: token ids in, token ids out.

On a GPU it decodes with CUDA graphs, and its numbers vary in their last bits with what else is in a step: a request's
answer can then depend on its company where two tokens are as good as tied. On a CPU in float32 it was the same in any
company.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from curate.base import memory
from curate.base.device import device_type
from curate.evaluation.generation.base import Generated, Request
from curate.models.resolve import UNBOUNDED, Model
from curate.scoring.engines import installed
from curate.scoring.engines.vllm import STEP_TOKENS, open_llm
from curate.scoring.engines.vllm_log import failure

MOST_CONTEXT = 32_768
"""Tokens of a conversation on a CPU, at most: a step has room for so many."""


class VllmGeneration:
    """vLLM with continuous batching and a prefix cache: equal beginnings of prompts are computed once.

    Args:
        stop: tokens that end an answer.
    """

    def __init__(self, model: Model, dtype: str, stop: Collection[int]) -> None:
        self.version = installed("vllm")
        on_cpu = device_type() == "cpu"
        self.engine = open_llm(model, dtype, enforce_eager=on_cpu, **(_whole_prompts(model) if on_cpu else {}))
        vocabulary = self.engine.llm_engine.model_config.get_vocab_size()
        self.stop = sorted(token for token in stop if token < vocabulary)  # vLLM refuses others

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """As the protocol says.

        Raises:
            InputError: vLLM fails on a request.
        """
        if not requests:
            return []
        import vllm

        params = [
            vllm.SamplingParams(
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
                stop_token_ids=self.stop,
                ignore_eos=True,  # it is among them, where it is to end an answer
                detokenize=False,
            )
            for request in requests
        ]
        prompts = [vllm.TokensPrompt(prompt_token_ids=request.prompt_ids.tolist()) for request in requests]
        try:
            outputs = self.engine.generate(prompts, params, use_tqdm=False)
        except Exception as error:  # each of its processes has errors of its own
            raise failure("vLLM cannot generate", error) from error
        return [self._generated(list(output.outputs[0].token_ids)) for output in outputs]

    def close(self) -> None:
        """Give the device's memory back: another engine may want it."""
        self.engine.llm_engine.engine_core.shutdown()
        del self.engine
        memory.give_back()

    def _generated(self, ids: list[int]) -> Generated:
        return Generated(ids[:-1], "stop") if ids and ids[-1] in self.stop else Generated(ids, "length")


def _whole_prompts(model: Model) -> dict[str, Any]:
    """Options by which a prompt is read in one step: a draw of a step that ends within a prompt is taken back from the
    request's random numbers, which vLLM 0.32 cannot do on a CPU ("CPU Generator does not use offset")."""
    longest = min(model.context, MOST_CONTEXT)
    room = {"max_model_len": longest} if model.context < UNBOUNDED else {}
    return room | {"enable_chunked_prefill": False, "max_num_batched_tokens": max(STEP_TOKENS["cpu"], longest)}
