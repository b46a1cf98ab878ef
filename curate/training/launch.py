"""Training in several processes: a command starts itself again under `accelerate launch`.

Three generations: the command, which waits; `curate.training.processes`, accelerate's launcher within a process of
ours; and the workers, the same command again. Whichever is gone, those below end: by a signal, or because they look.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curate.base.errors import InputError
from curate.base.exits import AGAIN, STARTED, ended

PARENT = "CURATE_PARENT"  # the number of the process above, for `end_with_parent`
TERMINATED = 128 + signal.SIGTERM
PATIENCE = 45.0  # seconds: torch gives its workers 30 to end


def launch(configuration: str | None, module: str, arguments: Sequence[str]) -> int | None:
    """Run `python -m module arguments` in the processes that `configuration` asks for.

    SIGINT and SIGTERM end them all, and so does the end of this process.

    Returns:
        The exit code; None where there is nothing to start: no configuration, or this is one of the processes.

    Raises:
        InputError: no such configuration.
        SystemExit: SIGTERM came, or the launcher was killed.
    """
    if STARTED in os.environ:
        end_with_parent(signal.SIGKILL)
        return None
    if configuration is None:
        return None
    if not Path(configuration).is_file():
        raise InputError("no such accelerate configuration", file=configuration, field="train.accelerate")
    starter = [sys.executable, "-m", "curate.training.processes", "--config_file", configuration]
    with tempfile.TemporaryDirectory(prefix="curate-") as shared, _terminable():
        environment = os.environ | {STARTED: shared, PARENT: str(os.getpid())}
        # A session of its own: Ctrl-C comes to us alone, and we end it in order.
        process = subprocess.Popen([*starter, "-m", module, *arguments], env=environment, start_new_session=True)
        try:
            code = process.wait()
        finally:
            _end(process)
    if code < 0:
        raise ended(f"what started the training was ended by {signal.Signals(-code).name}; {AGAIN}", 1)
    return code


class _Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Within this block SIGTERM ends the process in order, with a message."""

    def terminated(*_: Any) -> None:
        raise _Terminated

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminated) if main else None
    try:
        yield
    except _Terminated:
        raise ended(f"terminated, and with it the processes that trained; {AGAIN}", TERMINATED) from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher, which ends its workers; they look after themselves should it not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except BaseException:  # it hangs, or a second signal says that there is no time
            process.kill()
            process.wait()
            raise


def end_with_parent(signal_number: int) -> None:
    """From here on this process sends itself the signal once its parent, which PARENT names, is gone."""
    parent = int(os.environ.get(PARENT, os.getppid()))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal_number)

    threading.Thread(target=watch, daemon=True, name="parent").start()
