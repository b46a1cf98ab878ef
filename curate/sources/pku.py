"""PKU-SafeRLHF as published: two responses with a safety label each (METHOD 5)."""

from __future__ import annotations

from curate.sources.base import (
    Malformed,
    Parsed,
    Record,
    assistant,
    boolean,
    has,
    kind,
    prompt_text,
    query_type_of,
    text,
    user,
)


class Pku:
    """Exactly one response safe: the safe one is chosen, the query is unsafe. Both safe: better_response_id chooses.

    better_response_id rates helpfulness and may name an unsafe response, so it decides nothing unless both
    are safe. Two unsafe responses are passed on in their order for the rule `both_unsafe` to refuse.
    """

    name = "pku"
    about = "PKU-SafeRLHF: prompt, response_0, response_1, is_response_0_safe, is_response_1_safe, better_response_id"
    detected = True

    def fits(self, record: Record) -> bool:
        return has(record, "prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe")

    def parse(self, record: Record) -> Parsed:
        prompt = prompt_text(record)
        responses = text(record, "response_0"), text(record, "response_1")
        safe = boolean(record, "is_response_0_safe"), boolean(record, "is_response_1_safe")
        for name in ("better_response_id", "safer_response_id"):
            if name in record:
                _response_id(record, name)
        best = _response_id(record, "better_response_id") if safe == (True, True) else int(safe == (False, True))
        other = 1 - best
        return Parsed(
            [user(prompt)],
            [assistant(responses[best])],
            [assistant(responses[other])],
            query_type_of(safe[best], safe[other]),
            safe[best],
            safe[other],
        )


def _response_id(record: Record, name: str) -> int:
    value = record.get(name)
    if name not in record:
        raise Malformed(name, "missing", "0 or 1")
    if value in ("0", "1"):  # CSV has no types
        return int(value)
    if type(value) is not int or value not in (0, 1):
        raise Malformed(name, str(value) if type(value) is int else kind(value), "0 or 1")
    return value
