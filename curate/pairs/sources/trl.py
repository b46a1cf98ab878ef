"""TRL's preference format: standard (texts) or conversational (messages), the prompt explicit or implicit."""

from __future__ import annotations

import re

from curate.pairs.sources.base import Malformed, Parsed, Record, Refused, assistant, named, shared_start, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, answered, asked, finished, parted, reply, transcripts_parted
from curate.pairs.sources.turns import is_transcript, is_turn

_COULD_BE = re.compile(
    r"((user|human|system|original|initial|full|first|last|raw|formatted|source|input|chat|conversation)_?)*"
    r"(prompt|question|instruction|query|queries|input|context|history|problem|task|text|post|request|system|user|human"
    r"|message|conversation|dialog|dialogue|chat|turn)s?(_?(text|string|content|message)s?)?"
)
"""Names, as `_plain` has them, of what could be the prompt: where a row has one, none is made from its responses."""


def parse(record: Record) -> Parsed:
    """An implicit prompt is the turns that the two sides share at their start, as in TRL's `extract_prompt`.

    Texts without a prompt are refused; `parse_named` has them.
    """
    if "prompt" in record:
        return answered(record, asked(record, "prompt"))
    chosen, rejected = reply(record, "chosen"), reply(record, "rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        shared, one, other = parted(chosen, rejected)
        if not shared and (could_be := prompts(record)):
            raise _without_prompt(could_be)
        return finished(record, shared, one, other, "chosen", "rejected", marks=("implicit_prompt",))
    if isinstance(chosen, list) or isinstance(rejected, list):
        raise Malformed("rejected", "not of the type of chosen", "both texts or both lists of messages")
    if could_be := prompts(record):
        raise _without_prompt(could_be)
    raise Malformed("prompt", "missing", "prompt (of texts alone one is made where --format trl says so)")


def parse_named(record: Record) -> Parsed:
    """As `parse`; and of two texts the prompt is what they share at their start, for the user named the format:
    of transcripts the turns.

    Where TRL cuts at the first differing character, we go back to the last white space, so that no word is torn;
    what the two replies share at their start still falls to the prompt, hence the mark `implicit_prompt`. A field
    that could be the prompt refuses the row (docs/formats.md).
    """
    if "prompt" in record:
        return parse(record)
    chosen, rejected = reply(record, "chosen"), reply(record, "rejected")
    if not isinstance(chosen, str) or not isinstance(rejected, str) or prompts(record):
        return parse(record)
    if is_transcript(chosen) or is_transcript(rejected):
        parts = transcripts_parted(chosen, rejected, "chosen", "rejected")
        return finished(record, *parts, "chosen", "rejected", marks=("implicit_prompt",))
    if chosen == rejected:
        raise Refused("identical_responses", "chosen and rejected are the same")
    cut = shared_start(chosen, rejected)
    while cut and not chosen[cut - 1].isspace():
        cut -= 1
    shared, one, other = [user(chosen[:cut].rstrip())], [assistant(chosen[cut:])], [assistant(rejected[cut:])]
    return finished(record, shared, one, other, "chosen", "rejected", marks=("implicit_prompt",))


def _without_prompt(could_be: list[str]) -> Malformed:
    return Malformed("prompt", "missing", f"prompt, or --field prompt=NAME with one of: {named(could_be)}")


def prompts(record: Record) -> list[str]:
    """Fields that could be the prompt, by their names; a number could not."""
    return [
        name
        for name, value in record.items()
        if _COULD_BE.fullmatch(_plain(name)) and isinstance(value, str | list | dict | None)
    ]


def _plain(name: str) -> str:
    """A field's name in lower case, its words parted by underscores."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower()


def in_turns(record: Record) -> bool:
    """Whether the responses are messages; nulls do not count against it."""
    sides = record["chosen"], record["rejected"]
    return all(isinstance(side, list | None) for side in sides) and any(side for side in sides)


def _looks(record: Record) -> bool:
    if "prompt" not in record:
        return in_turns(record)
    sides = record["chosen"], record["rejected"]
    if not all(isinstance(side, str | list | None) or is_turn(side) for side in sides):
        return False
    return isinstance(record["prompt"], str | list | None)


FORMAT = Format(
    "trl",
    "TRL: chosen, rejected, with or without prompt, each text or messages (without prompt: messages, "
    "or texts where the format is named)",
    fields("prompt chosen rejected", "chosen rejected"),
    parse,
    reads=BESIDE,
    looks=_looks,
    when_named=parse_named,
    card="https://huggingface.co/docs/trl/dataset_formats",
)
