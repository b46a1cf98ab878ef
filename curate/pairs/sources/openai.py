"""OpenAI's preference fine-tuning format."""

from __future__ import annotations

from curate.pairs.sources.base import (
    ROLES,
    Malformed,
    Message,
    NullPrompt,
    Parsed,
    Record,
    field,
    has,
    kind,
    messages,
    one_reply,
)

OPENAI_ROLES = {**ROLES, "developer": "system"}  # a developer message is what newer models call the system's


class OpenAi:
    name = "openai"
    about = "OpenAI preferences: input: {messages}, preferred_output, non_preferred_output"
    detected = True

    def fits(self, record: Record) -> bool:
        return has(record, "input", "preferred_output", "non_preferred_output")

    def parse(self, record: Record) -> Parsed:
        given = field(record, "input", "object with messages")
        if given is None:
            raise NullPrompt("input")
        if not isinstance(given, dict):
            raise Malformed("input", kind(given), "object with messages")
        if "messages" in given and given["messages"] is None:
            raise NullPrompt("input.messages")
        prompt = messages(field(given, "messages", "list of messages"), "input.messages", OPENAI_ROLES)
        return Parsed(prompt, _reply(record, "preferred_output"), _reply(record, "non_preferred_output"))


def _reply(record: Record, name: str) -> list[Message]:
    return one_reply(messages(field(record, name, "list of messages"), name, OPENAI_ROLES), name)
