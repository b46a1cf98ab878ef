"""The store: nothing lost, nothing reused that could differ."""

import numpy as np
import pytest
from tiny import save_model

from curate import models
from curate.errors import OutputError
from curate.rendering import TokenSequence
from curate.scoring.store import Store


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.resolve(save_model(tmp_path_factory.mktemp("model")))


def sequence(prompt, response):
    return TokenSequence(np.array(prompt, dtype=np.int32), np.array(response, dtype=np.int32))


def test_read_gives_what_add_was_given(model, tmp_path):
    store = Store(tmp_path, model, "float32", "vllm 1")
    assert store.read().is_empty()
    store.add([b"a" * 16, b"b" * 16], np.array([-1.5, -2.25]))
    store.add([b"c" * 16], np.array([-3.0]))
    assert dict(store.read().rows()) == {b"a" * 16: -1.5, b"b" * 16: -2.25, b"c" * 16: -3.0}


def test_a_key_sees_ids_boundary_model_dtype_and_engine(model, tmp_path):
    def keys(model=model, dtype="float32", engine="vllm 1", prompt=(1, 2), response=(3, 4)):
        return Store(tmp_path, model, dtype, engine).key(sequence(prompt, response))

    others = [
        keys(prompt=(1, 9)),
        keys(response=(3, 9)),
        keys(prompt=(1,), response=(2, 3, 4)),  # the same ids, another boundary
        keys(prompt=(1, 2, 3), response=(4,)),
        keys(dtype="bfloat16"),
        keys(engine="vllm 2"),
        keys(model=model._replace(digest="0" * 32)),
    ]
    assert len({keys(), *others}) == len(others) + 1
    assert keys() == keys(model=model._replace(name="renamed"))


def test_two_writers_of_one_batch_and_of_different_ones(model, tmp_path):
    one, two = (Store(tmp_path, model, "float32", "vllm 1") for _ in range(2))
    for store in (one, two):
        store.add([b"a" * 16], np.array([-1.0]))
    two.add([b"a" * 16, b"b" * 16], np.array([-1.0, -2.0]))
    assert sorted(one.read().rows()) == [(b"a" * 16, -1.0), (b"b" * 16, -2.0)]


@pytest.mark.parametrize("damage", ["torn", "foreign", "flipped"])
def test_a_file_that_is_no_whole_shard_is_named_and_ignored(model, tmp_path, capsys, damage):
    store = Store(tmp_path, model, "float32", "vllm 1")
    store.add([b"a" * 16], np.array([-1.0]))
    store.add([b"b" * 16], np.array([-2.0]))
    shard = sorted(store.folder.glob("*.parquet"))[0]
    content = shard.read_bytes()
    if damage == "torn":
        shard.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        shard = shard.with_name("mine.parquet")
        shard.write_bytes(content)
    assert store.read().height == (2 if damage == "foreign" else 1)
    assert f"ignored {shard}" in capsys.readouterr().err


def test_a_store_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Store(tmp_path / "file", model, "float32", "vllm 1").add([b"a" * 16], np.array([-1.0]))
