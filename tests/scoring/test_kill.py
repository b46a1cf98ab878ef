"""Killed at any instant, scoring goes on where it stopped, and ends in the same bytes."""

import json
import random
import signal
import subprocess
import sys

import pytest
from tiny import many, save_model

from curate.base import files
from curate.models.resolve import resolve
from curate.pairs.artefact import read_artefact
from curate.scoring.store import holdings

KILLS = 20

SCORERS = """
# Imports everything once; then forks a scorer for each line read, and says how each one ended.
import json, os, signal, sys
from pathlib import Path
import curate.base.threads, curate.models.load
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM
from curate.base import files, shards
from curate.models.resolve import resolve
from curate.project import params
from curate.scoring import chunks, score as scoring, scorer, store as stores
from curate.scoring.engines import transformers

scorer.BATCH_TOKENS["cpu"], chunks.CHUNK_PAIRS, shards.MERGE_SHARDS = 400, 16, 4
children = {}
for line in sys.stdin:
    if line == "wait\\n":
        child, status = os.wait()
        print(children[child], os.waitstatus_to_exitcode(status), flush=True)
        continue
    pairs, model, root, out, log, instant = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    children[child] = Path(root).name
else:
    sys.exit()
log = open(log, "a")
left = int(instant)  # the moment, counted over all the moments below, at which this process kills itself


def moment(what):
    global left
    left -= 1
    if left == 0:
        print(json.dumps({"killed": what}), file=log, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def watched(what, function):
    def call(*arguments, **options):
        moment("before " + what)
        result = function(*arguments, **options)
        moment("after " + what)
        return result

    return call


write_bytes = Path.write_bytes


def torn(path, content):
    content = bytes(content)
    write_bytes(path, content[: len(content) // 2])
    moment("in the middle of a shard's write")
    return write_bytes(path, content)


def opened(*arguments):
    engine = open_engine(*arguments)
    engine.logps = watched("the engine call", engine.logps)
    return engine


def add(store, keys, logps):
    real_add(store, keys, logps)
    print(json.dumps({"finished": [key.hex() for key in keys]}), file=log, flush=True)


open_engine, scorer.open_engine = scorer.open_engine, opened
real_add, stores.Store.add = stores.Store.add, add
stores.Store._write = watched("a shard's write", stores.Store._write)
stores.Store._merge = watched("a merge of shards", stores.Store._merge)
Path.write_bytes = torn
files.sink_parquet = watched("the final merge", files.sink_parquet)
scoring.score_file(Path(pairs), resolve(model), params.ScoreParams(engine="transformers"), Path(root), Path(out))
print(json.dumps({"done": int(instant) - left}), file=log, flush=True)
os._exit(0)
"""


class Scorers:
    """Processes that score `pairs.parquet` of the folder with the store NAME, to NAME.parquet."""

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCORERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, name, instant=10**9):
        paths = ("pairs.parquet", "model", name, f"{name}.parquet", f"{name}.log")
        print(json.dumps([*(str(self.folder / path) for path in paths), instant]), file=self.process.stdin, flush=True)

    def wait(self):
        print("wait", file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline().split()[1])

    def run(self, name, instant=10**9):
        self.start(name, instant)
        return self.wait()

    def log(self, name):
        return [json.loads(line) for line in (self.folder / f"{name}.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    files.write_parquet(many(70), folder / "pairs.parquet", {})
    save_model(folder / "model")
    scorers = Scorers(folder)
    assert scorers.run("whole") == 0
    yield scorers
    scorers.process.stdin.close()
    assert scorers.process.wait(timeout=60) == 0


@pytest.mark.slow
def test_twenty_kills_and_the_bytes_of_an_uninterrupted_run(scorers):
    """Kills at random moments: engine calls, shards' writes and merges, and the merge of the final file."""
    moments = scorers.log("whole")[-1]["done"]
    out = scorers.folder / "killed.parquet"
    draw = random.Random(0)
    for kill in range(KILLS):
        # Early moments at first, so that there is something left for the later kills; any moment at the end.
        instant = draw.randint(1, 12) if kill < KILLS - 4 else draw.randint(1, moments)
        code = scorers.run("killed", instant)
        if code == 0:  # fewer moments than that were left: killed before the final merge instead
            out.unlink()
            code = scorers.run("killed", 1)
        assert code == -signal.SIGKILL
        assert not out.exists()  # nothing half-written
    assert scorers.run("killed") == 0

    assert out.read_bytes() == (scorers.folder / "whole.parquet").read_bytes()
    log = scorers.log("killed")
    finished = [key for line in log for key in line.get("finished", ())]
    assert len(finished) == len(set(finished)) > 100, "a finished batch was scored again"
    killed = [line["killed"] for line in log if "killed" in line]
    assert len(killed) == KILLS
    for kind in ("engine call", "shard's write", "merge of shards", "final merge"):
        assert any(kind in what for what in killed), (kind, killed)


@pytest.mark.slow
def test_two_scorers_on_one_store_at_once(scorers):
    """Both end well, with the numbers that one alone has, and leave a whole store."""
    scorers.start("shared")
    scorers.start("shared")
    assert [scorers.wait(), scorers.wait()] == [0, 0]
    shared, alone = (read_artefact(scorers.folder / f"{name}.parquet", "scores") for name in ("shared", "whole"))
    assert shared["pair_id"].equals(alone["pair_id"])
    for side in ("chosen", "rejected"):
        for kind in ("ref", "null"):
            difference = shared[f"{kind}_{side}_logps"] - alone[f"{kind}_{side}_logps"]
            assert (difference / shared[f"{side}_tokens"]).abs().max() < 1e-5
    (held,) = holdings(scorers.folder / "shared")
    assert not held.strangers and held.label["model"] == resolve(scorers.folder / "model").digest
