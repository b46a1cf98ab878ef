"""The sections of benchmarks/gpu.py in which vLLM scores: as an engine and as a server. Without it they say so."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.models.resolve import Model

if TYPE_CHECKING:
    from gpu_sections import Setup

OLD_RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
SERVERS_SHARE = 0.5  # of a GPU's memory: the float64 pass of this process has some, and others may


def lacking(setup: Setup) -> bool:
    """Whether there is no vLLM for this device; then a row says so."""
    from curate.scoring.engines.choice import vllm_package

    if vllm_package() is None:
        setup.add(note="no vLLM for this device")
        return True
    return False


def vllm(setup: Setup) -> None:
    """curate's engine, beside bare prefill and log-probs of whole prompts by the same engine."""
    if not lacking(setup):
        for name, model, dtypes in setup.models():
            for dtype in dtypes:
                _scoring(setup, name, model, dtype)


def vllm_old_runner(setup: Setup) -> None:
    """The same where vLLM's second model runner is not in use, which scores given ids."""
    if not lacking(setup) and not setup.tiny:  # a CPU has no other than the old one
        os.environ |= OLD_RUNNER
        _scoring(setup, "small", setup.small, "bfloat16")


def _scoring(setup: Setup, name: str, model: Model, dtype: str) -> None:
    import vllm
    from gpu_sections import Truth, timed

    from curate.scoring.engines.vllm import VllmEngine
    from curate.scoring.engines.vllm_ways import READING, ResponseRows, WholePrompt

    small = model.path == setup.small.path
    truth = Truth(setup, model) if small else None
    start = time.perf_counter()
    engine = VllmEngine(model, dtype)
    about = {"model": name, "dtype": dtype}
    setup.add(**about, way=f"opened; gives log-probs {engine.way.told}", seconds=time.perf_counter() - start)
    sequences = setup.sequences(model, 3 if setup.tiny else 200)
    tokens = sum(one.length for one in sequences)
    prompts: list[Any] = [{"prompt_token_ids": np.concatenate(one).tolist()} for one in sequences]

    def prefill() -> None:
        engine.engine.generate(prompts, vllm.SamplingParams(**READING), use_tqdm=False)

    def anew(run: Callable[[], Any]) -> Callable[[], Any]:
        def emptied() -> Any:
            engine.engine.reset_prefix_cache()
            return run()

        return emptied

    def rows(way: str, run: Callable[[], Any], score: Callable[..., np.ndarray] | None = None) -> None:
        found = timed(setup, anew(run), tokens)
        setup.add(**about, way=way, **found, **(truth.apart(score) if truth and score else {}))

    rows("curate", lambda: engine.logps(sequences), engine.logps)
    rows("bare prefill, no log-probs", prefill)
    if isinstance(engine.way, ResponseRows):
        engine.way = WholePrompt("asked for")
        rows("log-probs of whole prompts", lambda: engine.logps(sequences), engine.logps)
    engine.close()


def vllm_server(setup: Setup) -> None:
    """The server engine, with a server of vLLM on this machine that takes and gives token ids."""
    from gpu_sections import Truth, timed
    from vllm_server import serving

    from curate.scoring.engines.server import ServerEngine

    if lacking(setup):
        return
    model, dtype = setup.small, "float32" if setup.tiny else "bfloat16"
    truth = Truth(setup, model)
    sequences = setup.sequences(model, 3 if setup.tiny else 200)
    start = time.perf_counter()
    options = ["--enable-scale-out", *([] if setup.tiny else ["--gpu-memory-utilization", str(SERVERS_SHARE)])]
    with serving(model.path, dtype, Path(setup.scratch / "server.log"), *options) as port:
        engine = ServerEngine(model, [f"http://127.0.0.1:{port}/v1"])
        told = ", ".join(sorted({way.told for way in engine.ways.values()}))
        setup.add(way=f"opened; gives log-probs {told}", dtype=dtype, seconds=time.perf_counter() - start)
        found = timed(setup, lambda: engine.logps(sequences), sum(one.length for one in sequences))
        setup.add(way="curate, a warm prefix cache", dtype=dtype, **found, **truth.apart(engine.logps))
        engine.close()


SECTIONS = (vllm, vllm_old_runner, vllm_server)
