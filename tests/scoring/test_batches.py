"""Batches: a few seconds of work whatever the model, the same on every run, and told as tokens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import process
from tiny import many, save_model

from curate.base import files
from curate.models.resolve import parameters, resolve
from curate.project.params import ScoreParams
from curate.scoring import local
from curate.scoring import score as scoring
from curate.scoring.scorer import BATCH_TOKENS, FEWEST_TOKENS, batch_tokens

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def test_the_larger_the_model_the_fewer_tokens_a_batch():
    assert batch_tokens(1_000_000, "cpu") == BATCH_TOKENS["cpu"] == 65_536  # as ever: their numbers stay as they are
    assert batch_tokens(135_000_000, "cpu") == 7_407
    assert batch_tokens(8_000_000_000, "cpu") == FEWEST_TOKENS["cpu"]
    assert batch_tokens(8_000_000_000, "cuda") == 50_000 and batch_tokens(135_000_000, "cuda") == BATCH_TOKENS["cuda"]
    assert batch_tokens(8_000_000_000, "server", 3) == 3 * FEWEST_TOKENS["server"]


def test_parameters_are_those_of_the_weights(model):
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    assert parameters(resolve(model)) == sum(weights.numel() for weights in loaded.parameters())


def test_progress_ends_at_its_total_fresh_and_resumed(model, tmp_path, monkeypatch):
    """In tokens: of what is computed and of what the store holds, pairs set aside left out."""
    seen = []

    def progress(what, total, unit):
        seen.append([what, total, unit, 0])
        from contextlib import contextmanager

        @contextmanager
        def bar():
            yield lambda amount=1: seen[-1].__setitem__(3, seen[-1][3] + amount)

        return bar()

    monkeypatch.setattr(local, "progress", progress)
    params = ScoreParams(engine="transformers", too_long="reject", max_length=60)
    for _ in range(2):
        result = scoring.score(many(40), resolve(model), params, tmp_path)
    assert 0 < result.rejects.height < 40
    told = [one for one in seen if one[0].startswith("score")]
    frame = result.scores
    null = 4  # tokens of ChatML around an empty turn, beside the prompt's own
    assert all(total == done and unit == "tokens" for _, total, unit, done in told) and len(told) == 2
    responses = int(frame["chosen_tokens"].cast(int).sum() + frame["rejected_tokens"].cast(int).sum())
    assert told[0][1] == told[1][1] > 2 * responses + 2 * int(frame["prompt_tokens"].cast(int).sum()) + null


INTERRUPTED = """
from curate.scoring import scorer
scorer.BATCH_TOKENS["cpu"] = 400
from curate.scoring.engines import transformers
logps, calls = transformers.TransformersEngine.logps, []
def told(self, sequences):
    calls.append(len(sequences))
    if len(calls) == 3:
        print("third", flush=True)
        import time; time.sleep(30)
    return logps(self, sequences)
transformers.TransformersEngine.logps = told
from curate.__main__ import main
main()
"""


def test_ctrl_c_loses_one_batch_and_the_rest_gives_the_same_bytes(model, tmp_path, monkeypatch):
    files.write_parquet(many(60), tmp_path / "pairs.parquet", {})
    call = ["score", "pairs.parquet", "--model", str(model), "--engine", "transformers"]
    first = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *call, "--out", "out.parquet"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert first.stdout.readline() == "third\n"
    first.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130 and time.monotonic() - began < 20
    assert said.endswith("curate: interrupted; what was finished is kept, run the same command to go on\n")
    assert not (tmp_path / "out.parquet").exists() and len(list((tmp_path / ".curate").rglob("*.arrow"))) == 2
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 400)
    again = process(*call, "--out", "out.parquet", cwd=tmp_path)
    assert again.returncode == 0 and "the store held 0" not in again.stderr, again.stderr
    whole = process(*call, "--out", "w.parquet", "--store", "other", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "w.parquet").read_bytes()
    assert json.loads(json.dumps(files.read_provenance(tmp_path / "out.parquet")))["stage"] == "score"
