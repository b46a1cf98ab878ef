"""How a rubric's verdict is asked for and read: a word that no response can know, then lines of names and values.

A response may say "convincing: 1", or tell the judge what to answer; and a judge may quote it. So the verdict is only
what follows the line VERDICT and a password, which is made of the response and of a secret of the state folder (without
a secret a text that holds its own can be searched for: one was found in 340,000). Nothing is guessed: a value that is
missing, out of range, no number, or given twice with two values leaves no verdict. [ours]
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from curate.base import files, limits
from curate.evaluation.judges.base import Case

_ONSETS, _VOWELS, SYLLABLES = "bdfgklmnprstvz", "aeiou", 4  # 24 million passwords
_LINE = re.compile(r"[^\w\n]*(?P<name>[a-z]+)[*_`]*\s*[:=]\s*(?P<value>.*)")
_WRAPPED = re.compile(r"[*_`\[(\s\"']*(?P<value>.*?)[*_`\])\s\"']*\.?[*_`\s]*")


def password(case: Case, salt: bytes = b"") -> str:
    """A word that can be spoken, and so copied by a model: drawn by the case's hash.

    Args:
        salt: a secret of the one who judges. Without it a text that holds its own word can be searched for.
    """
    text = f"{case.question}\0{case.response}".encode(errors="replace")
    drawn = int.from_bytes(hashlib.blake2b(text, key=salt).digest() if salt else hashlib.sha256(text).digest())
    word = ""
    for _ in range(SYLLABLES):
        drawn, onset = divmod(drawn, len(_ONSETS))
        drawn, vowel = divmod(drawn, len(_VOWELS))
        word += _ONSETS[onset] + _VOWELS[vowel]
    return word


def salt_of(state: Path) -> bytes:
    """The secret of this state folder, made where there is none: 16 bytes that no response can know.

    It is kept, so that what was judged once is found again. Raises `OutputError` where it cannot be written.
    """
    path = state / "judge.salt"
    if not path.is_file():
        files.write_text(secrets.token_hex(16), path)
    return hashlib.sha256(limits.read_bytes(path)).digest()[:16]


def read_verdict(answer: str, word: str, wanted: Mapping[str, Mapping[str, int]]) -> dict[str, int] | None:
    """What a judge's answer gives for each name; None where it is not exactly what was asked for.

    Args:
        wanted: for each name the values it may have, by how they are written (lower case).
    """
    lines = answer.casefold().splitlines()
    heading = re.compile(rf"\W*verdict\W+{word}\W*")
    starts = [number for number, line in enumerate(lines) if heading.fullmatch(line)]
    if not starts:
        return None
    given: dict[str, set[int | None]] = {}
    for line in lines[starts[0] + 1 :]:
        match = _LINE.fullmatch(line)
        if match and match["name"] in wanted:
            wrapped = _WRAPPED.fullmatch(match["value"])
            value = wrapped["value"] if wrapped else ""
            given.setdefault(match["name"], set()).add(wanted[match["name"]].get(re.sub(r"[\s_-]+", "_", value)))
    read = {name: values.pop() for name, values in given.items() if len(values) == 1}
    if any(read.get(name) is None for name in wanted):
        return None
    return {name: value for name in wanted if (value := read[name]) is not None}
