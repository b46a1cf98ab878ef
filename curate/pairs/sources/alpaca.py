"""Alpaca-style preferences, as LLaMA-Factory has them: an instruction, an input, and two outputs."""

from __future__ import annotations

from typing import Any

from curate.pairs.sources.base import Malformed, Message, NullPrompt, Parsed, Record, assistant, kind, text, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.ranked_pair import two_texts
from curate.pairs.sources.replies import BESIDE, answered, finished


def parse(record: Record) -> Parsed:
    return answered(record, instruction(record))


def parse_output(record: Record) -> Parsed:
    preferred, other = two_texts(record, "output")
    return finished(record, instruction(record), [assistant(preferred)], [assistant(other)], "output[0]", "output[1]")


def instruction(record: Record) -> list[Message]:
    """The turns of `history`, then `instruction` and `input`, each on a line of its own where it says something."""
    if record.get("instruction", "") is None:
        raise NullPrompt("instruction")
    said = [text(record, "instruction")]
    if record.get("input") not in (None, ""):
        said.append(text(record, "input"))
    return [*history(record), user("\n".join(filter(None, said)))]


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
    "alpaca",
    "Alpaca-style (LLaMA-Factory): instruction, chosen, rejected; optional input, system, history",
    fields("instruction chosen rejected"),
    parse,
    reads=BESIDE | {"input", "history"},
    lists=frozenset({"history"}),
    by_fields="--field prompt=instruction --field chosen=chosen --field rejected=rejected (where input is empty)",
    card="https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
)
OUTPUT = Format(
    "alpaca_output",
    "the same with output: [preferred, other] (LLaMA-Factory before 0.8)",
    fields("instruction output"),
    parse_output,
    reads=BESIDE | {"input", "history"},
    lists=frozenset({"history", "output"}),
    looks=lambda record: isinstance(record["output"], list),
    by_fields="--field prompt=instruction --field chosen=output.0 --field rejected=output.1 (where input is empty)",
    card="https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
)
