"""A prompt and an array of two responses, the preferred one first.

The array alone does not say whether a response is safe: `ranked_pair` claims nothing. Its one published use
that we know is the subset of PKU-SafeRLHF with exactly one safe reply, as [safer, other]; `pku_ranked` means
that, must be asked for, and marks every pair `safety_by_convention`, so that the assumption is in every summary.
"""

from __future__ import annotations

from curate.pairs.schema import QueryType
from curate.pairs.sources.base import Malformed, Parsed, Record, assistant, field, kind, prompt_text, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import SYSTEM, with_system


def parse(record: Record) -> Parsed:
    prompt = prompt_text(record)
    preferred, other = two_texts(record, "response")
    return Parsed(with_system(record, [user(prompt)]), [assistant(preferred)], [assistant(other)])


def parse_pku(record: Record) -> Parsed:
    """The first response is safe, the second is not, hence the query is unsafe (docs/columns.md)."""
    return parse(record)._replace(
        query_type=QueryType.UNSAFE, chosen_safe=True, rejected_safe=False, marks=("safety_by_convention",)
    )


def two_texts(record: Record, name: str) -> tuple[str, str]:
    """A field's list of two texts, the preferred one first."""
    responses = field(record, name, "list of two texts")
    if not isinstance(responses, list):
        raise Malformed(name, kind(responses), "list of two texts")
    if len(responses) != 2:
        raise Malformed(name, f"a list of {len(responses)}", "list of two texts")
    for i, response in enumerate(responses):
        if not isinstance(response, str):
            raise Malformed(f"{name}[{i}]", kind(response), "text")
    return responses[0], responses[1]


def _looks(record: Record) -> bool:
    return isinstance(record["response"], list | None)


RANKED = Format(
    "ranked_pair",
    "prompt, response: [preferred, other]; nothing known about safety",
    fields("prompt response"),
    parse,
    reads=frozenset(SYSTEM),
    lists=frozenset({"response"}),
    looks=_looks,
    by_fields="--field prompt=prompt --field chosen=response.0 --field rejected=response.1",
    hint="such rows say nothing of safety; if each has one safe reply, the first, say --format pku_ranked",
)
PKU = Format(
    "pku_ranked",
    "the same, as PKU-SafeRLHF rows with exactly one safe reply, [safer, other] (never detected: ask for it)",
    fields("prompt response"),
    parse_pku,
    reads=frozenset(SYSTEM),
    lists=frozenset({"response"}),
    looks=_looks,
    detected=False,
)
