"""What judges: a case is a request and a response; the verdict never guesses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from curate.evaluation.items import Judgement


class Case(NamedTuple):
    """What a judge reads."""

    question: str  # the request, without an attack's dressing
    response: str  # prefill and text; never empty: an empty response has no verdict
    continuation: str  # the text alone


class Judge(Protocol):
    """Passes verdicts on cases.

    `tasks` says which: "harm" (Judgement.harm, and refusal where it says so) or "compliance" (Judgement.refusal in
    XSTest's three degrees).
    """

    name: str
    tasks: frozenset[str]

    def record(self) -> dict[str, Any]:
        """Which judge exactly, as provenance has it."""
        ...

    def judge(self, cases: Sequence[Case], task: str) -> list[Judgement]:
        """A verdict on each; one that cannot be read has neither refusal nor harm, and says why.

        Raises:
            InputError: the judge itself fails for good; what it said before is in its cache.
        """
        ...

    def close(self) -> None: ...
