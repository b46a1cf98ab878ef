"""Plain text and instruction files into documents."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from curate.base import limits
from curate.base.errors import InputError
from curate.pairs.sources.base import Message, assistant, user
from curate.pairs.sources.files import read_file

Document = list[Message] | str
"""A dialogue, or plain text."""

_ROLES = {"User": user, "Assistant": assistant}
_TURN = re.compile(r"(User|Assistant):[ \t]*(.*)")


def read_plain(name: str) -> Iterator[Document]:
    """Documents of a .txt or .txt.gz file, set apart by blank lines; in a file without one, each line is one.

    A document whose every line begins with "User:" or "Assistant:" is a dialogue; turns of one side in a row
    become one.

    Raises:
        InputError: missing, not UTF-8, a damaged gzip file, or larger than is read (`curate.base.limits`).
    """
    raw = limits.read_bytes(name)
    try:
        plain = limits.gunzip(raw, name) if name.endswith(".gz") else raw
        text = io.TextIOWrapper(io.BytesIO(plain), "utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise InputError(
            "the file is not UTF-8 text", file=name, found=error, remedy="convert it with iconv"
        ) from error
    blocks = re.split(r"\n[ \t]*\n", text)
    for block in blocks if len(blocks) > 1 else text.split("\n"):
        if block := block.strip():
            yield _dialogue(block) or block


def _dialogue(block: str) -> list[Message] | None:
    turns: list[Message] = []
    for line in block.split("\n"):
        match = _TURN.fullmatch(line)
        if match is None:
            return None
        turn = _ROLES[match[1]](match[2].strip())
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1] = {"role": turn["role"], "content": f"{turns[-1]['content']}\n{turn['content']}"}
        else:
            turns.append(turn)
    return turns


def is_instructions(records: list[Any]) -> bool:
    """Whether a file's records are instructions with an answer, not preferences."""
    first = records[0]
    return isinstance(first, dict) and {"instruction", "output"} <= first.keys() and "rejected" not in first


def read_instructions(name: str) -> Iterator[Document]:
    """Each {instruction, input, output} of a JSON file as a dialogue.

    Raises:
        InputError: a field is missing or is no text; it names the row.
    """
    for row, record in enumerate(read_file(name)):
        fields = record if isinstance(record, dict) else {}
        asked, given, answer = (fields.get(key, "") for key in ("instruction", "input", "output"))
        if not (isinstance(asked, str) and isinstance(given, str) and isinstance(answer, str) and asked):
            raise InputError(
                "not an instruction", file=name, row=row, expected="instruction, input and output, each text"
            )
        yield [user(f"{asked}\n\n{given}" if given else asked), assistant(answer)]
