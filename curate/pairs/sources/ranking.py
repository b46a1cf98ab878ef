"""Rankings: a prompt and several replies, Nectar's with ranks from 1, others with ranks or scores beside them.

Nectar's prompt is, by its card, "\\n\\nHuman: ... \\n\\nAssistant: ", over all its turns.
"""

from __future__ import annotations

from curate.pairs.sources.base import Malformed, Message, Record, kind, listed, optional_number, prompt_text, text, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.pairing import Replies, Reply
from curate.pairs.sources.replies import SYSTEM, asked, with_system
from curate.pairs.sources.told import opened
from curate.pairs.sources.turns import MARKER, transcript


def parse_nectar(record: Record) -> Replies:
    """The prompt is a transcript that ends with the assistant's marker; rank 1 is the best."""
    replies, answers = [], listed(record, "answers")
    for i, answer in enumerate(answers):
        if not isinstance(answer, dict):
            raise Malformed(f"answers[{i}]", kind(answer), "object with answer and rank")
        held = _number(answer.get("rank"), f"answers[{i}].rank")
        if held is not None:
            replies.append(Reply(text(answer, "answer").strip(), -held))
    return Replies(_spoken(prompt_text(record)), replies, len(answers) - len(replies))


def parse(record: Record) -> Replies:
    """A rank's lowest number is the best, a score's highest."""
    name = "ranks" if "ranks" in record else "scores"
    texts, numbers = listed(record, "responses"), listed(record, name)
    if len(texts) != len(numbers):
        raise Malformed(name, f"a list of {len(numbers)}", f"as many as responses, {len(texts)}")
    ranked = name == "ranks"
    replies = []
    for i, said in enumerate(texts):
        held = _number(numbers[i], f"{name}[{i}]")
        if held is not None:
            reply = text({"responses": said}, "responses")
            replies.append(Reply(reply, -held) if ranked else Reply(reply, held, reward=held))
    return Replies(with_system(record, asked(record, "prompt")), replies, len(texts) - len(replies))


def _number(value: object, name: str) -> float | None:
    """A rank or score, None where there is none; `name` says where it stands."""
    return optional_number({name: value}, name)


def _spoken(prompt: str) -> list[Message]:
    said = "\n\n" + prompt.lstrip()
    if not MARKER.search(said):
        return [user(prompt)]
    if not MARKER.match(said):
        raise Malformed("prompt", "text before its first turn", 'a transcript that starts with "Human:"')
    turns = transcript(said)
    return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns


NECTAR = Format(
    "nectar",
    "Nectar: prompt (a transcript), answers: [{answer, rank}]",
    fields("prompt answers"),
    parse_nectar,
    lists=frozenset({"answers"}),
    looks=lambda record: isinstance(opened(record["answers"]), list | None),
    card="https://huggingface.co/datasets/berkeley-nest/Nectar",
)
FORMAT = Format(
    "ranking",
    "prompt, responses: [texts], ranks: [1 is best] or scores: [highest is best]; optional system",
    fields("prompt responses ranks", "prompt responses scores"),
    parse,
    reads=frozenset(SYSTEM),
    lists=frozenset({"responses", "ranks", "scores"}),
)
