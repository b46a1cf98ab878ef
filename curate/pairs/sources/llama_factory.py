"""LLaMA-Factory's version 1 rows: two whole conversations; and ms-swift's, whose last turn is the chosen one."""

from __future__ import annotations

from curate.pairs.sources.base import Malformed, Parsed, Record, assistant, text
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, asked, finished, parted


def parse(record: Record) -> Parsed:
    sides = asked(record, "chosen_messages"), asked(record, "rejected_messages")
    return finished(record, *parted(*sides), "chosen_messages", "rejected_messages", marks=("implicit_prompt",))


def parse_swift(record: Record) -> Parsed:
    turns = asked(record, "messages")
    if turns and turns[-1]["role"] != "assistant":
        raise Malformed("messages", f"a last turn of {turns[-1]['role']}", "a last turn of assistant, the chosen one")
    other = [assistant(text(record, "rejected_response"))]
    return finished(record, turns[:-1], turns[-1:], other, "messages", "rejected_response")


FORMAT = Format(
    "llama_factory",
    "LLaMA-Factory v1: chosen_messages, rejected_messages, whole conversations, content as text or as parts",
    fields("chosen_messages rejected_messages"),
    parse,
    reads=BESIDE,
    card="https://github.com/hiyouga/LLaMA-Factory",
)
SWIFT = Format(
    "swift",
    "ms-swift: messages (the last turn is the chosen one), rejected_response",
    fields("messages rejected_response"),
    parse_swift,
    reads=BESIDE,
    card="https://swift.readthedocs.io",
)
