"""A file into records. What a file holds is read off its first bytes; its name only settles what text is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.base import limits
from curate.base.errors import InputError
from curate.base.files import existing
from curate.pairs.sources.decoding import read_json_array, read_json_lines, read_json_objects
from curate.pairs.sources.tables import read_csv, read_parquet

KINDS = "JSON array, JSON lines, CSV, TSV or Parquet, each also as .gz or .zst"
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
PARQUET = b"PAR1"
PACKED = {".gz": "gzipped", ".zst": "zstandard-compressed"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
    b"ARROW1": "an Arrow file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def read_file(path: str | Path) -> list[Any]:
    """The records of a JSON, JSON lines, CSV, TSV or Parquet file, compressed or not; objects, where it is sound.

    Raises:
        InputError: missing, a folder, a pipe or device, unreadable, empty, truncated, not UTF-8, not what its name
            says, or larger than `curate.base.limits` allow.
    """
    path = existing(path)
    data = limits.read_bytes(path)
    packed = len(data)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    data, named = _unpacked(data, suffixes[-1:], path), [one for one in suffixes if one not in PACKED]
    records = _records(data, named[-1].removeprefix(".") if named else "", path, packed)
    if not records:
        raise InputError("the file holds no rows", file=path)
    return records


def _unpacked(data: bytes, suffix: list[str], path: Path) -> bytes:
    if data.startswith(GZIP):
        return limits.gunzip(data, path)
    if data.startswith(ZSTD):
        return limits.unzstd(data, path)
    if data and suffix and suffix[0] in PACKED:
        raise InputError(
            f"the name ends in {suffix[0]}, but the file is not {PACKED[suffix[0]]}",
            file=path,
            remedy=f"take {suffix[0]} off its name",
        )
    return data


def _records(data: bytes, suffix: str, path: Path, packed: int) -> list[Any]:
    if data.startswith(PARQUET):
        return read_parquet(data, path)
    if len(data) > packed:
        limits.check_rows(data.count(b"\n"), path, packed)
    text = _decode(data, path)
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
        return read_json_lines(text, str(path))
    if suffix in DELIMITERS:
        return read_csv(text, str(path), DELIMITERS[suffix])
    found = f"text named .{suffix}" if suffix else "text without a suffix"
    raise InputError("cannot tell what kind of file this is", file=path, found=found, expected=KINDS)


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
