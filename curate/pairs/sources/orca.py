"""Preferences whose prompt stands under another name: Orca DPO's `question`, `query`, and Alpaca's `instruction`."""

from __future__ import annotations

from typing import Any

from curate.pairs.sources.base import Malformed, Message, NullPrompt, Parsed, Record, assistant, kind, text, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, answered, asked


def parse(record: Record) -> Parsed:
    return answered(record, asked(record, "question"))


def parse_query(record: Record) -> Parsed:
    return answered(record, [*history(record), *asked(record, "query")])


def parse_alpaca(record: Record) -> Parsed:
    return answered(record, instruction(record))


def instruction(record: Record) -> list[Message]:
    """The turns of `history`, then `instruction` and, on a line of its own, `input` where it says something."""
    if record.get("instruction", "") is None:
        raise NullPrompt("instruction")
    said = [text(record, "instruction")]
    if record.get("input") not in (None, ""):
        said.append(text(record, "input"))
    return [*history(record), user("\n".join(said))]


def history(record: Record) -> list[Message]:
    """Earlier rounds, each [question, answer]."""
    rounds: Any = record.get("history")
    if rounds in (None, ""):
        return []
    if not isinstance(rounds, list):
        raise Malformed("history", kind(rounds), "list of [question, answer]")
    turns = []
    for i, said in enumerate(rounds):
        if not isinstance(said, list) or len(said) != 2 or not all(isinstance(one, str) for one in said):
            raise Malformed(f"history[{i}]", kind(said), "[question, answer]")
        turns += [user(said[0]), assistant(said[1])]
    return turns


FORMAT = Format(
    "orca",
    "Orca DPO (Intel): question, chosen, rejected; optional system",
    fields("question chosen rejected"),
    parse,
    reads=BESIDE,
    card="https://huggingface.co/datasets/Intel/orca_dpo_pairs",
)
QUERY = Format(
    "query",
    "query, chosen, rejected; optional system, history",
    fields("query chosen rejected"),
    parse_query,
    reads=BESIDE | {"history"},
)
ALPACA = Format(
    "alpaca",
    "Alpaca-style (LLaMA-Factory): instruction, chosen, rejected; optional input, system, history",
    fields("instruction chosen rejected"),
    parse_alpaca,
    reads=BESIDE | {"input", "history"},
    card="https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
)
