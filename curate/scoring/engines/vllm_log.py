"""Where vLLM's own words go: a log file, and never the user's screen. It fills pages when it fails."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from curate.base import files
from curate.base.errors import InputError, first_line

_LOG_BYTES = 2**20  # of the log's end, at most, that are looked at
_ERROR = re.compile(r"(?:ValueError|RuntimeError|OutOfMemoryError): (.*)|\b(\w+(?:Error|Exception): .*)")
"""What an error says; of one whose kind says more than "it does not work", with its kind."""
_PREFIX = "VLLM_LOGGING_PREFIX"
_MARKED = re.compile(r"\[curate \d+\] ")


def log_file() -> Path:
    """The file; its folder is made when something is written."""
    return files.state_folder() / "logs" / "vllm.log"


def mark() -> None:
    """Have each line that vLLM logs, in this process and in those that it starts, begin with this process's number:
    others may write to the log at the same time. Before vLLM is imported; a prefix of the user's own stays."""
    if not _MARKED.sub("", os.environ.get(_PREFIX, "")):
        os.environ[_PREFIX] = _mark()


def _mark() -> str:
    return f"[curate {os.getpid()}] "


@contextlib.contextmanager
def into_log() -> Iterator[None]:
    """Have all that this process, and the processes that it starts meanwhile, write on output and error go to the log;
    and what vLLM logs from here on. What started meanwhile goes on writing there."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    with _path().open("ab") as log:
        kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        try:
            for stream in streams:
                stream.flush()
            for descriptor in kept:
                os.dup2(log.fileno(), descriptor)
            yield
        finally:
            for stream in streams:
                stream.flush()
            for descriptor, before in kept.items():
                os.dup2(before, descriptor)
                os.close(before)
            logger = logging.getLogger("vllm")
            logger.handlers = [logging.FileHandler(log.name, delay=True)]
            logger.propagate = False


def _path() -> Path:
    """The log; where it cannot be written nothing keeps what vLLM says, and an error tells its first line alone."""
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        log_file().open("ab").close()
    except OSError:
        return Path(os.devnull)
    return log_file()


def said(error: Exception) -> str:
    """What vLLM's exception says, the first line of it; of a configuration that is wrong, the first sentence."""
    faults = getattr(error, "errors", None)
    if callable(faults):  # pydantic's, whose first line says nothing
        text = str(faults()[0]["msg"]).removeprefix("Value error, ").partition(". ")[0]
    else:
        text = first_line(error)
    return " ".join(text.split())[:300]


def log_size() -> int:
    """Bytes of the log so far, for `cause_in_log`."""
    file = log_file()
    return file.stat().st_size if file.is_file() else 0


def cause_in_log(start: int) -> str | None:
    """What the last error says that the log has gained from byte `start` on, among what this process and its own have
    logged, else among what nobody has signed; None where there is none.

    On a GPU the model is loaded in a process of its own: what is raised here says only that this process failed.
    """
    try:
        with log_file().open("rb") as log:
            log.seek(max(start, log_file().stat().st_size - _LOG_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    lines = [line for line in lines if "initialization failed" not in line]
    ours = [line for line in lines if line.startswith(_mark())]
    for some in (ours, [line for line in lines if not _MARKED.match(line)]):
        if told := [found[1] or found[2] for line in some if (found := _ERROR.search(line))]:
            return " ".join(told[-1].split())[:300]
    return None


def failure(what: str, error: Exception, file: Path | None = None, cause: str | None = None) -> InputError:
    """The error for what vLLM raised: its `cause` where that is known, else its first line; and where the rest is."""
    return InputError(
        what,
        file=file,
        found=cause or said(error),
        remedy=f"--engine transformers runs every transformers model; what vLLM says is in {log_file()}",
    )
