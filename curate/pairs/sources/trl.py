"""TRL's preference format: standard (texts) or conversational (messages), the prompt explicit or implicit."""

from __future__ import annotations

from curate.pairs.sources.base import Malformed, Message, Parsed, Record, Refused, assistant, named, shared_start, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, Side, answered, asked, finished, parted, reply

PROMPTS = ("question", "instruction", "query", "input", "context", "history", "problem", "task", "text", "post")
"""Fields that could be the prompt: where a row has one, no prompt is made from its responses."""


def parse(record: Record) -> Parsed:
    """An implicit prompt is what the two sides share at their start, as in TRL's `extract_prompt`.

    For texts, where TRL cuts at the first differing character, we go back to the last white space, so that no
    word is torn; what the two replies share at their start still falls to the prompt, hence the mark
    `implicit_prompt`. Such a row is never detected: the format must be named, and a field that could be the
    prompt refuses it (docs/formats.md).
    """
    if "prompt" in record:
        return answered(record, asked(record, "prompt"))
    shared, chosen, rejected = _implicit(record, reply(record, "chosen"), reply(record, "rejected"))
    return finished(record, shared, chosen, rejected, "chosen", "rejected", marks=("implicit_prompt",))


def _implicit(record: Record, chosen: Side, rejected: Side) -> tuple[list[Message], list[Message], list[Message]]:
    if isinstance(chosen, list) and isinstance(rejected, list):
        return parted(chosen, rejected)
    if isinstance(chosen, list) or isinstance(rejected, list):
        raise Malformed("rejected", "not of the type of chosen", "both texts or both lists of messages")
    could_be = [name for name in record if name.lower() in PROMPTS]
    if could_be:
        raise Malformed("prompt", "missing", f"prompt, or --field prompt=NAME with one of: {named(could_be)}")
    if chosen == rejected:
        raise Refused("identical_responses", "chosen and rejected are the same")
    cut = shared_start(chosen, rejected)
    while cut and not chosen[cut - 1].isspace():
        cut -= 1
    return [user(chosen[:cut].rstrip())], [assistant(chosen[cut:])], [assistant(rejected[cut:])]


def in_turns(record: Record) -> bool:
    """Whether the responses are messages; nulls do not count against it."""
    sides = record["chosen"], record["rejected"]
    return all(isinstance(side, list | None) for side in sides) and any(side for side in sides)


def _looks(record: Record) -> bool:
    if "prompt" not in record:
        return in_turns(record)
    return all(isinstance(record[name], str | list | None) for name in ("prompt", "chosen", "rejected"))


FORMAT = Format(
    "trl",
    "TRL: chosen, rejected, with or without prompt, each text or messages (without prompt: messages, "
    "or texts where the format is named)",
    fields("prompt chosen rejected", "chosen rejected"),
    parse,
    reads=BESIDE,
    looks=_looks,
    card="https://huggingface.co/docs/trl/dataset_formats",
)
