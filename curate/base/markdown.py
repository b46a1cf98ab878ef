"""Foreign text in Markdown: it stays text, wherever it is put. [ours]

A model's name, a source's, a value of some provenance may hold line breaks, backticks, bars or tags.
"""

from __future__ import annotations

import re

LONGEST = 200  # characters
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_MARKS = re.compile(r"([\\`*_{}\[\]()#|~!])")
_TAGS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def line(text: object) -> str:
    """`text` on one line, its control characters gone, cut where it is long."""
    found = _BREAKS.sub(" ", str(text)).strip()
    return found if len(found) <= LONGEST else f"{found[:LONGEST]}…"


def plain(text: object) -> str:
    """`text` as words of a paragraph or a table's cell."""
    return _MARKS.sub(r"\\\1", line(text)).translate(_TAGS)


def code(text: object) -> str:
    """`text` as code within a line or a table's cell."""
    return f"`{line(text).replace('`', chr(39)).replace('|', '¦').replace('<', '‹').replace('>', '›')}`"


def fenced(text: str, language: str = "") -> str:
    """`text` as a block of code, whatever runs of backticks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
