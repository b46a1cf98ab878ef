"""Credentials are stripped in one place, whatever the form they come in; what only looks like one stays."""

import json

import polars as pl
import pytest

from curate.base import files
from curate.base.credentials import redacted, redacted_address, redacted_value
from curate.base.errors import CurateError, shortened
from curate.base.progress import safe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:s3cret@host:8000/v1 fails", "http://***@host:8000/v1 fails"),
        ("http://s3cret@host/v1", "http://***@host/v1"),
        ("['http://a:s3cret@h/v1', 'http://b:s3cret@i/v1']", "['http://***@h/v1', 'http://***@i/v1']"),
        ("http://user:s3/cret@host/v1", "http://***@host/v1"),
        ("http://user:s3@cret@host/v1", "http://***@host/v1"),
        ("https://host/v1?api_key=s3cret&model=m", "https://host/v1?api_key=***&model=m"),
        ("https://s3.host/x?X-Amz-Signature=s3cret", "https://s3.host/x?X-Amz-Signature=***"),
        ("Authorization: Bearer s3cret", "Authorization: Bearer ***"),
        ("a token hf_abcdefghijklmnopqrstuvwxyz0123", "a token ***"),
        ("http://host:8000/a@b", "http://host:8000/a@b"),
        ("hub:owner/name@main and https://host/x@y", "hub:owner/name@main and https://host/x@y"),
        ("me@example.org, max_tokens=3", "me@example.org, max_tokens=3"),
    ],
)
def test_free_text(text, shown):
    assert redacted(text) == shown == redacted(shown)


@pytest.mark.parametrize("address", ["user:s3cret@host/v1", "http://user:s3 cret@host/v1", "x://y://s3cret@host/v1"])
def test_what_is_meant_as_an_address(address):
    assert redacted_address(address).endswith("***@host/v1") and "s3" not in redacted_address(address)


def test_records_keep_all_but_secrets():
    record = {"judge_url": "u:s3cret@h", "server_urls": ["http://u:s3cret@h"], "api_key": "s3cret", "max_tokens": 3}
    kept = {"prompt_key": "abc", "seed": 0, "name": "a@b"}
    assert redacted_value(record | kept) == {
        "judge_url": "***@h",
        "server_urls": ["http://***@h"],
        "api_key": "***",
        "max_tokens": 3,
        **kept,
    }


@pytest.mark.parametrize("variable", ["HF_TOKEN", "CURATE_SERVER_KEY", "OPENAI_API_KEY", "WANDB_API_KEY"])
def test_keys_of_the_environment_are_in_no_output(variable, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, "pl4ntedSecret")
    said = f"the server says: pl4ntedSecret is wrong, {'x' * 600}"
    files.write_json({"said": said}, tmp_path / "a.json")
    files.write_parquet(pl.DataFrame({"a": [1]}), tmp_path / "a.parquet", {"said": [said]})
    error = CurateError(said, found=said, field="x")
    for text in (safe(said), str(error), (tmp_path / "a.json").read_text()):
        assert "pl4nted" not in text and "the server says" in text
    assert "pl4nted" not in json.dumps(files.read_provenance(tmp_path / "a.parquet"))
    assert b"pl4nted" not in (tmp_path / "a.parquet").read_bytes()


def test_an_error_is_bounded_and_keeps_head_and_tail():
    error = CurateError("no", found="head" + "x" * 10_000_000 + "tail", file="f.json")
    assert len(str(error)) < 1000 and "head" in str(error) and str(error).endswith("tail")
    assert shortened("short") == "short"
