"""A file into records. What a file holds is read off its first bytes; its name only settles what text is."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import polars as pl

from curate.base.errors import InputError
from curate.base.files import existing
from curate.pairs.sources.decoding import read_csv, read_json_array, read_json_lines

KINDS = "JSON array, JSON lines, CSV or Parquet, each also gzipped"
GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "zstandard-compressed data",
    b"ARROW1": "an Arrow file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def read_file(path: str | Path) -> list[Any]:
    """The records of a JSON, JSON lines, CSV or Parquet file, gzipped or not; objects, where the file is sound.

    Raises:
        InputError: missing, a folder, unreadable, empty, truncated, not UTF-8, or not what its name says.
    """
    path = existing(path)
    if path.is_dir():
        raise InputError("this is a folder, not a file", file=path, expected=KINDS)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("cannot read the file", file=path, found=error.strerror) from error
    suffix = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    data = _unzip(data, path, must=suffix.endswith(".gz"))
    records = _records(data, suffix.removesuffix(".gz").rpartition(".")[2], path)
    if not records:
        raise InputError("the file holds no rows", file=path)
    return records


def _unzip(data: bytes, path: Path, must: bool) -> bytes:
    if not data.startswith(GZIP):
        if must and data:
            raise InputError(
                "the name ends in .gz, but the file is not gzipped", file=path, remedy="take .gz off its name"
            )
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            "the gzipped file is truncated or damaged", file=path, found=error, remedy="copy or download it again"
        ) from error


def _records(data: bytes, suffix: str, path: Path) -> list[Any]:
    if data.startswith(PARQUET):
        return _parquet(data, path)
    text = _decode(data, path)
    start = text.lstrip()[:1]
    if not start:
        raise InputError("the file is empty", file=path)
    if suffix == "parquet":
        raise InputError("the name says Parquet, but the file is text", file=path, remedy="give it its true suffix")
    if start == "[":
        return read_json_array(text, str(path))
    if start == "{" or suffix in ("json", "jsonl", "ndjson"):
        return read_json_lines(text, str(path))
    if suffix == "csv":
        return read_csv(text, str(path))
    raise InputError("cannot tell what kind of file this is", file=path, found=f"text named .{suffix}", expected=KINDS)


def _parquet(data: bytes, path: Path) -> list[dict[str, Any]]:
    try:
        return list(pl.read_parquet(io.BytesIO(data)).iter_rows(named=True))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            "the Parquet file is truncated or damaged",
            file=path,
            found=str(error).splitlines()[0],
            remedy="copy or download it again",
        ) from error


def _decode(data: bytes, path: Path) -> str:
    for magic, what in FOREIGN.items():
        if data.startswith(magic):
            raise InputError("the file is not what its name says", file=path, found=what, expected=KINDS)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            "the file is not UTF-8 text",
            file=path,
            found=f"byte 0x{data[error.start]:02x} at offset {error.start}, line {line}",
            expected=KINDS,
            remedy="convert it, e.g. `iconv -f latin1 -t utf-8`",
        ) from error
    if "\0" in text:
        raise InputError("the file is binary", file=path, found="zero bytes", expected=KINDS)
    return text
