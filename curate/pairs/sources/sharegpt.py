"""ShareGPT-style preferences, as LLaMA-Factory and others use them."""

from __future__ import annotations

from curate.pairs.sources.base import (
    Message,
    NullPrompt,
    Parsed,
    Record,
    field,
    has,
    message,
    messages,
    one_reply,
    ratings,
    text,
)

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "observation": "tool",
}


class ShareGpt:
    """A `system` field beside the conversation, where there is one and it says something, becomes its first turn.

    Columns of `curate.pairs.schema.RATINGS` are taken over.
    """

    name = "sharegpt"
    about = "ShareGPT: conversations: [{from, value}], chosen: {from, value}, rejected: {from, value}"
    detected = True

    def fits(self, record: Record) -> bool:
        return has(record, "conversations", "chosen", "rejected")

    def parse(self, record: Record) -> Parsed:
        turns = field(record, "conversations", "list of messages")
        if turns is None:
            raise NullPrompt("conversations")
        prompt = messages(turns, "conversations", SHAREGPT_ROLES, "from", "value")
        if record.get("system"):
            prompt = [{"role": "system", "content": text(record, "system")}, *prompt]
        return Parsed(prompt, _reply(record, "chosen"), _reply(record, "rejected"), ratings=ratings(record))


def _reply(record: Record, name: str) -> list[Message]:
    value = field(record, name, "object with from and value")
    return one_reply([message(value, name, SHAREGPT_ROLES, "from", "value")], name)
