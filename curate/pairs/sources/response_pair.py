"""A prompt and an array of two responses, the preferred one first.

The array alone does not say whether a response is safe. Its one published use that we know is the subset of
PKU-SafeRLHF with exactly one safe reply, as [safer, other]; `response_pair` means that, is what `auto` takes
such a file for, and marks every pair `safety_by_convention`, so that the assumption is in every summary.
`ranked_pair` is the same shape without any claim about safety; it must be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from curate.pairs.schema import QueryType
from curate.pairs.sources.base import Malformed, Parsed, Record, assistant, field, has, kind, prompt_text, user


@dataclass(frozen=True)
class ResponsePair:
    """`safer_first`: the first response is safe, the second is not, hence the query is unsafe (METHOD 5)."""

    name: str
    about: str
    safer_first: bool

    @property
    def detected(self) -> bool:
        return self.safer_first

    def fits(self, record: Record) -> bool:
        return has(record, "prompt", "response") and isinstance(record["response"], list | None)

    def parse(self, record: Record) -> Parsed:
        prompt = prompt_text(record)
        responses = field(record, "response", "list of two texts")
        if not isinstance(responses, list):
            raise Malformed("response", kind(responses), "list of two texts")
        if len(responses) != 2:
            raise Malformed("response", f"a list of {len(responses)}", "list of two texts")
        for i, response in enumerate(responses):
            if not isinstance(response, str):
                raise Malformed(f"response[{i}]", kind(response), "text")
        preferred, other = responses
        turns = [user(prompt)], [assistant(preferred)], [assistant(other)]
        if self.safer_first:
            return Parsed(*turns, QueryType.UNSAFE, True, False, marks=("safety_by_convention",))
        return Parsed(*turns)


SAFER_FIRST = ResponsePair(
    "response_pair", "prompt, response: [safe, unsafe], as PKU-SafeRLHF rows with exactly one safe reply", True
)
RANKED = ResponsePair(
    "ranked_pair",
    "prompt, response: [preferred, other], nothing known about safety (never detected: ask for it)",
    False,
)
