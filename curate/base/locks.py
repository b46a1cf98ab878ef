"""Locks of processes, as data bases have them: who holds one is written in its file, and death gives it back.

The kernel holds the lock (flock), so that a process that was killed, in whatever container, leaves none behind. Where
the file system has no locks, nothing is locked and it is said.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.base.errors import OutputError
from curate.base.files import NO_LOCKS
from curate.base.progress import say


class Held(OutputError):
    """Another process holds the lock."""


@contextmanager
def held(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock `path`, a file that is there for as long, within the block.

    Args:
        what: is being done under it, for the messages: "trains this arm".
        wait: for another process that holds it, which is said.

    Raises:
        Held: another process holds it: which, where, since when.
        OutputError: the folder cannot be written.
    """
    descriptor = None
    try:
        while descriptor is None:
            descriptor = _locked(path, what, wait)
    except OSError as error:
        raise OutputError(
            "cannot lock the folder", file=path.parent, found=error.strerror, remedy="make it writable"
        ) from error
    try:
        yield
    finally:
        # First the name, then the lock: whoever waited for it sees that it is of no file any more.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, what: str, wait: bool) -> int | None:
    """The file's descriptor, locked and with this process in it; None if the file was removed meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(descriptor)
            if not wait:
                raise Held(
                    f"another process {what}",
                    file=path,
                    found=owner,
                    remedy="wait for it; should you end it, what it has done is kept and this call goes on from there",
                ) from None
            say(f"{owner} {what}: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            say(f"{path.parent}: no locks on this file system; start nothing twice at once")
        if not _is(path, descriptor):
            os.close(descriptor)
            return None
        mine = {"process": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(mine).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> str:
    """As a person reads it; what another program wrote there is not trusted to be whole."""
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(owner["since"]))
        return f"process {int(owner['process'])} on {owner['host']}, since {since}"
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return "a process that has not said which"
