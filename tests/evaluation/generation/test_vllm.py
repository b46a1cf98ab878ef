"""vLLM beside transformers, on the embedded model."""

import json
import os
import subprocess
import sys

import pytest

BOTH = """
import json, sys
from concurrent.futures import Future
from pathlib import Path
import curate.base.threads
from curate.base.errors import InputError
from curate.models.resolve import resolve
from curate.evaluation.generation.base import Ask, Sampling
from curate.evaluation.generation.local import LocalChat

model, state, asks, runs = json.loads(sys.stdin.read())
answers = {}
for engine in ("transformers", "vllm"):
    chat = LocalChat(resolve(model), "float32", engine, Path(state))
    answers[engine] = [chat.chat([Ask(*ask) for ask in asks], Sampling(*sampling)) for sampling in runs]
    if engine == "vllm":
        backwards = LocalChat(resolve(model), "float32", engine, Path(state) / "backwards")
        backwards._opened = chat._opened  # its start takes seconds
        answers["vllm backwards"] = [
            backwards.chat([Ask(*ask) for ask in reversed(asks)], Sampling(*sampling)) for sampling in runs
        ]
        step = Future()
        step.set_exception(RuntimeError("broken on purpose"))
        core = chat._opened.engine.llm_engine.engine_core.engine_core
        core.model_executor.execute_model = lambda *args, **options: step
        try:
            LocalChat.chat(chat, [Ask(asks[0][0], sample=9)], Sampling(5, 1.0))
        except InputError as error:
            answers["failure"] = error.details
    chat.close()
Path(state, "answers.json").write_text(json.dumps(answers))
"""


@pytest.mark.vllm
@pytest.mark.slow
def test_greedy_answers_are_those_of_transformers(reference_model, sample_pairs, tmp_path):
    """But where two tokens are as good as tied. Drawn ones differ, for the engines draw in their own ways; each is
    the same in any order on a CPU."""
    pytest.importorskip("vllm")
    prompts, rejected = (sample_pairs.head(60)[column].to_list() for column in ("prompt", "rejected"))
    asks = [(p, r[0]["content"], 6 * (row % 2)) for row, (p, r) in enumerate(zip(prompts, rejected, strict=True))]
    long = [{"role": "user", "content": "bread " * 600}]  # no room
    # More tokens of prompts than a step holds: one of them would end within a prompt.
    asks += [([{"role": "user", "content": f"bread {n} " * 60}], "", 0) for n in range(24)]
    asks += [(long, "", 0), ([{"role": "user", "content": "bread " * 100}], "", 0)]
    runs = [(40,), (40, 1.0, 0.9, 7)]
    done = subprocess.run(
        [sys.executable, "-c", BOTH],
        input=json.dumps([str(reference_model), str(tmp_path), asks, runs]),
        text=True,
        check=True,
        timeout=240,
        capture_output=True,
        env=os.environ | {"CURATE_STATE": str(tmp_path / "state")},
    )
    assert "dump" not in (done.stdout + done.stderr).lower() and "ERROR" not in done.stdout + done.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert answers["failure"]["found"] == "broken on purpose"
    log = tmp_path / "state/logs/vllm.log"
    assert str(log) in answers["failure"]["remedy"] and "Dumping" in log.read_text()
    ours, vllms = answers["transformers"][0], answers["vllm"][0]
    assert ours[-2] == vllms[-2] == [None, "too_long", 0, ""]
    assert {answer[1] for answer in vllms[:-2]} >= {"stop"} and len({answer[0] for answer in vllms}) > 10
    assert [answer[3] for answer in ours] == [answer[3] for answer in vllms]  # the prefills
    assert all(bool(answer[3]) == row % 2 for row, answer in enumerate(ours[:60]))
    same = [mine == theirs for mine, theirs in zip(ours, vllms, strict=True)]
    assert sum(same) >= 0.95 * len(same), f"{sum(same)} of {len(same)}"
    assert answers["vllm backwards"] == [[*reversed(run)] for run in answers["vllm"]]
