"""Of a path only its last part leaves the machine; Hub ids and plain words stay as they are."""

import pytest

from curate.base.public import last_part, public


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/home/me/x.jsonl", "x.jsonl"),
        ("/home/me/my models/llama/", "llama"),
        ("~/y", "y"),
        ("../z/", "z"),
        ("./runs/bdpo/model", "model"),
        ("runs/bdpo/model", "model"),
        ("runs/bdpo/", "bdpo"),
        ("data/pairs.jsonl", "pairs.jsonl"),
        ("data/pairs.JSONL.zst", "pairs.JSONL.zst"),
        ("my models/llama two/final", "final"),
        ("C:\\u\\w", "w"),
        ("runs\\model", "model"),
        ("\\\\host\\share\\w", "w"),
        ("file:/home/me/x", "x"),
        ("http://me:hush@host:8000/v1", "v1"),
        ("gsm8k=/home/me/test.jsonl", "gsm8k=test.jsonl"),
        ("gsm8k=data/test.jsonl", "gsm8k=test.jsonl"),
        ("xstest=hub:owner/name#test", "xstest=hub:owner/name#test"),
        ("hub:a/b:config#split", "hub:a/b:config#split"),
        ("owner/name", "owner/name"),
        ("Qwen/Qwen2-7B-Instruct", "Qwen/Qwen2-7B-Instruct"),
        ("nats/token", "nats/token"),
        ("of the prompts and/or answers", "of the prompts and/or answers"),
        ("stop, length (cut at a/b), too_long; x/y", "stop, length (cut at a/b), too_long; x/y"),
        ("scratch", "scratch"),
        ("", ""),
        (1.5, 1.5),
        (None, None),
        ({"a": ["runs/a/b", 1], "b": {"c": True}}, {"a": ["b", 1], "b": {"c": True}}),
    ],
)
def test_what_leaves(given, expected):
    assert public(given) == expected


def test_a_folder_that_is_there_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "llama").mkdir(parents=True)
    assert public("models/llama") == "llama" and public("models/other") == "models/other"
    monkeypatch.chdir(tmp_path / "models" / "llama")
    assert public(".") == last_part(".") == "llama" and last_part("..") == "models"
