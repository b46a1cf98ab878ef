"""vLLM beside transformers, on the embedded model."""

import json
import subprocess
import sys

import pytest

BOTH = """
import json, sys
from pathlib import Path
import curate.base.threads
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
    asks += [(long, "", 0), ([{"role": "user", "content": "bread " * 100}], "", 0)]
    runs = [(40,), (40, 1.0, 0.9, 7)]
    subprocess.run(
        [sys.executable, "-c", BOTH],
        input=json.dumps([str(reference_model), str(tmp_path), asks, runs]),
        text=True,
        check=True,
        timeout=240,
        capture_output=True,
    )
    answers = json.loads((tmp_path / "answers.json").read_text())
    ours, vllms = answers["transformers"][0], answers["vllm"][0]
    assert ours[-2] == vllms[-2] == [None, "too_long", 0, ""]
    assert {answer[1] for answer in vllms[:-2]} >= {"stop"} and len({answer[0] for answer in vllms}) > 10
    assert [answer[3] for answer in ours] == [answer[3] for answer in vllms]  # the prefills
    assert all(bool(answer[3]) == row % 2 for row, answer in enumerate(ours[:60]))
    same = [mine == theirs for mine, theirs in zip(ours, vllms, strict=True)]
    assert sum(same) >= 0.95 * len(same), f"{sum(same)} of {len(same)}"
    assert answers["vllm backwards"] == [[*reversed(run)] for run in answers["vllm"]]
