"""What opening vLLM does where it fails, by an engine whose `vllm.LLM` is the test's: no vLLM is started."""

import sys
import types

import numpy as np
import pytest

from curate.base.errors import InputError
from curate.models.rendering import TokenSequence
from curate.scoring.engines import vllm


class EngineDeadError(Exception):
    """As vLLM's own is called."""


def test_an_engine_that_cannot_be_opened_again_ends_with_what_vllm_says(monkeypatch):
    """Its process died, and the smaller one does not start: the run closes the engine all the same."""
    tried = []

    class Engine:
        llm_engine = types.SimpleNamespace(engine_core=types.SimpleNamespace(shutdown=lambda: tried.append("shut")))

        def generate(self, *_, **__):
            raise EngineDeadError

    def opened(*_, max_num_batched_tokens, **__):
        tried.append(max_num_batched_tokens)
        if len(tried) > 1:
            raise InputError("vLLM cannot load the model")
        return Engine()

    monkeypatch.setattr(vllm, "open_llm", opened)
    monkeypatch.setattr(vllm, "way_of", lambda _: types.SimpleNamespace(told="x", params=lambda *_: None))
    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(TokensPrompt=dict))
    engine = vllm.VllmEngine(None, "float32")
    one = np.ones(1, dtype=np.int32)
    with pytest.raises(InputError, match="vLLM cannot load the model"):
        engine.logps([TokenSequence(one, one)])
    engine.close()
    first = vllm.STEP_TOKENS[vllm.device_type()]
    assert tried == [first, "shut", first // 2]
