"""KTO: replies that stand alone, each with a thumb up or down; pairs are made from prompts that have both."""

from __future__ import annotations

from curate.pairs.sources.alpaca import instruction
from curate.pairs.sources.base import Message, Record, boolean, optional_number, text
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.pairing import Replies, Reply
from curate.pairs.sources.replies import SYSTEM, asked, reply, with_system
from curate.pairs.sources.turns import one_reply


def parse(record: Record) -> Replies:
    said = reply(record, "completion")
    content = said if isinstance(said, str) else one_reply(said, "completion")[0]["content"]
    return _rated(record, asked(record, "prompt"), content, "label")


def parse_alpaca(record: Record) -> Replies:
    return _rated(record, instruction(record), text(record, "output"), "kto_tag")


def parse_messages(record: Record) -> Replies:
    """The last turn is what the label speaks of."""
    name = "messages" if "messages" in record else "conversations"
    turns = asked(record, name)
    last = one_reply(turns[-1:], name)[0]["content"]
    return _rated(record, turns[:-1], last, "kto_tag" if "kto_tag" in record else "label")


def _rated(record: Record, prompt: list[Message], said: str, label: str) -> Replies:
    good = boolean(record, label)
    return Replies(with_system(record, prompt), [Reply(said, float(good), reward=optional_number(record, "rating"))])


_READS = frozenset(SYSTEM) | {"rating"}
FORMAT = Format(
    "kto",
    "KTO (TRL): prompt, completion, label; pairs are made of a prompt's good and bad completions",
    fields("prompt completion label"),
    parse,
    reads=_READS,
    pooled=True,
    card="https://huggingface.co/datasets/trl-lib/kto-mix-14k",
)
ALPACA = Format(
    "kto_alpaca",
    "KTO (LLaMA-Factory): instruction, output, kto_tag; optional input, system, history",
    fields("instruction output kto_tag"),
    parse_alpaca,
    reads=_READS | {"input", "history"},
    lists=frozenset({"history"}),
    pooled=True,
    card="https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
)
MESSAGES = Format(
    "kto_messages",
    "KTO as conversations: messages or conversations, kto_tag or label of their last turn",
    fields("messages kto_tag", "conversations kto_tag", "messages label", "conversations label"),
    parse_messages,
    reads=_READS,
    pooled=True,
    card="https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
)
