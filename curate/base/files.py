"""Reading and writing artefacts: an output appears whole under its name or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curate.base import limits
from curate.base.credentials import redacted_value
from curate.base.errors import CurateError, InputError, OutputError, few
from curate.base.exits import MACHINE

if TYPE_CHECKING:
    import polars as pl

PROVENANCE = "curate"  # key of the JSON that says how a Parquet file was made
ROW_GROUP = 8192  # rows: what is read a slice at a time is decoded once
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)
"""What a file system answers that has no locks."""


class Folder(NamedTuple):
    """A kind of folder that we write."""

    marks: tuple[str, ...]  # what each of them has: by these one of ours is known
    others: tuple[str, ...] = ()  # what it may have besides; * stands for anything

    def foreign(self, path: Path) -> list[str]:
        """What stands in the folder `path` and is not ours: all, where it is of another kind. (DVC's .gitignore is not
        counted.)"""
        names = sorted(child.name for child in path.iterdir() if child.name != ".gitignore")
        if not self.marks or not all((path / mark).exists() for mark in self.marks):
            return names
        return [name for name in names if not any(fnmatchcase(name, known) for known in self.marks + self.others)]


def check_replaceable(path: str | Path, kind: Folder | None = None) -> Path:
    """`path`, absolute; refuse to replace what we did not make.

    Raises:
        OutputError: `path` is the working folder or holds it; or it is a folder, and not one of `kind` with nothing
            else in it; or a file stands where a folder is needed: of `kind`, or above `path`.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow a link)
    if path == Path.cwd() or path in Path.cwd().parents:
        raise OutputError("the working folder cannot be replaced", file=path, remedy="name a file or folder inside it")
    if path.is_dir() and (lost := (kind or Folder(())).foreign(path)):
        ours = f", or {', '.join(kind.marks)} and what goes with them" if kind and kind.marks else ""
        raise OutputError(
            "a folder stands where the output goes, and replacing it would lose what it holds",
            file=path,
            found=few(lost),
            expected=f"no such folder, an empty one{ours}" if kind else "a file's name",
            remedy="choose another --out, or move that away",
        )
    for folder in (path, *path.parents) if kind else path.parents:
        if folder.exists() and not folder.is_dir():
            raise OutputError(
                "a file stands where the output needs a folder",
                file=folder,
                expected="a folder, or nothing",
                remedy="choose another place for the output, or move the file away",
            )
    return path


@contextmanager
def replacing(path: str | Path, kind: Folder | None = None) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it if the block succeeds and removed if it does not.

    The block may create a file, or a folder of `kind`. One of that kind is replaced, but for a .gitignore and for what
    came into it meanwhile and is not ours: that is kept.

    Raises:
        OutputError: `path` is a folder that is not ours, it cannot be written, or the disk is full.
    """
    path = check_replaceable(path, kind)
    if path.is_dir():
        path = real(path)  # a link to a folder, on a larger disk say, stays one
    with _writing(path), _holder(path) as holder:
        temporary = holder / path.name
        with _naming({temporary: path}):
            yield temporary
        with _one_at_a_time({path.parent}):
            _swap(temporary, path, holder / ".before", kind)


@contextmanager
def replacing_together(
    main: str | Path, *others: str | Path, ours: Callable[[Path], bool] = lambda _: False
) -> Iterator[list[Path]]:
    """Temporary paths of several files, in the order of the arguments, renamed together if the block succeeds.

    What stands under the names afterwards is of one writer, however many write them at once: they rename one after
    the other. `main` goes first and comes last, so that where it stands after a kill, the others are complete.

    Args:
        ours: whether what stands under one of `others` is removed where the block does not make it anew.

    Raises:
        OutputError: as `replacing`.
    """
    paths = [check_replaceable(path) for path in (main, *others)]
    with ExitStack() as stack:
        holders = [stack.enter_context(_entered(path)) for path in paths]
        temporaries = [holder / path.name for holder, path in zip(holders, paths, strict=True)]
        with _naming(dict(zip(temporaries, paths, strict=True))):
            yield temporaries
        with _writing(paths[0]), _one_at_a_time({path.parent for path in paths}):
            made = [True, *(temporary.exists() for temporary in temporaries[1:])]
            going = [make or ours(path) for make, path in zip(made, paths, strict=True)]
            aside = [holder / ".before" for holder in holders]
            _swap_all(list(compress(zip(temporaries, paths, aside, made, strict=True), going)))


@contextmanager
def _naming(outputs: Mapping[Path, Path]) -> Iterator[None]:
    """An `OutputError` of the block names the output, and not the temporary path that stands for it."""
    try:
        yield
    except OutputError as error:
        file = Path(error.details.get("file", ""))
        told = [path / file.relative_to(new) for new, path in outputs.items() if file.is_relative_to(new)]
        if not told:
            raise
        raise OutputError(error.what, **error.details | {"file": str(told[0])}) from error  # type: ignore[arg-type]


def _swap_all(files: list[tuple[Path, Path, Path, bool]]) -> None:
    """Rename (new, path, aside, whether there is a new one), the first last; should one fail, all is as it was."""
    moved: list[tuple[Path, Path]] = []
    try:
        for _, path, aside, _ in files:
            if path.exists() or path.is_symlink():
                path.rename(aside)
                moved.append((aside, path))
        for new, path, _, made in reversed(files):
            if made:
                new.replace(path)
    except BaseException:
        for before, path in reversed(moved):
            before.replace(path)
        raise


@contextmanager
def _one_at_a_time(folders: set[Path]) -> Iterator[None]:
    """Hold the folders' own locks, which leave no file behind; nothing is locked where the file system has no locks."""
    with ExitStack() as stack:
        for folder in sorted(folders):
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
        yield


@contextmanager
def _entered(path: Path) -> Iterator[Path]:
    with _writing(path), _holder(path) as holder:
        yield holder


def check_writable(path: Path) -> None:
    """Raise `OutputError` where no file could be written as `path`."""
    with _entered(check_replaceable(path)):
        pass


@contextmanager
def _holder(path: Path) -> Iterator[Path]:
    """A private folder beside `path`, so that two writers never meet and a crash leaves nothing under a real name."""
    prefix = f".{_short_name(path)}.{_process_space()}-{os.getpid()}-"
    new = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for abandoned in _abandoned(path):
            before = abandoned / ".before"
            if before.is_dir() and not path.exists():  # killed between two renames
                before.rename(path)
            shutil.rmtree(abandoned, ignore_errors=True)
        holder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=path.parent))
    except FileNotFoundError as error:  # where no file can be made (/proc); of the block itself it says nothing of us
        raise _output_error(path, error) from error
    try:
        yield holder
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        with suppress(OSError):  # something lies in them by now
            for folder in new:
                folder.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Failures to write near `path` as `OutputError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            if not _is_about_output(error, path):
                raise
            raise _output_error(path, error) from error
        # How polars and safetensors report a failed write; the second, one of a Parquet file's last bytes.
        failed = rf"\(os error ({'|'.join(map(str, _WRITE_ERRORS))})\)|Invalid thrift: transport error"
        if isinstance(error, CurateError) or not re.search(failed, str(error)):
            raise
        found = error if "(os error" in str(error) else "its last bytes could not be written"
        raise OutputError("cannot write the output", file=path, found=found, remedy=_REMEDY) from error


def _short_name(path: Path) -> str:
    """The name of `path`, or where that is long its beginning and digest: a name has 255 bytes at most."""
    name = os.fsencode(path.name)
    if len(name) <= _LONG_NAME:
        return path.name
    return f"{name[:40].decode('ascii', 'replace').replace(chr(0xFFFD), '_')}-{hashlib.sha256(name).hexdigest()[:16]}"


_LONG_NAME = 180  # bytes; the private folder's has some 50 more


def _swap(new: Path, path: Path, aside: Path, kind: Folder | None) -> None:
    """Rename `new` to `path`. A folder there changes places with it; where the system cannot do that at once it is put
    aside first, and put back should anything fail."""
    if not (path.is_dir() and new.is_dir()):
        new.replace(path)
        return
    if (path / ".gitignore").is_file():
        shutil.copy(path / ".gitignore", new / ".gitignore")
    if _exchanged(new, path):
        aside = new
    else:
        path.rename(aside)
        try:
            new.replace(path)
        except BaseException:
            aside.rename(path)
            raise
    for name in (kind or Folder(())).foreign(aside):
        if not (path / name).exists():
            (aside / name).rename(path / name)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places at once, so that a kill leaves neither without (Linux's renameat2); False where the
    system or the file system has no such thing."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


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
    own = re.compile(re.escape(f".{_short_name(path)}.{_process_space()}-") + r"(\d+)-.*\.tmp")
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
_WRITE_ERRORS = MACHINE | {errno.EFBIG, errno.EEXIST}


def _is_about_output(error: OSError, path: Path) -> bool:
    """Whether `error` came from writing near `path`, not from reading something else inside the block."""
    if error.errno not in _WRITE_ERRORS:
        return False
    if error.filename is None:
        return True
    named = Path(os.path.abspath(os.fsdecode(error.filename)))  # noqa: PTH100  (resolve() would follow a link)
    return named in path.parents or path.parent in (named, *named.parents)


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError("cannot write the output", file=path, found=error.strerror or error, remedy=_REMEDY)


def write_parquet(frame: pl.DataFrame, path: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write `frame` with `provenance` (JSON-able) in the file's own metadata; the same input, the same bytes."""
    with replacing(path) as temporary:
        frame.write_parquet(temporary, metadata=_metadata(provenance), row_group_size=ROW_GROUP)


def sink_parquet(frame: pl.LazyFrame, path: Path, provenance: Mapping[str, Any]) -> None:
    """As `write_parquet`, from a frame that need not fit memory, to a path that `replacing` gave."""
    frame.sink_parquet(path, metadata=_metadata(provenance), row_group_size=ROW_GROUP, engine="streaming")


def _metadata(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {PROVENANCE: json.dumps(redacted_value(dict(provenance)), sort_keys=True)}


def write_text(text: str, path: str | Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: object, path: str | Path) -> None:
    """`value` as JSON, without credentials (`curate.base.credentials`)."""
    text = json.dumps(redacted_value(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    # A name of bytes that are no UTF-8, half of a surrogate pair: as JSON's own escapes.
    write_text(_LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text), path)


_LONE = re.compile("[\ud800-\udfff]")


def read_text(path: str | Path) -> str:
    """Raises `InputError` when the file is missing, cannot be read or is not UTF-8."""
    try:
        return limits.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("the file is not UTF-8 text", file=path, found=error) from error


def read_json(path: str | Path) -> Any:
    """Raises `InputError` when the file is missing, cannot be read or is not JSON."""
    data = limits.read_bytes(path)
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # (a ValueError too: UnicodeDecodeError, 5,000 digits)
        raise InputError("not a JSON file", file=path, found=error) from error


def read_json_object(path: str | Path) -> dict[str, Any]:
    """`read_json` of a file that holds an object. Raises `InputError` where it holds something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError("the JSON file does not hold an object", file=path, found=type(value).__name__)
    return value


def existing(path: str | Path, remedy: str = "check the path") -> Path:
    """`path`, or `InputError` where no such file or folder exists, or it may not be looked at."""
    path = Path(path)
    try:
        found = path.exists()
    except OSError as error:  # a folder above it is closed to us, a name too long
        raise InputError("cannot read the file", file=path, found=error.strerror, remedy=remedy) from error
    if not found:
        raise InputError("no such file", file=path, remedy=remedy)
    return path


def real(path: str | Path) -> Path:
    """`path` without links, absolute; also of what is not there, and of a link to itself."""
    return Path(os.path.realpath(path))


def read_provenance(path: str | Path) -> dict[str, Any]:
    """What `write_parquet` was told; empty for what is no Parquet file of ours."""
    import polars as pl

    try:
        limits.check_regular(path, any_size=True)  # (opening a pipe would not end)
        value = json.loads(pl.read_parquet_metadata(path).get(PROVENANCE, "{}"))
    except (InputError, pl.exceptions.PolarsError, OSError, ValueError, RecursionError):
        return {}
    return dict(redacted_value(value)) if isinstance(value, dict) else {}


def is_ours(path: str | Path) -> bool:
    """Whether a Parquet file says how it was made, as `write_parquet` has it do; so does one that is gone, for another
    run that puts its own in its place takes it away first."""
    import polars as pl

    try:
        return PROVENANCE in pl.read_parquet_metadata(path)
    except FileNotFoundError:
        return True
    except (pl.exceptions.PolarsError, OSError):
        return False


def file_digest(path: str | Path) -> str:
    """sha256 of a file's bytes, hex. Raises `InputError` where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError("cannot read the file", file=path, found=error.strerror) from error


def state_folder() -> Path:
    """Where work that must outlive a stage lies (score store, checkpoints): `.curate` in the DVC project.

    DVC sets DVC_ROOT for a stage, also in `dvc exp run --temp`, where the working folder is a copy; elsewhere
    it is the working folder.
    """
    return Path(os.environ.get("CURATE_STATE") or Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".curate")
