"""A lock says who holds it, and dies with its holder."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from curate.base import locks
from curate.base.errors import OutputError
from curate.base.locks import Held, held

HOLDER = """
import sys, time
from pathlib import Path
from curate.base.locks import held
with held(Path(sys.argv[1]), "is busy"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock `lock`."""
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path / "locks" / "lock")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_holds_it_and_a_kill_gives_it_back(tmp_path, holder):
    path = tmp_path / "locks" / "lock"
    with pytest.raises(Held, match="another process is busy") as caught, held(path, "is busy"):
        pass
    found = caught.value.details["found"]
    assert found.startswith(f"process {holder.pid} on {socket.gethostname()}, since 20") and found.endswith(" UTC")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert path.is_file(), "what a killed process leaves is in nobody's way"
    with held(path, "is busy"):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert not path.exists()


def test_waiting_is_said_and_ends(tmp_path, holder, capsys):
    threading.Timer(0.3, holder.kill).start()
    start = time.monotonic()
    with held(tmp_path / "locks" / "lock", "is busy", wait=True):
        assert time.monotonic() - start > 0.2
    assert f"process {holder.pid} on " in (said := capsys.readouterr().err) and "waiting for it" in said


def test_one_at_a_time(tmp_path):
    """Eight threads, each with a file of its own opened: none is ever in the block with another."""
    inside, most = [], []

    def work():
        with held(tmp_path / "lock", "is busy", wait=True):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8 and not list(tmp_path.iterdir())


def test_an_error_in_the_block_gives_it_back_and_keeps_its_own_message(tmp_path):
    with pytest.raises(ZeroDivisionError), held(tmp_path / "lock", "is busy"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", [b"", b"[1]", b"\xff", b'{"process": "x", "since": 0, "host": 1}'], ids=repr)
@pytest.mark.usefixtures("holder")
def test_an_owner_that_cannot_be_read(tmp_path, written):
    path = tmp_path / "locks" / "lock"
    path.write_bytes(written)
    with pytest.raises(Held) as caught, held(path, "is busy"):
        pass
    assert caught.value.details["found"] == "a process that has not said which"


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot lock"), held(tmp_path / "file" / "lock", "is busy"):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with held(tmp_path / "lock", "is busy"):
        pass
    assert "no locks on this file system" in capsys.readouterr().err
