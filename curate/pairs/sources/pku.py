"""PKU-SafeRLHF's native rows, v1 without and v2 with severity levels."""

from __future__ import annotations

from curate.pairs.sources.base import (
    Malformed,
    Parsed,
    Ratings,
    Record,
    assistant,
    boolean,
    kind,
    optional_number,
    prompt_text,
    query_type_of,
    text,
    user,
)
from curate.pairs.sources.format import Format, fields

SEVERITY_LEVELS = (0, 1, 2, 3)


def parse(record: Record) -> Parsed:
    """Exactly one response safe: the safe one is chosen, the query is unsafe. Both safe: better_response_id chooses.

    better_response_id rates helpfulness and may name an unsafe response, so it decides nothing unless both
    are safe. Two unsafe responses are passed on in their order for the rule `both_unsafe` to refuse. Where it
    disagrees with safer_response_id, and where that names the response labelled unsafe, the pair is marked.

    Ratings [ours]: the cost of a response is its severity level, 0..3; its reward 1 where better_response_id (the
    vote on helpfulness) names it, else 0. Fields response_k_reward and response_k_cost, which PKU-SafeRLHF itself
    has not, take the place of these.
    """
    prompt = prompt_text(record)
    responses = text(record, "response_0"), text(record, "response_1")
    safe = boolean(record, "is_response_0_safe"), boolean(record, "is_response_1_safe")
    helpful, safer = (
        _response_id(record, name) if _names_one(record, name) else None
        for name in ("better_response_id", "safer_response_id")
    )
    best = _response_id(record, "better_response_id") if safe == (True, True) else int(safe == (False, True))
    other = 1 - best
    marks = {
        "helpful_is_not_safer": helpful is not None and safer is not None and helpful != safer,
        "safer_is_unsafe": safer is not None and safe[0] != safe[1] and not safe[safer],
    }
    return Parsed(
        [user(prompt)],
        [assistant(responses[best])],
        [assistant(responses[other])],
        query_type_of(safe[best], safe[other]),
        safe[best],
        safe[other],
        marks=tuple(mark for mark, holds in marks.items() if holds),
        ratings=Ratings(_reward(record, best), _reward(record, other), _cost(record, best), _cost(record, other)),
    )


def _reward(record: Record, response: int) -> float | None:
    if _given(record, "reward"):
        return optional_number(record, f"response_{response}_reward")
    name = "better_response_id"
    return float(_response_id(record, name) == response) if _names_one(record, name) else None


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


def _names_one(record: Record, name: str) -> bool:
    """Whether the id is given: a null says as little as no field, and is no fault where nothing needs it."""
    return record.get(name) not in (None, "")


def _response_id(record: Record, name: str) -> int:
    value = record.get(name)
    if name not in record:
        raise Malformed(name, "missing", "0 or 1")
    if value in ("0", "1"):  # CSV has no types
        return int(value)
    if type(value) is not int or value not in (0, 1):
        raise Malformed(name, str(value) if type(value) is int else kind(value), "0 or 1")
    return value


FORMAT = Format(
    "pku",
    "PKU-SafeRLHF: prompt, response_0, response_1, is_response_0_safe, is_response_1_safe, better_response_id",
    fields("prompt response_0 response_1 is_response_0_safe is_response_1_safe"),
    parse,
    reads=frozenset(
        ["better_response_id", "safer_response_id"]
        + [f"response_{k}_{what}" for k in (0, 1) for what in ("severity_level", "reward", "cost")]
    ),
    card="https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF",
)
