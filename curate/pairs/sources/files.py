"""A file into records. What a file holds is read off its first bytes; its name only settles what text is.

JSON lines and Parquet are read a block at a time, as often as they are gone over. Other kinds are held whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from curate.base import limits
from curate.base.errors import InputError
from curate.base.files import existing
from curate.pairs.schema import PARQUET
from curate.pairs.sources.decoding import is_value, json_lines, read_json_array, read_json_objects
from curate.pairs.sources.tables import parquet_rows, read_csv

KINDS = "JSON array, JSON lines, CSV, TSV or Parquet, each also as .gz or .zst"
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"
MANY_LINES = 10_000  # between two looks whether they are too many
LFS = b"version https://git-lfs"
PACKED = {".gz": "gzipped", ".zst": "zstandard-compressed"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
UNPACK = "unpack it first: `{} FILE`"
ARROW = (
    "write it as Parquet, in Python: `pyarrow.parquet.write_table(pyarrow.ipc.open_{}(FILE).read_all(), 'a.parquet')`"
)
FOREIGN = {
    rb"\x89PNG": ("a PNG image", None),
    rb"\xff\xd8\xff": ("a JPEG image", None),
    rb"%PDF": ("a PDF document", None),
    rb"PK\x03\x04": ("a zip archive", UNPACK.format("unzip")),
    rb"(?s).{257}ustar": ("a tar archive", UNPACK.format("tar -xf")),
    rb"BZh[1-9]1AY&SY": ("a bzip2-compressed file", UNPACK.format("bunzip2")),
    rb"\xfd7zXZ": ("an xz-compressed file", UNPACK.format("unxz")),
    rb"7z\xbc\xaf": ("a 7z archive", UNPACK.format("7z x")),
    rb"\x04\x22M\x18|\x02\x21L\x18": ("an lz4-compressed file", UNPACK.format("unlz4")),
    rb"\x1f\x8b": ("a gzipped file in a compressed one", "unpack it once, and name what comes out"),
    rb"\x28\xb5\x2f\xfd": (
        "a zstandard-compressed file in a compressed one",
        "unpack it once, and name what comes out",
    ),
    rb"(?s)PARE.*PARE\Z": ("an encrypted Parquet file", "write it without encryption"),
    rb"ARROW1\0": ("an Arrow file", ARROW.format("file")),
    rb"\xff\xff\xff\xff": ("an Arrow stream", ARROW.format("stream")),
    rb"\x80[\x02-\x05]": (
        "a pickle of Python's",
        "where you trust it (opening it may run code), write its rows as JSON lines",
    ),
    rb"\x93NUMPY": ("an array of numpy's", "write its rows as JSON lines"),
    rb"\x89HDF": ("an HDF5 file", "write its rows as Parquet or JSON lines"),
    rb"SQLite format 3\0": ("an SQLite database", "write the table as CSV"),
    rb"Obj\x01": ("an Avro file", "write its rows as Parquet or JSON lines"),
    rb"ORC[^\t\n\r -~]": ("an ORC file", "write its rows as Parquet or JSON lines"),
    LFS: ("Git LFS's pointer to a file, not the file", "fetch the file itself: `git lfs pull`"),
    rb"(?i)\s*<(!doctype html|html)": (
        "a page of the web",
        "download the file itself (on the Hub: its /resolve/ address)",
    ),
    rb"\xff\xfe\0\0|\0\0\xfe\xff": ("UTF-32 text", "convert it: `iconv -f utf-32 -t utf-8`"),
    rb"\xff\xfe|\xfe\xff": ("UTF-16 text", "convert it: `iconv -f utf-16 -t utf-8`"),
    rb"([\t\n\r -~]\0){2}": ("UTF-16 text", "convert it: `iconv -f utf-16le -t utf-8`"),
    rb"(\0[\t\n\r -~]){2}": ("UTF-16 text", "convert it: `iconv -f utf-16be -t utf-8`"),
}
"""How files begin that are none of KINDS, as patterns: what they are, and what makes one of KINDS of them."""


class Rows(Iterable[Any]):
    """The records of a file, read anew whenever they are gone over.

    Raises:
        InputError: while they are: what `read` raises; or the file is not what it was when this was made.
    """

    def __init__(self, path: Path, read: Callable[[], Iterator[Any]]) -> None:
        self.path, self.read = path, read
        self._made = _stamp(path)

    def __iter__(self) -> Iterator[Any]:
        yield from self.read()
        if _stamp(self.path) != self._made:
            raise InputError("the file changed while it was read", file=self.path, remedy="run the same command again")


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read_file(path: str | Path) -> list[Any]:
    """`open_file` as a list."""
    return list(open_file(path))


def open_file(path: str | Path) -> Iterable[Any]:
    """The records of a JSON, JSON lines, CSV, TSV or Parquet file, compressed or not; objects, where it is sound.

    There is at least one, and they can be gone over several times.

    Raises:
        InputError: missing, a folder, a pipe or device, unreadable, empty, truncated, not UTF-8, not what its name
            says, or larger than `curate.base.limits` allow; what stands further down the file, when it is gone over.
    """
    path = existing(path)
    if path.is_dir():
        raise InputError("this is a folder, not a file", file=path, expected="a file", remedy=_within(path))
    packed = limits.check_regular(path)
    with closing(_blocks(path, packed)) as blocks:
        start = next(blocks, b"")
        if start.startswith(PARQUET) and _is_packed(path):
            data = start + b"".join(blocks)
            records: Iterable[Any] = Rows(path, lambda: parquet_rows(data, path))
        elif start.startswith(PARQUET):
            records = Rows(path, lambda: parquet_rows(path, path))
        elif (
            b"\0" not in start[:2]
            and start.removeprefix(BOM).lstrip()[:1] == b"{"
            and _suffix(path) != "parquet"
            and _is_lines(path, packed)
        ):
            records = Rows(path, lambda: json_lines(_lines(path, packed), str(path)))
        else:
            records = _held(start + b"".join(blocks), path, packed)
    if next(iter(records), records) is records:
        raise InputError("the file holds no rows", file=path)
    return records


def _within(folder: Path) -> str:
    """What to do with a folder, by what is in it."""
    names, python = set[str](), "write it as one file, in Python: `{}('a.parquet')`"
    with suppress(OSError):
        names = {one.name for one in folder.iterdir()}
    if "dataset_dict.json" in names:
        return python.format("datasets.load_from_disk(FOLDER)['train'].to_parquet")
    if {"dataset_info.json", "state.json"} <= names:
        return python.format("datasets.load_from_disk(FOLDER).to_parquet")
    if sum(name.endswith(".parquet") for name in names) > 1:
        return "name one of its files, or " + python.format("polars.read_parquet('FOLDER/*.parquet').write_parquet")
    return "name a file in it"


def _blocks(path: Path, packed: int) -> Generator[bytes, None, None]:
    """The file's bytes, unpacked."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            suffix = path.suffix.lower()
            if magic.startswith(GZIP):
                yield from limits.gunzipped(file, path, packed)
            elif magic.startswith(ZSTD):
                yield from limits.unzstd(file, path, packed)
            elif magic and suffix in PACKED and not LFS.startswith(magic):
                raise InputError(
                    f"the name ends in {suffix}, but the file is not {PACKED[suffix]}",
                    file=path,
                    remedy=f"take {suffix} off its name",
                )
            else:
                yield from limits.blocks(file, path, packed)
    except OSError as error:
        raise InputError("cannot read the file", file=path, found=error.strerror) from None


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith((GZIP, ZSTD))


def _is_lines(path: Path, packed: int) -> bool:
    """Whether a text that begins with an object has one a line, and more than one line."""
    with closing(_lines(path, packed)) as lines:
        first, *more = islice((line for line in lines if line.strip()), 2)
    return bool(more) and is_value(first)


def _lines(path: Path, packed: int) -> Generator[str, None, None]:
    """The lines of a text, without what ends them. Raises `InputError` where one is none, or there are too many."""
    number = at = 0
    for line in _cut(_blocks(path, packed)):
        bare = line if number else line.removeprefix(BOM)
        yield _decode(bare, path, at + len(line) - len(bare), number)
        number, at = number + 1, at + len(line) + 1
        if number % MANY_LINES == 0 and at > packed:
            limits.check_rows(number, path, packed)


def _cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks, cut anew where lines end."""
    begun: list[bytes] = []
    for block in blocks:
        first, *more = block.split(b"\n")
        begun.append(first)
        if more:
            yield b"".join(begun)
            yield from more[:-1]
            begun = more[-1:]
    yield b"".join(begun)


def _suffix(path: Path) -> str:
    """What the name says that the file is, unpacked."""
    names = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in PACKED]
    return names[-1].removeprefix(".") if names else ""


def _held(data: bytes, path: Path, packed: int) -> list[Any]:
    """The records of a text that is read whole."""
    suffix = _suffix(path)
    if len(data) > packed:
        limits.check_rows(data.count(b"\n"), path, packed)
    for magic, (what, remedy) in FOREIGN.items():
        if re.match(magic, data):
            raise InputError("this kind of file is not read", file=path, found=what, expected=KINDS, remedy=remedy)
    text = _decode(data.removeprefix(BOM), path, 0, 0)
    start = text.lstrip()[:1]
    if not start:
        raise InputError("the file is empty", file=path)
    if suffix == "parquet":
        raise InputError("the name says Parquet, but the file is text", file=path, remedy="give it its true suffix")
    if start == "[":
        return read_json_array(text, str(path))
    if start == "{":
        return read_json_objects(text, str(path))
    if suffix in ("json", "jsonl", "ndjson"):
        return list(json_lines(text.split("\n"), str(path)))
    if suffix in DELIMITERS:
        return read_csv(text, str(path), DELIMITERS[suffix])
    found = f"text named .{suffix}" if suffix else "text without a suffix"
    raise InputError("cannot tell what kind of file this is", file=path, found=found, expected=KINDS)


def _decode(data: bytes, path: Path, at: int, lines: int) -> str:
    """`data` as text; before it the file has `at` bytes and so many lines."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = lines + data.count(b"\n", 0, error.start) + 1
        raise InputError(
            "the file is not UTF-8 text",
            file=path,
            found=f"byte 0x{data[error.start]:02x} at offset {at + error.start}, line {line}",
            expected=KINDS,
            remedy="convert it from the encoding that it was saved in: `iconv -f cp1252 -t utf-8`,"
            " or for Japanese `-f cp932`; in Excel save it as CSV UTF-8",
        ) from error
    if (zero := text.find("\0")) >= 0:
        raise InputError(
            "the file is binary, or a damaged text",
            file=path,
            found=f"a zero byte in line {lines + text.count(chr(10), 0, zero) + 1}",
            expected=KINDS,
            remedy="write the file again; `tr -d '\\000'` takes such bytes out of a text",
        )
    return text
