"""Single replies with a safety label: BeaverTails, WildGuardMix, Aegis. A prompt's safe replies meet its unsafe ones.

Nothing is preferred between two safe replies: such sets say which are harmful, not which is better. Columns and labels
are Aegis' card's, and the published readers' of the others. Rows of a prompt alone (null or empty response) are in
WildGuardMix and Aegis; Aegis writes REDACTED for prompts that must be fetched elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curate.pairs.sources.base import Malformed, Record, Refused, boolean, optional_number, prompt_text, text, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.pairing import Replies, Reply

REDACTED = "REDACTED"


def _worded(name: str, words: Mapping[str, bool]) -> Callable[[Record], bool]:
    def safe(record: Record) -> bool:
        if record.get(name) in (None, ""):
            raise Refused("no_label", f"{name} is null")
        word = text(record, name)
        if word not in words:
            raise Malformed(name, "another word", f"one of {', '.join(words)}")
        return words[word]

    return safe


def _parser(safe: Callable[[Record], bool]) -> Callable[[Record], Replies]:
    def parse(record: Record) -> Replies:
        """The cost is the severity level, where there is one."""
        prompt = prompt_text(record)
        if record.get("response") in (None, ""):
            raise Refused("empty_response", "the row has no response")
        if prompt == REDACTED:
            raise Malformed("prompt", "redacted", "the prompt's text")
        held = safe(record)
        cost = optional_number(record, "severity_level")
        return Replies([user(prompt)], [Reply(text(record, "response"), float(held), held, cost=cost)])

    return parse


BEAVERTAILS = Format(
    "beavertails",
    "BeaverTails, PKU-SafeRLHF-QA: prompt, response, is_safe; a prompt's safe responses over its unsafe ones",
    fields("prompt response is_safe"),
    _parser(lambda record: boolean(record, "is_safe")),
    reads=frozenset({"severity_level"}),
    pooled=True,
    card="https://huggingface.co/datasets/PKU-Alignment/BeaverTails",
)
WILDGUARD = Format(
    "wildguard",
    "WildGuardMix: prompt, response, response_harm_label (harmful, unharmful); likewise",
    fields("prompt response response_harm_label"),
    _parser(_worded("response_harm_label", {"unharmful": True, "harmful": False})),
    pooled=True,
    card="https://huggingface.co/datasets/allenai/wildguardmix",
)
AEGIS = Format(
    "aegis",
    "Aegis 2.0: prompt, response, response_label (safe, unsafe); likewise",
    fields("prompt response response_label"),
    _parser(_worded("response_label", {"safe": True, "unsafe": False})),
    pooled=True,
    card="https://huggingface.co/datasets/nvidia/Aegis-AI-Content-Safety-Dataset-2.0",
)
