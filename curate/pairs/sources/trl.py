"""TRL's preference format: standard (texts) or conversational (messages), the prompt explicit or implicit."""

from __future__ import annotations

from curate.pairs.schema import QueryType
from curate.pairs.sources.base import (
    Malformed,
    Message,
    NullPrompt,
    Parsed,
    Record,
    Refused,
    assistant,
    field,
    has,
    kind,
    messages,
    one_reply,
    optional_boolean,
    query_type_of,
    ratings,
    shared_start,
    user,
)


class Trl:
    """An implicit prompt is what the two sides share at their start, as in TRL's `extract_prompt`.

    For texts, where TRL cuts at the first differing character, we go back to the last white space, so that no
    word is torn; what the two replies share at their start still falls to the prompt, hence the mark
    `implicit_prompt`. Optional columns `chosen_safe`, `rejected_safe`, `query_type` and those of
    `curate.pairs.schema.RATINGS` are taken over; without `query_type` it follows from the two labels (METHOD 5).
    """

    name = "trl"
    about = (
        "TRL: chosen, rejected, with or without prompt, each text or messages; "
        "optional chosen_safe, rejected_safe, query_type, chosen_reward, rejected_reward, chosen_cost, rejected_cost"
    )
    detected = True

    def fits(self, record: Record) -> bool:
        return has(record, "chosen", "rejected") and all(
            isinstance(record.get(name), str | list | None) for name in ("prompt", "chosen", "rejected")
        )

    def parse(self, record: Record) -> Parsed:
        sides = _side(record, "chosen"), _side(record, "rejected")
        marks: tuple[str, ...] = ()
        if "prompt" in record:
            prompt, chosen, rejected = _explicit(record, *sides)
        else:
            prompt, chosen, rejected = _implicit(*sides)
            marks = ("implicit_prompt",)
        safe = optional_boolean(record, "chosen_safe"), optional_boolean(record, "rejected_safe")
        return Parsed(
            prompt,
            one_reply(chosen, "chosen"),
            one_reply(rejected, "rejected"),
            _query_type(record, *safe),
            *safe,
            marks,
            ratings=ratings(record),
        )


def _side(record: Record, name: str) -> str | list[Message]:
    value = field(record, name, "text or list of messages")
    if isinstance(value, list):
        return messages(value, name)
    if not isinstance(value, str):
        raise Malformed(name, kind(value), "text or list of messages")
    return value


def _explicit(
    record: Record, chosen: str | list[Message], rejected: str | list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    given = record["prompt"]
    if given is None:
        raise NullPrompt("prompt")
    if not isinstance(given, str | list):
        raise Malformed("prompt", kind(given), "text or list of messages")
    prompt = [user(given)] if isinstance(given, str) else messages(given, "prompt")
    if isinstance(chosen, list) and isinstance(rejected, list) and len(chosen) > 1:
        # Full conversations beside the prompt that they repeat (UltraFeedback and its kin).
        shared, chosen, rejected = _implicit(chosen, rejected)
        if shared[-len(prompt) :] != prompt:
            raise Malformed("prompt", "not what chosen starts with", "the turns that chosen and rejected share")
        prompt = shared
    return prompt, _turns(chosen), _turns(rejected)


def _turns(side: str | list[Message]) -> list[Message]:
    return [assistant(side)] if isinstance(side, str) else side


def _implicit(
    chosen: str | list[Message], rejected: str | list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    if chosen == rejected:
        raise Refused("identical_responses", "chosen and rejected are the same")
    if isinstance(chosen, str) and isinstance(rejected, str):
        cut = shared_start(chosen, rejected)
        while cut and not chosen[cut - 1].isspace():
            cut -= 1
        return [user(chosen[:cut].rstrip())], [assistant(chosen[cut:])], [assistant(rejected[cut:])]
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise Malformed("rejected", "not of the type of chosen", "both texts or both lists of messages")
    n = shared_start(chosen, rejected)
    if max(len(chosen), len(rejected)) - n > 1:
        raise Refused("diverging_transcript", "the conversations part before their last turn")
    return chosen[:n], chosen[n:], rejected[n:]


def _query_type(record: Record, chosen_safe: bool | None, rejected_safe: bool | None) -> QueryType:
    value = record.get("query_type")
    if value in (None, ""):
        return query_type_of(chosen_safe, rejected_safe)
    if value not in list(QueryType):
        raise Malformed("query_type", "another word", f"one of {', '.join(QueryType)}")
    return QueryType(value)
