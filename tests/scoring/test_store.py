"""The store: nothing lost, nothing reused that could differ."""

import hashlib
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tiny import save_model

from curate.base import shards
from curate.base.errors import InputError, OutputError
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model, resolve
from curate.scoring.store import SCHEMA, Store, holdings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def store(model, tmp_path):
    return Store(tmp_path, model, "float32", "vllm 1")


def again(store):
    """The same store, opened anew."""
    other = Store.__new__(Store)
    other.__dict__ |= store.__dict__ | {"_mapped": {}, "_added": 0}
    return other


def sequence(prompt, response):
    return TokenSequence(np.array(prompt, dtype=np.int32), np.array(response, dtype=np.int32))


def keys(*names):
    return [hashlib.md5(str(name).encode()).digest() for name in names]


def test_lookup_gives_what_add_was_given(store):
    assert np.isnan(store.lookup(keys("a"))).all()
    store.add(keys("a", "b"), np.array([-1.5, -2.25]))
    store.add(keys("c"), np.array([-3.0]))
    for one in (store, again(store)):
        assert np.array_equal(
            one.lookup(keys("c", "z", "a", "b", "a")), [-3, np.nan, -1.5, -2.25, -1.5], equal_nan=True
        )
    assert store.rows() == 3
    assert store.lookup([]).shape == (0,)


def test_keys_that_share_their_first_half_are_told_apart(store):
    ours = [b"12345678" + bytes([i] * 8) for i in range(9)]
    store.add(ours, -np.arange(9.0))
    store.add([b"\xff" * 16], np.array([-77.0]))
    assert store.lookup([*reversed(ours), b"\xff" * 16]).tolist() == [*range(-8, 1), -77]
    assert np.isnan(store.lookup([b"12345678" + b"\x20" * 8, b"\xff" * 8 + b"\x01" * 8])).all()


def test_scores_of_the_first_version_are_found(tmp_path):
    """Folder and key are those of version 0.1.0: no number is scored again because of another version."""
    model = Model(name="m", path=tmp_path, digest="0" * 64, commit=None, context=8)
    store = Store(tmp_path, model, "float32", "transformers 5.19.0 cpu")
    assert store.folder.name == "5517696588ceacc2"
    assert store.key(sequence((1, 2), (3, 4))).hex() == "436016e8e46b3f81fcb445f0b2280149"


def test_a_key_sees_ids_boundary_model_dtype_and_engine(model, tmp_path):
    def key(model=model, dtype="float32", engine="vllm 1", prompt=(1, 2), response=(3, 4)):
        return Store(tmp_path, model, dtype, engine).key(sequence(prompt, response))

    others = [
        key(prompt=(1, 9)),
        key(response=(3, 9)),
        key(prompt=(1,), response=(2, 3, 4)),  # the same ids, another boundary
        key(prompt=(1, 2, 3), response=(4,)),
        key(dtype="bfloat16"),
        key(engine="vllm 2"),
        key(model=model._replace(digest="0" * 32)),
    ]
    assert len({key(), *others}) == len(others) + 1
    assert key() == key(model=model._replace(name="renamed"))


def test_two_writers_of_one_batch_and_of_different_ones(store):
    """What one writes the other finds; of two numbers for one key the lower counts, whoever came first."""
    other = again(store)
    store.add(keys("a"), np.array([-1.0]))
    other.add(keys("a"), np.array([-1.0]))
    other.add(keys("a", "b"), np.array([-1.0001, -2.0]))
    for one in (store, other, again(store)):
        assert one.lookup(keys("a", "b")).tolist() == [-1.0001, -2.0]


def test_merging_changes_no_answer_and_leaves_one_shard(store, monkeypatch):
    monkeypatch.setattr(shards, "MERGE_SHARDS", 4)
    names = range(23)
    for name in names:
        store.add(keys(name, name // 2), np.array([-float(name), -100.0 - name]))
    expected = store.lookup(keys(*names))
    files = len(list(store.folder.glob("*.arrow")))
    assert files < 23 / 2  # merged on the way
    late = again(store)
    assert np.array_equal(late.lookup(keys(*names)), expected)
    assert store.merge(everything=True) == files - 1
    assert len(list(store.folder.glob("*.arrow"))) == 1 and store.rows() == 23
    for one in (store, late, again(store)):  # `late` had mapped files that are gone now
        assert np.array_equal(one.lookup(keys(*names)), expected)
    assert not list(store.folder.glob("*.tmp"))


def test_large_shards_are_left_alone(store, monkeypatch):
    monkeypatch.setattr(Store, "merge_rows", 10)
    for first in range(0, 30, 6):
        store.add(keys(*range(first, first + 6)), np.zeros(6))
    store.add(keys(*range(100, 112)), np.zeros(12))
    store.merge(everything=True)
    heights = sorted(pl.read_ipc(path).height for path in store.folder.glob("*.arrow"))
    assert heights == [6, 6, 6, 6, 6, 12]  # two of six would be more than ten


@pytest.mark.parametrize("damage", ["torn", "foreign", "flipped", "other columns", "not sorted", "twice", "not ours"])
def test_a_file_that_is_no_whole_shard_is_named_and_ignored(store, capsys, damage):
    store.add(keys("a"), np.array([-1.0]))
    store.add(keys("b"), np.array([-2.0]))
    shard = sorted(store.folder.glob("*.arrow"))[0]
    content = shard.read_bytes()
    if damage == "torn":
        shard.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "foreign":
        shard = shard.with_name("mine.arrow")
        shard.write_bytes(content)
    elif damage in (
        "other columns",
        "not sorted",
        "twice",
    ):  # a whole file with the right name that says something else
        high = {"not sorted": [2, 1], "twice": [1, 1]}.get(damage)
        row = {"key_low": [1, 1], "logp": [-1.0, -2.0]} if high else {"logp": [0.5]}
        table = pa.table({"key_high": high or [1], **row}, schema=SCHEMA if high else None)
        with pa.ipc.new_file(shard, table.schema) as writer:
            writer.write_table(table)
        shard = shard.rename(shard.with_stem(hashlib.sha256(shard.read_bytes()).hexdigest()[:32]))
    else:
        shard = shard.with_stem("0" * 32)
        shard.write_text("hello")
    fresh = again(store)
    lost = damage not in ("foreign", "not ours")
    assert np.isnan(fresh.lookup(keys("a", "b"))).sum() == lost
    fresh.lookup(keys("a"))
    assert capsys.readouterr().err.count(f"ignored {shard}") == 1
    (held,) = holdings(store.folder.parent)
    assert held.strangers == [shard] and held.rows == 2 - lost
    fresh.merge(everything=True)
    assert shard.exists()  # whoever made it, it is not ours to delete


def test_a_store_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file stands where"):
        Store(tmp_path / "file", model, "float32", "vllm 1").add(keys("a"), np.array([-1.0]))


def test_holdings_say_what_there_is(store, model, tmp_path):
    store.add(keys("a", "b"), np.array([-1.0, -2.0]))
    Store(tmp_path, model, "bfloat16", "vllm 1").add(keys("a"), np.array([-1.0]))
    (tmp_path / "something").mkdir()
    found = {held.label["dtype"]: held for held in holdings(tmp_path)}
    assert found.keys() == {"float32", "bfloat16"}
    one = found["float32"]
    assert (one.shards, one.rows, one.strangers) == (1, 2, []) and one.bytes > 48
    assert one.label["model"] == model.digest and one.label["engine"] == "vllm 1"
    with pytest.raises(InputError, match="no such file"):
        holdings(tmp_path / "missing")


WRITER = """
import hashlib, sys
from pathlib import Path
import numpy as np
from curate.base import shards
from curate.models.resolve import resolve
from curate.scoring import store as stores
shards.MERGE_SHARDS = 3
store = stores.Store(Path(sys.argv[1]), resolve(sys.argv[2]), "float32", "vllm 1")
for i in range(40):
    keys = [hashlib.md5(str(name).encode()).digest() for name in range(i * 5, i * 5 + 9)]
    store.add(keys, -np.arange(9.0) - i * 5 - int(sys.argv[3]) * 1e-9)
"""


@pytest.mark.slow
def test_writers_and_mergers_at_once_lose_nothing(store, model):
    """Three processes add and merge the same keys for a while; a fourth, which does too, is killed."""
    command = [sys.executable, "-c", WRITER, str(store.folder.parent), str(model.path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    while not list(store.folder.glob("*.arrow")):
        time.sleep(0.01)
    writers.pop().kill()
    assert [writer.wait(timeout=100) for writer in writers] == [0, 0, 0]
    every = keys(*range(39 * 5 + 9))
    assert np.allclose(again(store).lookup(every), -np.arange(len(every)), atol=1e-6)


def test_a_shard_is_plain_arrow(store):
    """Other tools can read it."""
    store.add(keys("a"), np.array([-1.0]))
    (path,) = store.folder.glob("*.arrow")
    assert pl.read_ipc(path).to_dict(as_series=False)["logp"] == [-1.0]


def test_a_large_shard_is_mapped_and_not_read(store):
    """Looking up in 48 MB of shards takes next to no memory of this process's own."""
    draw = np.random.default_rng(0)
    words = draw.integers(0, 2**63, (2_000_000, 2), dtype=np.uint64)
    content = words.tobytes()
    store.add([content[i : i + 16] for i in range(0, len(content), 16)], np.zeros(len(words)))
    before = pa.total_allocated_bytes()
    fresh = again(store)
    assert fresh.lookup([words[7].tobytes(), b"x" * 16]).tolist()[0] == 0
    assert pa.total_allocated_bytes() - before < 1_000_000
    (shard,) = fresh._mapped.values()
    assert shard.height == 2_000_000 and not shard.high.flags.writeable and not shard.high.flags.owndata


def test_what_is_no_log_probability_is_ignored_and_told(tmp_path, model, capsys):
    """A shard under its own digest, whose -inf would be the lowest of its key."""
    store = Store(tmp_path, model, "float32", "transformers")
    good, bad = [bytes([n]) * 16 for n in range(4)], [bytes([n]) * 16 for n in range(1, 5)]
    store.add(good, np.array([-1.0, -2.0, -3.0, -4.0]))
    store.add(bad, np.array([-np.inf, np.nan, 7.0, -5.0]))
    again = Store(tmp_path, model, "float32", "transformers")
    assert again.lookup([*good, bad[-1]]).tolist() == [-1.0, -2.0, -3.0, -4.0, -5.0]
    assert "ignored 3 values" in capsys.readouterr().err
    again.merge(everything=True)
    assert Store(tmp_path, model, "float32", "transformers").lookup(good).tolist() == [-1.0, -2.0, -3.0, -4.0]
