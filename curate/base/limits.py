"""Inputs that never end, or unpack to far more than they are: a bound that says so, and how to raise it. [ours]

Readers of files take their bytes from here. A pipe or a device is refused (it may never end); a file is read up to
INPUT_LIMIT bytes; what is gzipped may unpack to GZIP_RATIO times its size, and a Parquet file may claim a row for each
of its bytes. CURATE_INPUT_LIMIT=20GB raises all three.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from pathlib import Path

from curate.base.errors import InputError, UsageError

VARIABLE = "CURATE_INPUT_LIMIT"
INPUT_LIMIT = 4 * 2**30  # bytes of a file, unpacked
GZIP_RATIO = 100  # JSON of people's text packs to a third or a tenth
SMALL = 64 * 2**20  # bytes: what unpacks to less is read, whatever its ratio
BLOCK = 2**24  # bytes unpacked at a time
FEW_ROWS = 100_000  # likewise
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def limit() -> int:
    """Bytes that an input may have, unpacked. Raises `UsageError` where CURATE_INPUT_LIMIT is no size."""
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return INPUT_LIMIT
    found = re.fullmatch(r"(\d{1,15})\s*([kmgt]?)b?", given, re.IGNORECASE)
    if found is None:
        raise UsageError("not a size", field=VARIABLE, found=given, expected="such as 20GB")
    return int(found[1]) * _UNITS[found[2].lower()]


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


def gunzip(data: bytes, path: str | Path) -> bytes:
    """`data`, gzipped, all its members unpacked; memory stays near what the bound allows.

    Raises:
        InputError: truncated or damaged, or it unpacks to more than it may.
    """
    most = _unpacked_at_most(len(data))
    out = bytearray()
    left = data
    try:
        while left:
            member = zlib.decompressobj(wbits=31)
            out += member.decompress(left, most + 1 - len(out))
            while not member.eof and member.unconsumed_tail and len(out) <= most:
                out += member.decompress(member.unconsumed_tail, most + 1 - len(out))
            if len(out) > most:
                raise too_much(path, f"{len(data):,} bytes that unpack to more than {most:,}", most)
            if not member.eof:
                raise EOFError("the compressed data ends too soon")
            left = member.unused_data.lstrip(b"\0")  # (some writers pad)
    except (EOFError, zlib.error) as error:
        raise InputError(
            "the gzipped file is truncated or damaged", file=path, found=error, remedy="copy or download it again"
        ) from None
    return bytes(out)


def unzstd(data: bytes, path: str | Path) -> bytes:
    """`data`, zstandard-compressed, unpacked. Raises as `gunzip`."""
    import pyarrow as pa

    most = _unpacked_at_most(len(data))
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            out = bytearray()
            while len(out) <= most and (block := stream.read(BLOCK)):
                out += block
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            "the zstandard file is truncated or damaged", file=path, found=error, remedy="copy or download it again"
        ) from None
    if len(out) > most:
        raise too_much(path, f"{len(data):,} bytes that unpack to more than {most:,}", most)
    return bytes(out)


def check_unpacked(size: int, path: str | Path, packed: int) -> None:
    """Refuse a file of `packed` bytes that says that it unpacks to `size`, where that is more than it may.

    Raises:
        InputError: so it says.
    """
    most = _unpacked_at_most(packed)
    if size > most:
        raise too_much(path, f"{packed:,} bytes that unpack to {size:,}", most)


def _unpacked_at_most(packed: int) -> int:
    return limit() if os.environ.get(VARIABLE) else min(limit(), max(SMALL, GZIP_RATIO * packed))


def check_rows(rows: int, path: str | Path, size: int) -> None:
    """Refuse a file of `size` bytes that claims more rows than it can hold anything in.

    Raises:
        InputError: more than FEW_ROWS rows, and than a row a byte, and CURATE_INPUT_LIMIT does not say otherwise.
    """
    most = limit() if os.environ.get(VARIABLE) else max(FEW_ROWS, size)
    if rows > most:
        raise too_much(path, f"{rows:,} rows in {size:,} bytes", most, "rows")


def too_much(path: str | Path, found: str, most: int, unit: str = "bytes") -> InputError:
    """The error for an input beyond its bound."""
    return InputError(
        "the file is larger than is read",
        file=path,
        found=found,
        expected=f"at most {most:,} {unit}",
        remedy=f"if it is meant so, raise the bound: {VARIABLE}=20GB before the command",
    )
