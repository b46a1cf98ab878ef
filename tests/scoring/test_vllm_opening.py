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


NEEDS = "To serve at least one request with the model's max seq len (131072), 16 GiB KV cache is needed."
FAILED = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Open a model by a `vllm.LLM` that says what the tests tell it, first to last: (open it, lengths tried, shares
    of a GPU's memory)."""
    monkeypatch.setenv("CURATE_STATE", str(tmp_path))
    tried: list[int] = []
    shares: list[float | None] = []

    def opening(*answers, rope="default", more=""):
        (tmp_path / "config.json").write_text(f'{{"rope_parameters": {{"rope_type": "{rope}"}}}}')
        model = Model("tiny", None, tmp_path, "0" * 32, 131_072)

        def llm(_, *, max_model_len, gpu_memory_utilization=None, **__):
            tried.append(max_model_len)
            shares.append(gpu_memory_utilization)
            logged, answer = answers[len(tried) - 1]
            os.write(2, f"{os.environ['VLLM_LOGGING_PREFIX']}(EngineCore pid=7) ERROR {logged}\n{more}".encode())
            if isinstance(answer, Exception):
                raise answer
            return answer

        package = types.SimpleNamespace(LLM=llm, __version__="1")
        monkeypatch.setattr(vllm, "imported", lambda: package)
        monkeypatch.setattr(vllm, "check_loaded", lambda _: None)  # it loads nothing
        platform = types.SimpleNamespace(current_platform=types.SimpleNamespace(device_type=vllm.device_type()))
        monkeypatch.setitem(sys.modules, "vllm", package)
        monkeypatch.setitem(sys.modules, "vllm.platforms", platform)
        return vllm.open_llm(model, "float32")

    logger = vllm_log.logging.getLogger("vllm")
    before = logger.handlers, logger.propagate
    yield opening, tried, shares
    logger.handlers, logger.propagate = before


@pytest.mark.parametrize("error", [FAILED, ValueError(NEEDS)])
def test_a_context_that_does_not_fit_beside_the_model_is_the_longest_that_does(opened, error):
    """On a CPU vLLM itself says so; on a GPU the process that loads the model does, in the log."""
    opening, tried, _ = opened
    assert opening((f"ValueError: {NEEDS}", error), ("", "engine")) == "engine"
    assert tried == [131_072, -1]


@pytest.mark.parametrize("error", [FAILED, ValueError(NEEDS)])
def test_a_model_whose_numbers_go_by_the_context_gets_no_other(opened, error):
    """Beyond original_max_position_embeddings it has the long factors, else the short ones, whatever the sequence."""
    opening, tried, _ = opened
    with pytest.raises(InputError, match="with a shorter one this model gives other numbers") as caught:
        opening((f"ValueError: {NEEDS}", error), ("", "engine"), rope="longrope")
    assert tried == [131_072] and "--max-length" in caught.value.details["remedy"]


def test_what_failed_in_another_process_is_told_by_its_last_words(opened):
    opening, tried, _ = opened
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


def test_what_another_run_says_meanwhile_is_not_its_cause(opened):
    """Nor what Python says as the process ends, whoever has signed it not."""
    opening, tried, _ = opened
    noise = "Exception ignored in: <function shutdown>\nTypeError: 'NoneType' object is not callable\n"
    others = f"[curate 1] (EngineCore pid=9) ERROR ValueError: {NEEDS}\n"
    with pytest.raises(InputError) as caught:
        opening(("ValueError: no such layer", FAILED), more=noise + others)
    assert caught.value.details["found"] == "no such layer" and tried == [131_072]
    tried.clear()
    with pytest.raises(InputError) as caught:
        opening(("", FAILED), more=others)
    assert caught.value.details["found"].startswith("Engine core initialization failed")
    tried.clear()
    with pytest.raises(InputError) as caught:  # it ends before it logs anything
        opening(("", FAILED), more=f"ModuleNotFoundError: No module named 'zmq'\n{others}")
    assert caught.value.details["found"] == "ModuleNotFoundError: No module named 'zmq'" and tried == [131_072]


def test_each_process_signs_for_itself_and_a_user_as_they_like(monkeypatch):
    monkeypatch.setattr(os, "environ", {vllm_log._PREFIX: "[curate 1] "})  # as from the process that started this one
    vllm_log.mark()
    assert os.environ[vllm_log._PREFIX] == f"[curate {os.getpid()}] "
    os.environ[vllm_log._PREFIX] = "mine "
    vllm_log.mark()
    assert os.environ[vllm_log._PREFIX] == "mine "


@pytest.mark.parametrize("rope", ["default", "longrope"])
@pytest.mark.parametrize("error", [FAILED, ValueError("KV cache layout NHD cannot express this model's")])
def test_what_no_shorter_context_mends_is_not_tried_with_one(opened, error, rope):
    opening, tried, _ = opened
    with pytest.raises(InputError, match="vLLM cannot load the model") as caught:
        opening(("ValueError: KV cache layout NHD cannot express this model's", error), rope=rope)
    assert tried == [131_072] and caught.value.details["found"].startswith("KV cache layout")


def gpu(monkeypatch, free, total, available=None):
    """Have the machine be one with a GPU of so many GiB; an integrated one, where the machine has `available`."""
    monkeypatch.setattr(vllm, "device_type", lambda: "cuda")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free * 2**30), total * 2**30))
    kind = types.SimpleNamespace(is_integrated=available is not None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: kind)
    memory = types.SimpleNamespace(available=int((available or 0) * 2**30))
    monkeypatch.setitem(sys.modules, "psutil", types.SimpleNamespace(virtual_memory=lambda: memory))


@pytest.mark.parametrize(
    ("free", "total", "available", "share"),
    [
        (79, 80, None, None),
        (60, 80, None, 0.73),
        (7.6, 8, None, 0.82),  # its own process takes half of a GiB before it looks
        (1, 80, None, 0.01),
        (10, 128, 125, None),  # what the system keeps of files is free
        (10, 128, 64, 0.48),
    ],
)
def test_of_a_gpu_that_others_use_vllm_takes_what_they_leave(opened, monkeypatch, capfd, free, total, available, share):
    """It asks for 92% of the whole card and does not start where less is free."""
    opening, _, shares = opened
    gpu(monkeypatch, free, total, available)
    assert opening(("", "engine")) == "engine" and shares == [share]
    assert ("of the GPU's memory" in capfd.readouterr().err) == bool(share)  # the screen, not the log
    with pytest.raises(InputError, match="vLLM cannot load the model") as caught:
        opening(("", "engine"), ("ValueError: No available memory for the cache blocks.", FAILED))
    assert ("which is what others leave it" in caught.value.what) == bool(share)


def test_whether_vllm_runs_a_model_is_asked_without_the_gpu(monkeypatch):
    """The question is asked where no scorer may ever be, and of what is free when the answer is used."""
    gpu(monkeypatch, 60, 80)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: pytest.fail("asked"))
    model = types.SimpleNamespace(context=2048, trust_remote_code=False)
    assert "gpu_memory_utilization" not in vllm.settings_of(model, "float32")
