"""How a process ends: an error, an interruption or a closed pipe becomes one message and an exit code, here alone.

Commands, stages and `python -m curate.installed` begin with `from_the_start`, before anything heavy is imported, and
run inside `told`. Exit codes: 0 done; 1 the data, the model or the machine is at fault; 2 the call is; 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM), 129 the terminal has gone (SIGHUP).

Only what is cheap is imported here: it is the first module of every process.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from curate.base.errors import CurateError, UsageError, causes

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
STARTED = "CURATE_LAUNCHED"
"""Set in the processes that train together, so that they do not start more: a folder that they share."""

AGAIN = "what was finished is kept, run the same command to go on"
MACHINE = frozenset(
    [
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    ]
)
"""Failures of a file that the machine is at fault for, wherever they come up. Others are ours, with a traceback."""

SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "the terminal has gone"}
"""The signals that end a command in order, what it had begun put away: a pair's text in a temporary folder, for one."""

_signal = 0  # the one that came
_code = 0  # and what the process ends with
_lost: str | None = None


def from_the_start() -> None:
    """From here on until `told` begins, Ctrl-C ends the process at once with a line: nothing was begun.

    An interruption raised within an import comes out as whatever the imported library makes of it.

    What a stream's encoding lacks is written out (\\xe9), and libraries draw their bars on terminals alone. In the 0
    columns that some programs set for "not known" rich would write nothing at all.
    """
    _take(_leave)
    if os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None or not sys.stderr.isatty():
        for library in ("HUB", "DATASETS"):
            os.environ.setdefault(f"HF_{library}_DISABLE_PROGRESS_BARS", "1")
    atexit.register(_at_the_end)


def _at_the_end() -> None:
    """Python would look for garbage among all that was imported, for a second or two; and, run as `python -m`, it would
    end by SIGINT, whatever the exit code, where an interruption came within an exec() of a text."""
    gc.freeze()
    if _code:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # nobody reads it, or there is none
                stream.flush()
        os._exit(_code)


def _leave(*_: Any) -> None:
    os.write(2, b"curate: interrupted\n")
    os._exit(INTERRUPTED)


def _remember(number: int = signal.SIGINT, *_: Any) -> None:
    """Whatever the signal, it unwinds as Ctrl-C does, which libraries know."""
    global _signal
    _signal = number
    raise KeyboardInterrupt


def _take(handler: Any) -> Any:
    """Make `handler` SIGINT's and return the one before; None where it is not ours to take.

    A process in the background of a shell ignores SIGINT, and goes on doing so.
    """
    mine = (signal.default_int_handler, _leave, _remember)
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) not in mine:
        return None
    return signal.signal(signal.SIGINT, handler)


@contextmanager
def _in_order() -> Iterator[None]:
    """Within this block the signals that end a process end it in order.

    Those are left alone that are not ours to take: `nohup` has SIGHUP ignored, and of processes that train together
    each must end at once, also while it waits for another. A forked child, of a library's, ends by them as it did.
    """
    ours = os.getpid()

    def remember(number: int, *_: Any) -> None:
        if os.getpid() != ours:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        _remember(number)

    alone = threading.current_thread() is threading.main_thread() and STARTED not in os.environ
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if alone and signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _not_swallowed() -> Iterator[None]:
    """A signal that comes within a finaliser, or a library's callback, is lost: Python says so and goes on. It is sent
    once more, a little later."""
    before = sys.unraisablehook

    def again(found: Any) -> None:
        if found.exc_type is KeyboardInterrupt:
            later = threading.Timer(0.1, os.kill, (os.getpid(), _signal or signal.SIGINT))
            later.daemon = True
            later.start()
        else:
            before(found)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def signals_kept() -> Iterator[None]:
    """What the block makes of SIGTERM goes with it: a library's that ends the process without a word."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def told(again: str = AGAIN) -> Iterator[None]:
    """Run the block; what ends it early is said in a few lines, and is an exit code.

    Args:
        again: what an interruption left, and how to go on.

    Raises:
        SystemExit: the block failed in a way that a person can understand. Other exceptions are faults of ours and
            pass as they are, unless a signal came first: then a library made them of it.
    """
    global _signal, _lost
    before = _take(_remember)
    _signal, _lost = 0, None
    try:
        with _in_order(), _not_swallowed():
            os.getcwd()  # noqa: PTH109  (where that is gone, torch's libraries end the process in words of theirs)
            yield
    except KeyboardInterrupt as error:
        raise _interruption(again) from error
    except BrokenPipeError as error:
        raise _closed() from error
    except SystemExit:
        raise
    except BaseException as error:  # (a panic of Rust's is no Exception)
        if _signal:
            raise _interruption(again) from error
        if isinstance(error, CurateError):
            raise ended(str(error), error.exit_code) from error
        if isinstance(error, TypeError) and (name := _no_text()):
            raise ended(str(_unreadable(name)), 2) from error
        if any(isinstance(cause, ValueError) for cause in causes(error)) and (name := _no_setting()):
            raise ended(str(_unusable(name)), 2) from error
        if isinstance(error, FileNotFoundError) and _is_nowhere():
            raise ended("the working folder is not there any more\n  remedy: cd to one that is", 1) from error
        if isinstance(error, OSError) and _is_the_machines(error):
            found = f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename is not None else error.strerror
            raise ended(f"the machine does not let us read or write a file\n  found: {found}", 1) from error
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _no_text() -> str | None:
    """An argument with bytes that are no text in this locale: polars takes no such name of a file."""
    return next((word for word in sys.argv[1:] if re.search("[\ud800-\udfff]", word)), None)


def _unreadable(name: str) -> UsageError:
    return UsageError(
        "the name of a file is no text in this locale",
        found=name,
        expected=f"names in {sys.getfilesystemencoding()}",
        remedy="set PYTHONUTF8=1 or LC_ALL=C.UTF-8; or rename the file",
    )


_SETTINGS: dict[str, Callable[[str], Any]] = {
    "HF_ENDPOINT": lambda text: urlsplit(text).port,
    "HF_HUB_ETAG_TIMEOUT": int,
    "HF_HUB_DOWNLOAD_TIMEOUT": int,
    "HF_DATASETS_IN_MEMORY_MAX_SIZE": float,
}
"""What huggingface_hub and datasets read of the environment while they are imported; a ValueError where they cannot."""


def _no_setting() -> str | None:
    """The variable of the environment that one of them cannot read."""
    for name, read in _SETTINGS.items():
        try:
            read(os.environ.get(name, "0"))
        except ValueError:
            return name
    return None


def _unusable(name: str) -> UsageError:
    expected = "an address like https://huggingface.co" if name == "HF_ENDPOINT" else "a whole number"
    return UsageError(
        "a variable of the environment, for the Hub, cannot be read",
        field=name,
        found=os.environ[name],
        expected=expected,
        remedy="set it so, or unset it",
    )


def _is_nowhere() -> bool:
    """Somebody removed the working folder, or put another in its place."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return True
    return False


def _is_the_machines(error: OSError) -> bool:
    """A full disk does not say which file; a refusal does, where it is a file's."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return full or (error.errno in MACHINE and error.filename is not None)


@contextmanager
def losing(what: str) -> Iterator[None]:
    """Of an interruption of the block `told` says this, for its own words would not be true."""
    global _lost
    _lost = what
    yield
    _lost = None  # (not where the block failed: `told` is yet to speak)


def _interruption(again: str) -> SystemExit:
    global _code
    number = _signal or signal.SIGINT
    _code = 128 + number
    try:
        return ended(f"{SAID[signal.Signals(number)]}; {_lost or again}", _code)
    except OSError:  # nobody can be told: the terminal has gone
        return SystemExit(_code)


def ended(message: str, code: int) -> SystemExit:
    """Say the message and give what to raise. Of processes that train together the first to end says it, whichever
    it is, and no other."""
    from curate.base.progress import console, say

    if shared := os.environ.get(STARTED):
        console.quiet = not _first(shared)
    say(f"curate: {message}")
    return SystemExit(code)


def _first(shared: str) -> bool:
    try:
        os.close(os.open(os.path.join(shared, "ended"), os.O_CREAT | os.O_EXCL))  # noqa: PTH118
    except OSError:
        return False
    return True


def _closed() -> SystemExit:
    """Whoever read standard output has gone, `head` for one: nothing is said, and nothing is written when we end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SystemExit(1)
