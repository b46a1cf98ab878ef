"""ShareGPT-style preferences, as LLaMA-Factory and others use them."""

from __future__ import annotations

from curate.pairs.sources.base import Malformed, Message, NullPrompt, Parsed, Record, field
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, finished
from curate.pairs.sources.turns import message, messages


def parse(record: Record) -> Parsed:
    """A `system` field beside the conversation, where there is one and it says something, becomes its first turn."""
    turns = field(record, "conversations", "list of messages")
    if turns is None:
        raise NullPrompt("conversations")
    prompt = messages(turns, "conversations")
    return finished(record, prompt, _reply(record, "chosen"), _reply(record, "rejected"), "chosen", "rejected")


def _reply(record: Record, name: str) -> list[Message]:
    value = field(record, name, "object with from and value")
    if isinstance(value, str):
        raise Malformed(name, "text", "object with from and value")
    return [message(value, name)]


FORMAT = Format(
    "sharegpt",
    "ShareGPT: conversations: [{from, value}], chosen: {from, value}, rejected: {from, value}",
    fields("conversations chosen rejected"),
    parse,
    reads=BESIDE,
    card="https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
)
