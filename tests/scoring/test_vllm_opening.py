"""What opening vLLM does where it fails, by an engine whose `vllm.LLM` is the test's: no vLLM is started."""

import os
import sys
import types
import weakref

import numpy as np
import pytest
import torch

from curate.base.errors import InputError
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model
from curate.scoring.engines import vllm, vllm_log


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


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 7 bytes")])
def test_a_smaller_engine_is_opened_once_the_larger_one_is_gone(monkeypatch, error):
    """The error of the one that did not fit holds it, and with it the model and its cache."""
    engines, alive = [], []

    class Engine:
        llm_engine = types.SimpleNamespace(engine_core=types.SimpleNamespace(shutdown=lambda: None))

        def generate(self, prompts, *_, **__):
            if len(engines) < 3:
                raise type(error)(*error.args)
            return prompts

    def opened(*_, **__):
        alive.append(sum(engine() is not None for engine in engines))
        engine = Engine()
        engines.append(weakref.ref(engine))
        return engine

    way = types.SimpleNamespace(told="x", params=lambda *_: None, read=lambda *_: -1.0)
    monkeypatch.setattr(vllm, "open_llm", opened)
    monkeypatch.setattr(vllm, "way_of", lambda _: way)
    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(TokensPrompt=dict))
    one = np.ones(1, dtype=np.int32)
    assert vllm.VllmEngine(None, "float32").logps([TokenSequence(one, one)]).tolist() == [-1.0]
    assert alive == [0, 0, 0]


def test_on_a_gpu_vllm_starts_its_process_anew(monkeypatch):
    """Forked, after torch was asked for CUDA, it could not use it: vLLM asks only whether CUDA is initialised."""
    name = "VLLM_WORKER_MULTIPROC_METHOD"
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(vllm, "device_type", lambda: "cuda")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    vllm.prepared()
    assert os.environ[name] == "spawn"


@pytest.mark.parametrize(
    ("free", "share"), [(79, {}), (60, {"gpu_memory_utilization": 0.73}), (1, {"gpu_memory_utilization": 0.02})]
)
def test_of_a_gpu_that_others_use_vllm_takes_what_they_leave(monkeypatch, capsys, free, share):
    """It asks for 92% of the whole card and does not start where less is free."""
    monkeypatch.setattr(vllm, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free * 2**30, 80 * 2**30))
    model = types.SimpleNamespace(context=2048, trust_remote_code=False)
    settings = vllm.settings_of(model, "float32")
    assert {name: value for name, value in settings.items() if name == "gpu_memory_utilization"} == share
    assert ("of the GPU's memory" in capsys.readouterr().err) == bool(share)


NEEDS = "To serve at least one request with the model's max seq len (131072), 16 GiB KV cache is needed."
FAILED = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Open a model by a `vllm.LLM` that says what the tests tell it, first to last: (open it, lengths tried)."""
    monkeypatch.setenv("CURATE_STATE", str(tmp_path))
    tried = []

    def opening(*answers, rope="default"):
        (tmp_path / "config.json").write_text(f'{{"rope_parameters": {{"rope_type": "{rope}"}}}}')
        model = Model("tiny", None, tmp_path, "0" * 32, 131_072)

        def llm(_, *, max_model_len, **__):
            tried.append(max_model_len)
            logged, answer = answers[len(tried) - 1]
            os.write(2, f"(EngineCore pid=7) ERROR {logged}\n".encode())
            if isinstance(answer, Exception):
                raise answer
            return answer

        package = types.SimpleNamespace(LLM=llm, __version__="1")
        monkeypatch.setattr(vllm, "imported", lambda: package)
        platform = types.SimpleNamespace(current_platform=types.SimpleNamespace(device_type=vllm.device_type()))
        monkeypatch.setitem(sys.modules, "vllm", package)
        monkeypatch.setitem(sys.modules, "vllm.platforms", platform)
        return vllm.open_llm(model, "float32")

    logger = vllm_log.logging.getLogger("vllm")
    before = logger.handlers, logger.propagate
    yield opening, tried
    logger.handlers, logger.propagate = before


@pytest.mark.parametrize("error", [FAILED, ValueError(NEEDS)])
def test_a_context_that_does_not_fit_beside_the_model_is_the_longest_that_does(opened, error):
    """On a CPU vLLM itself says so; on a GPU the process that loads the model does, in the log."""
    opening, tried = opened
    assert opening((f"ValueError: {NEEDS}", error), ("", "engine")) == "engine"
    assert tried == [131_072, -1]


@pytest.mark.parametrize("error", [FAILED, ValueError(NEEDS)])
def test_a_model_whose_numbers_go_by_the_context_gets_no_other(opened, error):
    """Beyond original_max_position_embeddings it has the long factors, else the short ones, whatever the sequence."""
    opening, tried = opened
    with pytest.raises(InputError, match="with a shorter one this model gives other numbers") as caught:
        opening((f"ValueError: {NEEDS}", error), ("", "engine"), rope="longrope")
    assert tried == [131_072] and "--max-length" in caught.value.details["remedy"]


def test_what_failed_in_another_process_is_told_by_its_last_words(opened):
    opening, tried = opened
    with pytest.raises(InputError, match="vLLM cannot load the model") as caught:
        opening((f"ValueError: {NEEDS}", FAILED), ("ValueError: No available memory for the cache blocks.", FAILED))
    assert caught.value.details["found"] == "No available memory for the cache blocks." and tried == [131_072, -1]
    tried.clear()
    with pytest.raises(InputError) as caught:
        opening(("RuntimeError: Cannot re-initialize CUDA in forked subprocess", FAILED))
    assert caught.value.details["found"] == "Cannot re-initialize CUDA in forked subprocess" and tried == [131_072]
    tried.clear()
    with pytest.raises(InputError) as caught:  # of a kind that says what the words do not
        opening(("[core.py:1510] ModuleNotFoundError: No module named 'compressed_tensors'", FAILED))
    assert caught.value.details["found"] == "ModuleNotFoundError: No module named 'compressed_tensors'"
    tried.clear()
    with pytest.raises(InputError) as caught:  # what the log had before is not its cause
        opening(("gone", FAILED))
    assert caught.value.details["found"].startswith("Engine core initialization failed")
    tried.clear()
    with pytest.raises(InputError) as caught:
        opening(("", ValueError("no such architecture")))
    assert caught.value.details["found"] == "no such architecture" and tried == [131_072]
