"""PKU-SafeRLHF as published: two responses with a safety label each (METHOD 5)."""

from __future__ import annotations

from curate.pairs.sources.base import (
    Malformed,
    Parsed,
    Ratings,
    Record,
    assistant,
    boolean,
    has,
    kind,
    optional_number,
    prompt_text,
    query_type_of,
    text,
    user,
)

SEVERITY_LEVELS = (0, 1, 2, 3)


class Pku:
    """Exactly one response safe: the safe one is chosen, the query is unsafe. Both safe: better_response_id chooses.

    better_response_id rates helpfulness and may name an unsafe response, so it decides nothing unless both
    are safe. Two unsafe responses are passed on in their order for the rule `both_unsafe` to refuse.

    Ratings [ours]: the cost of a response is its severity level, 0..3; its reward 1 where better_response_id (the
    vote on helpfulness) names it, else 0. Fields response_k_reward and response_k_cost, which PKU-SafeRLHF itself
    has not, take the place of these.
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
            ratings=Ratings(_reward(record, best), _reward(record, other), _cost(record, best), _cost(record, other)),
        )


def _reward(record: Record, response: int) -> float | None:
    if _given(record, "reward"):
        return optional_number(record, f"response_{response}_reward")
    return float(_response_id(record, "better_response_id") == response) if "better_response_id" in record else None


def _cost(record: Record, response: int) -> float | None:
    if _given(record, "cost"):
        return optional_number(record, f"response_{response}_cost")
    name = f"response_{response}_severity_level"
    level = optional_number(record, name)
    if level is not None and level not in SEVERITY_LEVELS:
        raise Malformed(name, f"{level:g}", f"one of {', '.join(map(str, SEVERITY_LEVELS))}")
    return level


def _given(record: Record, rating: str) -> bool:
    """Whether either response has this rating as a field: then both are taken from there, so that no scales mix."""
    return any(f"response_{response}_{rating}" in record for response in (0, 1))


def _response_id(record: Record, name: str) -> int:
    value = record.get(name)
    if name not in record:
        raise Malformed(name, "missing", "0 or 1")
    if value in ("0", "1"):  # CSV has no types
        return int(value)
    if type(value) is not int or value not in (0, 1):
        raise Malformed(name, str(value) if type(value) is int else kind(value), "0 or 1")
    return value
