"""Reading and writing artefacts: an output appears whole under its name or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from curate.base.errors import InputError, OutputError

PROVENANCE = "curate"  # key of the JSON that says how a Parquet file was made
ROW_GROUP = 8192  # rows: what is read a slice at a time is decoded once


def check_replaceable(path: str | Path, marker: str | None = None) -> Path:
    """`path`, absolute; refuse to replace what we did not make.

    Raises:
        OutputError: `path` is the working folder or holds it; or it is a folder that is not empty, unless it has the
            file `marker`, which says it is ours (.gitignore, which DVC writes, does not count).
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow a link)
    if path == Path.cwd() or path in Path.cwd().parents:
        raise OutputError("the working folder cannot be replaced", file=path, remedy="name a file or folder inside it")
    if not path.is_dir() or (marker and (path / marker).exists()):
        return path
    if any(child.name != ".gitignore" for child in path.iterdir()):
        raise OutputError(
            "a folder stands where the output goes, and replacing it would lose what it holds",
            file=path,
            expected=f"no such folder, an empty one, or one with {marker}" if marker else "a file's name",
            remedy="choose another --out",
        )
    return path


@contextmanager
def replacing(path: str | Path, marker: str | None = None) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it if the block succeeds and removed if it does not.

    The block may create a file, or a folder with the file `marker`; an existing folder that has it is replaced,
    but for a .gitignore, which is kept.

    Raises:
        OutputError: `path` is a folder that is not ours, it cannot be written, or the disk is full.
    """
    path = check_replaceable(path, marker)
    holder: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A private folder, so that two writers never meet and a crash leaves nothing under a real name.
        for abandoned in _abandoned(path):
            shutil.rmtree(abandoned, ignore_errors=True)
        prefix = f".{path.name}.{_process_space()}-{os.getpid()}-"
        holder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=path.parent))
        temporary = holder / path.name
        yield temporary
        _swap(temporary, path, holder / ".before")
    except OSError as error:
        if not _is_about_output(error, path):
            raise
        raise _output_error(path, error) from error
    except pl.exceptions.ComputeError as error:  # how polars reports a failed write
        if "os error" not in str(error):
            raise
        raise OutputError("cannot write the output", file=path, found=error, remedy=_REMEDY) from error
    finally:
        if holder is not None:
            shutil.rmtree(holder, ignore_errors=True)


def _swap(new: Path, path: Path, aside: Path) -> None:
    """Rename `new` to `path`; a folder there is put aside first, and put back should anything fail."""
    if path.is_dir() and new.is_dir():
        if (path / ".gitignore").is_file():
            shutil.copy(path / ".gitignore", new / ".gitignore")
        path.rename(aside)
    try:
        new.replace(path)
    except BaseException:
        if aside.exists():
            aside.rename(path)
        raise


@cache
def _process_space() -> str:
    """Where a process number means one process: this boot of this machine, this container. Eight hex digits."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = f"{boot}{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        space = socket.gethostname()
    return hashlib.sha256(space.encode()).hexdigest()[:8]


def _abandoned(path: Path) -> Iterator[Path]:
    """What writers of `path` left that were killed: their private folders, whose process is gone."""
    own = re.compile(re.escape(f".{path.name}.{_process_space()}-") + r"(\d+)-.*\.tmp")
    for folder in path.parent.iterdir():
        match = own.fullmatch(folder.name)
        if match and not _runs(int(match[1])):
            yield folder


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


_REMEDY = "free space or choose another folder; nothing was written"
_WRITE_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.ENOTDIR,
}
_WRITE_ERRORS |= {errno.EEXIST, errno.EISDIR, errno.EIO, errno.ENAMETOOLONG}


def _is_about_output(error: OSError, path: Path) -> bool:
    """Whether `error` came from writing near `path`, not from reading something else inside the block."""
    if error.errno not in _WRITE_ERRORS:
        return False
    return (
        error.filename is None
        or str(path.parent) in str(Path(str(error.filename)).absolute())
        or str(path.parent) in str(error.filename)
    )


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError("cannot write the output", file=path, found=error.strerror or error, remedy=_REMEDY)


def write_parquet(frame: pl.DataFrame, path: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write `frame` with `provenance` (JSON-able) in the file's own metadata; the same input, the same bytes."""
    with replacing(path) as temporary:
        metadata = {PROVENANCE: json.dumps(provenance, sort_keys=True)}
        frame.write_parquet(temporary, metadata=metadata, row_group_size=ROW_GROUP)


def sink_parquet(frame: pl.LazyFrame, path: Path, provenance: Mapping[str, Any]) -> None:
    """As `write_parquet`, from a frame that need not fit memory, to a path that `replacing` gave."""
    frame.sink_parquet(
        path,
        metadata={PROVENANCE: json.dumps(provenance, sort_keys=True)},
        row_group_size=ROW_GROUP,
        engine="streaming",
    )


def write_text(text: str, path: str | Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: object, path: str | Path) -> None:
    write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", path)


def read_json(path: str | Path) -> Any:
    """Raises `InputError` when the file is missing or is not JSON."""
    path = existing(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError("not a JSON file", file=path, found=error) from error


def existing(path: str | Path, remedy: str = "check the path") -> Path:
    """`path`, or `InputError` where no such file or folder exists."""
    path = Path(path)
    if not path.exists():
        raise InputError("no such file", file=path, remedy=remedy)
    return path


def read_provenance(path: str | Path) -> dict[str, Any]:
    """What `write_parquet` was told; empty for a Parquet file that is not ours."""
    try:
        return dict(json.loads(pl.read_parquet_metadata(path).get(PROVENANCE, "{}")))
    except (pl.exceptions.PolarsError, OSError, json.JSONDecodeError):
        return {}


def file_digest(path: str | Path) -> str:
    """sha256 of a file's bytes, hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_folder() -> Path:
    """Where work that must outlive a stage lies (score store, checkpoints): `.curate` in the DVC project.

    DVC sets DVC_ROOT for a stage, also in `dvc exp run --temp`, where the working folder is a copy; elsewhere
    it is the working folder.
    """
    return Path(os.environ.get("CURATE_STATE") or Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".curate")
