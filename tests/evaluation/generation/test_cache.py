"""The cache of texts: nothing lost, nothing torn taken for whole."""

import hashlib
import os
import subprocess
import sys
from functools import partial

import pyarrow as pa
import pytest

from curate.base import shards
from curate.base.errors import OutputError
from curate.evaluation.generation import endpoint, local
from curate.evaluation.generation.base import Generated
from curate.evaluation.generation.cache import SCHEMA, TextCache, key, parsed
from curate.evaluation.items import Response
from curate.evaluation.judges import passes
from curate.evaluation.suites import gcg


def keys(*names):
    return [key(name) for name in names]


def test_lookup_gives_what_add_was_given_and_what_others_add_meanwhile(tmp_path):
    cache, other = TextCache(tmp_path / "texts", str), TextCache(tmp_path / "texts", str)
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
    cache, late = TextCache(tmp_path, str), TextCache(tmp_path, str)
    for number in range(23):
        cache.add(keys(number, "shared", "shared"), [f"text {number}", f"z {number:02}", f"y {22 - number:02}"])
        late.lookup(keys(0))  # has read shards that are gone later
    wanted = [*(f"text {number}" for number in range(23)), "y 00"]
    every = keys(*range(23), "shared")
    before = len(list(tmp_path.iterdir()))
    assert before < 23 / 2 and cache.lookup(every) == wanted  # merged on the way
    assert cache.merge(everything=True) == before - 1 and cache.rows() == 24
    assert [one.lookup(every) for one in (cache, late, TextCache(tmp_path, str))] == [wanted] * 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["torn", "foreign", "flipped", "not ours"])
def test_a_file_that_is_no_whole_shard_is_said_once_and_ignored(tmp_path, capsys, damage):
    cache = TextCache(tmp_path, str)
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
    fresh = TextCache(tmp_path, str)
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
cache = TextCache(Path(sys.argv[1]), str)
for number in range(30):
    names = range(number * 5, number * 5 + 9)
    cache.add([key(name) for name in names], [f"{name} by {sys.argv[2]}" for name in names])
"""


def test_writers_and_mergers_at_once_lose_nothing(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("one", "two", "six")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert TextCache(tmp_path, str).lookup(keys(*range(154))) == [f"{name} by one" for name in range(154)]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file stands where"):
        TextCache(tmp_path / "file", str).add(keys("a"), ["text"])


def crafted(folder, columns):
    """A shard under its own digest, whatever it says: (high, low, text), as Arrow has them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
    content = sink.getvalue().to_pybytes()
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.arrow"
    path.write_bytes(content)
    return path


def not_utf8():
    offsets = pa.array([0, 1, 3], pa.int64()).buffers()[1]
    return pa.LargeStringArray.from_buffers(2, offsets, pa.py_buffer(b"a\xff\xfe"))


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param([[1, None], [1, 2], ["a", "b"]], id="null key"),
        pytest.param([[1, 2], [1, 2], ["a", None]], id="null text"),
        pytest.param([[1, 1], [2, 2], ["a", "b"]], id="one key twice"),
        pytest.param([[2, 1], [1, 1], ["a", "b"]], id="not sorted"),
        pytest.param([[1, 2], [1, 2], not_utf8()], id="not UTF-8"),
    ],
)
def test_a_shard_under_its_own_digest_is_looked_at(tmp_path, capsys, columns):
    cache = TextCache(tmp_path, str)
    cache.add(keys("a"), ["of a"])
    path = crafted(
        tmp_path,
        [
            pa.array(one, field.type) if isinstance(one, list) else one
            for one, field in zip(columns, SCHEMA, strict=True)
        ],
    )
    fresh = TextCache(tmp_path, str)
    assert fresh.lookup(keys("a")) == ["of a"] and fresh.rows() == 1
    assert capsys.readouterr().err.count(f"ignored {path}") == 1


def test_what_is_no_file_is_no_shard(tmp_path, capsys):
    cache = TextCache(tmp_path, str)
    cache.add(keys("a"), ["of a"])
    os.mkfifo(tmp_path / f"{1:032}.arrow")
    (tmp_path / f"{2:032}.arrow").symlink_to(tmp_path / f"{2:032}.arrow")
    (tmp_path / f"{3:032}.arrow").symlink_to(tmp_path / "nothing")
    (tmp_path / f"{4:032}.arrow").mkdir()
    assert TextCache(tmp_path, str).lookup(keys("a")) == ["of a"]
    assert capsys.readouterr().err.count("ignored") == 4


def test_a_text_that_is_none_of_the_kind_hides_no_other(tmp_path, capsys):
    """Of two texts of one key the lower counts, but not one that nobody wrote: before and after merging."""
    cache = TextCache(tmp_path, lambda text: parsed(text)["good"])
    cache.add(keys("a", "b"), ['{"good": 1}', '{"good": 2}'])
    cache.add(keys("a", "c"), ["[", '{"good": 3}'])
    assert cache.lookup(keys("a", "b", "c")) == [1, 2, 3]
    said = capsys.readouterr().err
    assert "ignored 1 texts of" in said and str(tmp_path) in said
    cache.merge(everything=True)
    assert TextCache(tmp_path, parsed).lookup(keys("a", "b", "c")) == [{"good": 1}, {"good": 2}, {"good": 3}]


READERS = {
    "local": (local._read, {'["stop", [1, 2]]': Generated([1, 2], "stop"), '["length", []]': Generated([], "length")}),
    "endpoint": (
        endpoint._stored,
        {
            '{"text": "\\u00e9", "finish": "stop", "tokens": 3}': Response("é", "stop", 3),
            '{"text": null, "finish": "error", "tokens": 0}': Response(None, "error"),
        },
    ),
    "gcg": (gcg._read, {'[" !", 2.5, 1.0]': gcg.Found(" !", 2.5, 1.0)}),
    "passes": (partial(passes._read, labels=2), {"[0.25, 0.75]": [0.25, 0.75], "[1.0, 0.0]": [1.0, 0.0]}),
}
WRONG = {
    "local": [
        '["stop"]', '["end", [1]]', '[null, [1]]', '["stop", [1.5]]', '["stop", [-1]]', '["stop", [true]]',
        '["stop", [4294967296]]', '["stop", "12"]', '["stop", null]', '{"stop": [1]}', '["stop", [1], 2]',
    ],
    "endpoint": [
        '{"text": 5, "finish": "stop", "tokens": 3}', '{"text": "a", "finish": "done", "tokens": 3}',
        '{"text": "a", "finish": null, "tokens": 3}', '{"text": "a", "finish": "stop", "tokens": NaN}',
        '{"text": "a", "finish": "stop", "tokens": -1}', '{"text": "a", "finish": "stop", "tokens": 1e3}',
        '{"text": "a", "finish": "stop", "tokens": 3, "more": 1}', '{"text": "a", "tokens": 3}',
        '{"text": "a", "text": "b", "finish": "stop", "tokens": 3}', '{"text": "\\ud800", "finish": "stop"}',
        '{"text": "a", "finish": "stop", "prefill": 5}', '["a", "stop", 3]',
    ],
    "gcg": [
        '[5, 2.5, 1.0]', '["a", NaN, 1.0]', '["a", 2.5, Infinity]', '["a", 2.5]', '["a", 1e999, 1.0]', '["a", 1, 1]',
    ],
    "passes": ["[0.25]", "[0.5, 0.25, 0.25]", "[NaN, 0.5]", "[2.0, -1.0]", '["0.5", 0.5]', "[null, 0.5]",
               "[1, 0]"],
}  # fmt: skip
NO_TEXTS = ["", "null", "7", '"a"', "[", "[" * 5000, "[]", "{}", "é", "[[]]"]


@pytest.mark.parametrize("name", READERS)
def test_what_is_kept_is_read_as_what_it_is_or_not_at_all(name):
    read, sound = READERS[name]
    assert [read(text) for text in sound] == list(sound.values())
    for text in WRONG[name] + NO_TEXTS:
        with pytest.raises(ValueError):
            read(text)
