"""The cache of texts: nothing lost, nothing torn taken for whole."""

import subprocess
import sys

import pytest

from curate.base import shards
from curate.base.errors import OutputError
from curate.evaluation.generation.cache import TextCache, key


def keys(*names):
    return [key(name) for name in names]


def test_lookup_gives_what_add_was_given_and_what_others_add_meanwhile(tmp_path):
    cache, other = TextCache(tmp_path / "texts"), TextCache(tmp_path / "texts")
    assert cache.lookup(keys("a")) == [None] and cache.lookup([]) == []
    cache.add(keys("a", "b"), ["", "line\nof \0 ünïcode 🦊"])
    assert other.lookup(keys("b", "z", "a", "b")) == ["line\nof \0 ünïcode 🦊", None, "", "line\nof \0 ünïcode 🦊"]
    other.add(keys("c"), ["third"])
    other.add([], [])
    assert cache.lookup(keys("c")) == ["third"]
    assert len(list(cache.folder.iterdir())) == 2


def test_a_key_tells_apart_what_differs():
    parts = [("a", 1), ("a", "1"), (["a", 1],), ("a", 1, None), ("a1",), ("a", 1.5), ({"a": 1},)]
    assert len({key(*each) for each in parts}) == len(parts)
    assert key({"a": 1, "b": "é"}) == key({"b": "é", "a": 1}) and len(key()) == 16


def test_the_smallest_text_of_a_key_counts_before_and_after_merging(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MERGE_SHARDS", 4)
    cache, late = TextCache(tmp_path), TextCache(tmp_path)
    for number in range(23):
        cache.add(keys(number, "shared", "shared"), [f"text {number}", f"z {number:02}", f"y {22 - number:02}"])
        late.lookup(keys(0))  # has read shards that are gone later
    wanted = [*(f"text {number}" for number in range(23)), "y 00"]
    every = keys(*range(23), "shared")
    before = len(list(tmp_path.iterdir()))
    assert before < 23 / 2 and cache.lookup(every) == wanted  # merged on the way
    assert cache.merge(everything=True) == before - 1 and cache.rows() == 24
    assert [one.lookup(every) for one in (cache, late, TextCache(tmp_path))] == [wanted] * 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["torn", "foreign", "flipped", "not ours"])
def test_a_file_that_is_no_whole_shard_is_said_once_and_ignored(tmp_path, capsys, damage):
    cache = TextCache(tmp_path)
    cache.add(keys("a"), ["of a"])
    cache.add(keys("b"), ["of b"])
    shard = sorted(tmp_path.iterdir())[0]
    content = shard.read_bytes()
    if damage == "torn":
        shard.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "foreign":
        shard = shard.with_name("mine.arrow")
        shard.write_bytes(content)
    else:
        shard = shard.with_stem("0" * 32)
        shard.write_text("hello")
    fresh = TextCache(tmp_path)
    assert fresh.lookup(keys("a", "b")).count(None) == (damage in ("torn", "flipped"))
    fresh.lookup(keys("a"))
    assert capsys.readouterr().err.count(f"ignored {shard}") == 1
    fresh.merge(everything=True)
    assert shard.exists()


WRITER = """
import sys
from pathlib import Path
from curate.base import shards
from curate.evaluation.generation.cache import TextCache, key
shards.MERGE_SHARDS = 3
cache = TextCache(Path(sys.argv[1]))
for number in range(30):
    names = range(number * 5, number * 5 + 9)
    cache.add([key(name) for name in names], [f"{name} by {sys.argv[2]}" for name in names])
"""


def test_writers_and_mergers_at_once_lose_nothing(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("one", "two", "six")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert TextCache(tmp_path).lookup(keys(*range(154))) == [f"{name} by one" for name in range(154)]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        TextCache(tmp_path / "file").add(keys("a"), ["text"])
