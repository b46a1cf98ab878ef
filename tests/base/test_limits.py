"""Inputs that never end, or unpack to far more than they are, are refused with the way to raise the bound."""

import gzip
import os

import pytest

from curate.base import limits
from curate.base.errors import InputError, UsageError


def test_pipes_devices_folders_and_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, says in (
        (tmp_path / "pipe", "a pipe"),
        ("/dev/zero", "a device"),
        (tmp_path, "a folder"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "loop", "cannot read"),
        (tmp_path / ("x" * 300), "cannot read"),
        ("a\0b", "cannot read"),
    ):
        with pytest.raises(InputError, match=says):
            limits.read_bytes(path)


def test_a_large_file_and_the_option_that_raises_the_bound(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 3000)
    monkeypatch.setenv(limits.VARIABLE, "2kB")
    with pytest.raises(InputError, match=r"3,000 bytes[\s\S]*at most 2,000[\s\S]*CURATE_INPUT_LIMIT"):
        limits.read_bytes(tmp_path / "a")
    monkeypatch.setenv(limits.VARIABLE, "3000")
    assert len(limits.read_bytes(tmp_path / "a")) == 3000
    monkeypatch.setenv(limits.VARIABLE, "much")
    with pytest.raises(UsageError, match="not a size"):
        limits.limit()


def test_a_bomb_is_refused_and_an_honest_archive_read(monkeypatch):
    monkeypatch.setattr(limits, "SMALL", 2**20)
    bomb = gzip.compress(b"[" + b"null," * 2_000_000)
    with pytest.raises(InputError, match=r"unpack to more than[\s\S]*CURATE_INPUT_LIMIT"):
        limits.gunzip(bomb, "bomb.gz")
    monkeypatch.setenv(limits.VARIABLE, "1GB")
    assert len(limits.gunzip(bomb, "bomb.gz")) == 10_000_001
    monkeypatch.delenv(limits.VARIABLE)
    assert limits.gunzip(gzip.compress(b"one ") + gzip.compress(b"two"), "a.gz") == b"one two"


@pytest.mark.parametrize("spoil", [lambda data: data[:-3], lambda data: data[:5], lambda data: data[:20] + b"\xff" * 9])
def test_a_damaged_archive(spoil):
    with pytest.raises(InputError, match="truncated or damaged"):
        limits.gunzip(spoil(gzip.compress(b"some text, and more of it")), "a.gz")


def test_more_rows_than_bytes(monkeypatch):
    limits.check_rows(90_000, "a.parquet", 10)
    with pytest.raises(InputError, match=r"3,000,000 rows in 17,000 bytes[\s\S]*CURATE_INPUT_LIMIT"):
        limits.check_rows(3_000_000, "a.parquet", 17_000)
    monkeypatch.setenv(limits.VARIABLE, "1GB")
    limits.check_rows(3_000_000, "a.parquet", 17_000)


def test_the_option_counts_more_than_the_environment(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 3000)
    monkeypatch.setenv(limits.VARIABLE, "1GB")
    with (
        limits.given("2 kB"),
        pytest.raises(InputError, match=r"at most 2,000[\s\S]*--input-limit[\s\S]*data.input_limit"),
    ):
        limits.read_bytes(tmp_path / "a")
    with limits.given(None):
        assert limits.limit() == 10**9
    monkeypatch.delenv(limits.VARIABLE)
    with limits.given("3kb"):
        assert len(limits.read_bytes(tmp_path / "a")) == 3000
    assert limits.limit() == limits.INPUT_LIMIT
    for odd in ("", "-1", "1.5GB", "much", "９GB"):
        with pytest.raises(UsageError, match="not a size"), limits.given(odd):
            pass
