"""Inputs that never end, or unpack to far more than they are: a bound that says so, and how to raise it. [ours]

Readers of files take their bytes from here. A pipe or a device is refused (it may never end); a file is read up to
INPUT_LIMIT bytes; what is gzipped may unpack to GZIP_RATIO times its size, and a Parquet file may claim a row for each
of its bytes. `curate prepare --input-limit 20GB` (`data.input_limit`) raises all three, and so does the environment's
CURATE_INPUT_LIMIT=20GB for every command.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from curate.base.errors import InputError, UsageError

VARIABLE = "CURATE_INPUT_LIMIT"
INPUT_LIMIT = 4 * 2**30  # bytes of a file, unpacked
GZIP_RATIO = 100  # JSON of people's text packs to a third or a tenth
SMALL = 64 * 2**20  # bytes: what unpacks to less is read, whatever its ratio
BLOCK = 2**20  # bytes read or unpacked at a time
FEW_ROWS = 100_000  # likewise
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


OPTION = "--input-limit 20GB of `curate prepare` (data.input_limit)"
_given: ContextVar[tuple[int | None, str]] = ContextVar("given", default=(None, ""))


@contextmanager
def given(size: str | None) -> Iterator[None]:
    """Within the block inputs may have `size` (None: what they may have otherwise), and errors name OPTION.

    Raises:
        UsageError: it is no size.
    """
    token = _given.set((None if size is None else bytes_of(size, "input_limit"), OPTION))
    try:
        yield
    finally:
        _given.reset(token)


def bytes_of(size: str, name: str) -> int:
    """Bytes of a size such as 20GB. Raises `UsageError`, by that name, where it is none."""
    found = re.fullmatch(r"([0-9]{1,15})\s*([kmgt]?)b?", size.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError("not a size", field=name, found=size, expected="such as 20GB")
    return int(found[1]) * _UNITS[found[2].lower()]


def limit() -> int:
    """Bytes that an input may have, unpacked. Raises `UsageError` where CURATE_INPUT_LIMIT is no size."""
    raised = _raised()
    return INPUT_LIMIT if raised is None else raised


def _raised() -> int | None:
    """What the user allows; None where he says nothing."""
    size, _ = _given.get()
    text = os.environ.get(VARIABLE, "").strip()
    return size if size is not None or not text else bytes_of(text, VARIABLE)


def check_regular(path: str | Path, *, any_size: bool = False) -> int:
    """Bytes of the file `path`, which is no folder, pipe or device.

    Raises:
        InputError: it is one; there is no such file; it may not be looked at; or it is larger than `limit` (unless
            `any_size`: it is not read into memory).
    """
    try:
        found = os.stat(path)  # noqa: PTH116  (also of what is no Path yet)
    except FileNotFoundError:
        raise InputError("no such file", file=path, remedy="check the path") from None
    except (OSError, ValueError) as error:  # (a name with a zero byte)
        raise InputError("cannot read the file", file=path, found=getattr(error, "strerror", None) or error) from None
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise InputError(
            f"this is {_KINDS.get(kind, 'something else')}, not a file",
            file=path,
            expected="a file",
            remedy=None if kind == stat.S_IFDIR else "write what it gives to a file first, and name that",
        )
    if not any_size and found.st_size > limit():
        raise too_much(path, f"{found.st_size:,} bytes", limit())
    return found.st_size


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file. Raises as `check_regular`, and `InputError` where it cannot be read."""
    size = check_regular(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(size + 1)  # (a buffer of what is asked for is made at once)
            if len(data) > size:  # it grew, or its size is not told (/proc)
                data += file.read(min(SMALL, limit()))
                if file.read(1):
                    raise too_much(path, "more than its size says", len(data))
    except OSError as error:
        raise InputError("cannot read the file", file=path, found=error.strerror) from None
    if len(data) > limit():  # it grew, or its size is not told (/proc)
        raise too_much(path, "more than that", limit())
    return data


def blocks(file: BinaryIO, path: str | Path, size: int) -> Iterator[bytes]:
    """The bytes of an open file of `size` bytes, in blocks; no more of them than its size and the bound allow."""
    left = min(limit(), size + SMALL)  # it may grow, or its size not be told (/proc)
    try:
        while block := file.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise too_much(path, "more than its size says", size)
            yield block
    except OSError as error:
        raise InputError("cannot read the file", file=path, found=error.strerror) from None


def gunzipped(file: BinaryIO, path: str | Path, size: int) -> Iterator[bytes]:
    """A gzipped file of `size` bytes, all its members unpacked, in blocks.

    Raises:
        InputError: truncated or damaged, or it unpacks to more than it may.
    """
    most = _unpacked_at_most(size)
    member, done = zlib.decompressobj(wbits=31), 0
    begun = False  # whether the member has bytes
    try:
        for data in blocks(file, path, size):
            while data := data if begun else data.lstrip(b"\0"):  # (some writers pad)
                begun = True
                out = member.decompress(data, BLOCK)
                data = member.unused_data if member.eof else member.unconsumed_tail
                done += len(out)
                if done > most:
                    raise too_much(path, f"{size:,} bytes that unpack to more than {most:,}", most)
                yield out
                if member.eof:
                    member, begun = zlib.decompressobj(wbits=31), False
        if begun:
            yield member.flush()
            if not member.eof:
                raise EOFError("the compressed data ends too soon")
    except (EOFError, zlib.error) as error:
        raise InputError(
            "the gzipped file is truncated or damaged", file=path, found=error, remedy="copy or download it again"
        ) from None


def unzstd(file: BinaryIO, path: str | Path, size: int) -> Iterator[bytes]:
    """A zstandard-compressed file, unpacked, in blocks. Raises as `gunzipped`."""
    import pyarrow as pa

    most = _unpacked_at_most(size)
    done = 0
    try:
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
            while block := stream.read(BLOCK):
                done += len(block)
                if done > most:
                    raise too_much(path, f"{size:,} bytes that unpack to more than {most:,}", most)
                yield block
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            "the zstandard file is truncated or damaged", file=path, found=error, remedy="copy or download it again"
        ) from None


def gunzip(data: bytes, path: str | Path) -> bytes:
    """`data`, gzipped, unpacked. Raises as `gunzipped`."""
    return b"".join(gunzipped(io.BytesIO(data), path, len(data)))


def check_unpacked(size: int, path: str | Path, packed: int) -> None:
    """Refuse a file of `packed` bytes that says that it unpacks to `size`, where that is more than it may.

    Raises:
        InputError: so it says.
    """
    most = _unpacked_at_most(packed)
    if size > most:
        raise too_much(path, f"{packed:,} bytes that unpack to {size:,}", most)


def _unpacked_at_most(packed: int) -> int:
    raised = _raised()
    return min(INPUT_LIMIT, max(SMALL, GZIP_RATIO * packed)) if raised is None else raised


def check_rows(rows: int, path: str | Path, size: int) -> None:
    """Refuse a file of `size` bytes that claims more rows than it can hold anything in.

    Raises:
        InputError: more than FEW_ROWS rows, and than a row a byte, and the user does not say otherwise.
    """
    raised = _raised()
    most = max(FEW_ROWS, size) if raised is None else raised
    if rows > most:
        raise too_much(path, f"{rows:,} rows in {size:,} bytes", most, "rows")


def too_much(path: str | Path, found: str, most: int, unit: str = "bytes") -> InputError:
    """The error for an input beyond its bound."""
    ways = " or ".join(filter(None, (_given.get()[1], f"{VARIABLE}=20GB before the command")))
    return InputError(
        "the file is larger than is read",
        file=path,
        found=found,
        expected=f"at most {most:,} {unit}",
        remedy=f"if it is meant so, raise the bound: {ways}",
    )
