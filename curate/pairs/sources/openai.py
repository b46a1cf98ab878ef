"""OpenAI's preference fine-tuning format, which Azure has too."""

from __future__ import annotations

from curate.pairs.sources.base import Malformed, NullPrompt, Parsed, Record, field, kind
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, finished
from curate.pairs.sources.turns import messages


def parse(record: Record) -> Parsed:
    given = field(record, "input", "object with messages")
    if given is None:
        raise NullPrompt("input")
    if not isinstance(given, dict):
        raise Malformed("input", kind(given), "object with messages")
    if "messages" in given and given["messages"] is None:
        raise NullPrompt("input.messages")
    prompt = messages(field(given, "messages", "list of messages"), "input.messages")
    names = "preferred_output", "non_preferred_output"
    chosen, rejected = (messages(field(record, name, "list of messages"), name) for name in names)
    marks = ("tools_left_out",) if given.get("tools") or given.get("functions") else ()
    return finished(record, prompt, chosen, rejected, *names, marks=marks)


FORMAT = Format(
    "openai",
    "OpenAI and Azure preferences: input: {messages}, preferred_output, non_preferred_output",
    fields("input preferred_output non_preferred_output"),
    parse,
    reads=BESIDE,
    card="https://developers.openai.com/api/docs/guides/direct-preference-optimization",
)
