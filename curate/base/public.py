"""What of a name may leave this machine: a Hub id whole, of a path its last part. A home folder's name, or a project's,
is nobody's business."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ROOTED = re.compile(r"/|~|\.{1,2}($|[/\\])|[A-Za-z]:[/\\]|\\\\|\w+://|file:")
_NAMED = re.compile(r"(?P<name>[\w.-]+=)(?P<value>.+)", re.DOTALL)
_ABSOLUTE = re.compile(r"(?<![\w.:/~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\:,;'\"]+[/\\])+(?=[^\s/\\])")
_DATA = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".yaml", ".yml", ".gz", ".zst", ".safetensors", ".gguf")
"""Ends of files' names: `data/pairs.jsonl` has the form of a Hub id and is none."""


def last_part(path: str | Path) -> str:
    """The name of the file or folder that `path` is, here or on a machine of another kind."""
    text = str(path).removeprefix("file:").rstrip("/\\")
    name = re.split(r"[/\\]", text)[-1]
    return Path(os.path.realpath(text)).name if name in ("", ".", "..") else name


def public(value: Any) -> Any:
    """`value`, as JSON has it, with every path in it shortened to its last part, also behind `NAME=`."""
    if isinstance(value, Mapping):
        return {key: public(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [public(part) for part in value]
    if not isinstance(value, str):
        return value
    named = _NAMED.fullmatch(value)
    if named:
        return named["name"] + str(public(named["value"]))
    return last_part(value) if _is_path(value) else value


def _is_path(text: str) -> bool:
    """Whether the text names a file or folder. One that is there is a path even where it has a Hub id's form."""
    if text.startswith("hub:") or not re.search(r"[/\\]|^(~|\.{1,2}|file:)", text):
        return False
    if _ROOTED.match(text) or text.lower().endswith(_DATA) or _exists(text):
        return True
    if re.search(r"\s", text):  # a sentence has signs of its own, and seldom two strokes
        return len(re.findall(r"[/\\]", text)) > 1 and not re.search(r"[,;:.!?)]\s", text)
    return not _HUB_ID.fullmatch(text)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long, or with a null byte: no path
        return False


def without_folders(text: str) -> str:
    """A text of any kind in which every absolute path is cut to its last part: /home/me/pairs.csv to …/pairs.csv."""
    return _ABSOLUTE.sub("…/", text)
