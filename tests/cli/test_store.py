"""`curate store` as a person calls it."""

import json
import os
import time

import numpy as np
import pytest
from tiny import save_model
from typer.testing import CliRunner

from curate.base.errors import InputError, UsageError
from curate.cli import app
from curate.models.resolve import resolve
from curate.scoring.store import Store


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def root(model, tmp_path):
    for dtype in ("float32", "bfloat16"):
        store = Store(tmp_path / "scores", model, dtype, "vllm 1 on cpu, revision 2")
        for number in range(3):
            store.add([bytes([number] * 16)], np.array([-1.0]))
    return tmp_path / "scores"


def curate(*arguments):
    return CliRunner().invoke(app, ["store", *map(str, arguments)], catch_exceptions=False)


def ids(root):
    return {one["dtype"]: one["id"] for one in json.loads(curate("--store", root, "--json").stdout)}


def test_it_shows_what_there_is(root, model):
    shown = curate("--store", root).stdout
    assert "float32" in shown and "bfloat16" in shown and "vllm 1 on cpu" in shown
    assert "6 log-probs" in shown and model.digest[:8] in shown
    one = json.loads(curate("--store", root, "--json").stdout)[0]
    assert one["log_probs"] == 3 and one["shards"] == 3 and one["model"] == model.digest and one["strangers"] == []


def test_on_a_narrow_terminal_ids_and_times_stay_whole(root, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "60")
    shown = curate("--store", root).stdout
    assert all(one in shown for one in ids(root).values()) and "…" not in shown
    assert time.strftime("%Y-%m-%d ") in shown


def test_the_default_is_the_working_folders_store(root, monkeypatch):
    monkeypatch.setenv("CURATE_STATE", str(root.parent))
    assert "6 log-probs" in curate().stdout


def test_merge_makes_one_shard_of_many(root):
    curate("merge", "--store", root)
    shown = json.loads(curate("--store", root, "--json").stdout)
    assert [(one["shards"], one["log_probs"]) for one in shown] == [(1, 3), (1, 3)]


def test_prune_says_first_and_deletes_then(root):
    gone = ids(root)["bfloat16"]
    assert "would delete" in curate("prune", gone, "--store", root).stderr and len(ids(root)) == 2
    curate("prune", gone, "--store", root, "--yes")
    assert list(ids(root)) == ["float32"]


def test_prune_by_age(root):
    kept = ids(root)["float32"]
    old = time.time() - 10 * 86400
    for path in (root / ids(root)["bfloat16"]).iterdir():
        os.utime(path, (old, old))
    curate("prune", "--older-than", 30, "--store", root, "--yes")
    assert len(ids(root)) == 2
    curate("prune", "--older-than", 5, "--store", root, "--yes")
    assert list(ids(root).values()) == [kept]


def test_prune_damaged_takes_nothing_else(root):
    folder = root / ids(root)["float32"]
    torn = sorted(folder.glob("*.arrow"))[0]
    torn.write_bytes(torn.read_bytes()[:100])
    (folder / "notes.txt").write_text("mine")
    assert curate("--store", root).stdout.count("no whole shard, ignored") == 2
    curate("prune", "--damaged", "--store", root, "--yes")
    assert not torn.exists() and not (folder / "notes.txt").exists()
    assert [one["log_probs"] for one in json.loads(curate("--store", root, "--json").stdout)] in ([2, 3], [3, 2])


def test_bad_calls_are_told(root, tmp_path):
    with pytest.raises(UsageError, match="say what to delete"):
        curate("prune", "--store", root)
    with pytest.raises(UsageError, match="no such entry"):
        curate("prune", "abc", "--store", root)
    with pytest.raises(InputError, match="no such file"):
        curate("--store", tmp_path / "none")
