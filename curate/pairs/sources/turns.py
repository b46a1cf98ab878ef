"""Turns of a conversation, under the names that data sets give to roles and fields."""

from __future__ import annotations

import re
from typing import Any

from curate.pairs.sources.base import Malformed, Message, kind

ROLES = {
    "system": "system",
    "developer": "system",  # what OpenAI's newer models call it
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "observation": "tool",
}
"""A role's usual names, in lower case, and ours."""

CALLS = ("tool_calls", "function_call")
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields of a turn that are a part of what was said, and are no text of it."""

SHOWN = re.compile(r"(image|audio|video|file)s?(_urls?)?")
"""Such fields, too: what is seen or heard beside the text."""

TEXT_PARTS = ("text", "input_text", "output_text")
MEDIA = {"image": "an image", "audio": "audio", "video": "a video", "file": "a file"}


def messages(value: object, name: str) -> list[Message]:
    """A list of turns."""
    if not isinstance(value, list):
        raise Malformed(name, kind(value), "list of messages")
    return [message(turn, f"{name}[{i}]") for i, turn in enumerate(value)]


def is_turn(value: object) -> bool:
    """Whether it is an object with a role, by either name."""
    return isinstance(value, dict) and ("role" in value or "from" in value)


def message(value: object, name: str) -> Message:
    """A turn: role and content, or from and value (ShareGPT).

    Raises:
        Malformed: no such fields, a role without a name known, a tool call, reasoning or an image beside the content,
            or content that is no text.
    """
    if not isinstance(value, dict):
        raise Malformed(name, kind(value), "object with role and content, or from and value")
    role_field, role = _either(value, "role", "from")
    content_field, content = _either(value, "content", "value")
    if not isinstance(role, str) or role.lower() not in ROLES:
        found = "no known role" if isinstance(role, str) else kind(role) if role_field in value else "missing"
        if role == "function_call":
            found = "a tool call"
        raise Malformed(f"{name}.{role_field}", found, f"one of {', '.join(ROLES)}")
    if any(value.get(name) for name in CALLS):
        raise Malformed(f"{name}.{content_field}", f"{kind(content)} with a tool call", "text alone")
    if any(value.get(name) for name in REASONING):
        found = f"{kind(content)} with reasoning in a field of its own"
        raise Malformed(f"{name}.{content_field}", found, "text alone")
    if media := _shown(value):
        raise Malformed(f"{name}.{content_field}", f"{kind(content)} with {media} in a field of its own", "text alone")
    missing = None if content_field in value else "missing"
    return {"role": ROLES[role.lower()], "content": _content(content, f"{name}.{content_field}", missing)}


def _shown(value: dict[str, Any]) -> str | None:
    """What is seen or heard in a field of the turn, or part, that says something."""
    shown = (SHOWN.fullmatch(key) for key, held in value.items() if held)
    return next((MEDIA[found[1]] for found in shown if found), None)


def _either(turn: dict[str, Any], name: str, other: str) -> tuple[str, Any]:
    """The one of two fields that says something: readers of tables give every row the fields of all."""
    says = (field for field in (name, other) if turn.get(field) is not None)
    stands = (field for field in (name, other) if field in turn)
    taken = next(says, None) or next(stands, name)
    return taken, turn.get(taken)


def _content(value: object, name: str, missing: str | None) -> str:
    """Text, or a list of text parts, joined as chat templates join them: with nothing between."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise Malformed(name, missing or kind(value), "text")
    return "".join(_part(part, f"{name}[{i}]") for i, part in enumerate(value))


def _part(part: object, name: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise Malformed(name, kind(part), "a part of text")
    what = str(part.get("type", "text"))
    text = next((part[key] for key in ("text", "value") if part.get(key) is not None), None)
    if what not in TEXT_PARTS:
        media = next((words for word, words in MEDIA.items() if word in what), "a part of another type")
        raise Malformed(name, media, "a part of text")
    if shown := _shown(part):  # (whose type is not said, or not alone)
        raise Malformed(name, shown, "a part of text")
    if not isinstance(text, str):
        raise Malformed(name, f"a part whose text is {kind(text)}", "a part of text")
    return text


def one_reply(turns: list[Message], name: str) -> list[Message]:
    """The turns, if they are one assistant turn."""
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        found = f"{len(turns)} turns" if len(turns) != 1 else f"a turn of {turns[0]['role']}"
        raise Malformed(name, found, "one assistant turn")
    return turns


MARKER = re.compile(r"\n\n(Human|Assistant):")
LAST = "\n\nAssistant:"
IN_A_TURN = r"(?m)^(Human|Assistant):"
"""A line that begins as a transcript's turn does, within a turn: another one may stand in it."""
OF_A_TEMPLATE = r"<[|｜][\w▁]+[|｜]>|<(start|end)_of_turn>|\[/?INST\]|<</?SYS>>|(?m)^### Instruction:"
"""What chat templates put around turns (ChatML, Llama, Gemma, Mistral, DeepSeek, Alpaca), within a turn."""


def transcript(text: str) -> list[Message]:
    """The turns of a transcript that starts with a marker; each is stripped of the white space of its layout."""
    parts = MARKER.split(text)[1:]
    return [
        {"role": ROLES[who.lower()], "content": content.strip()}
        for who, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def prompt_of(text: str) -> list[Message]:
    """The turns of a prompt that is a transcript, without the assistant's marker at its end; none where it is not."""
    said = "\n\n" + text.lstrip()
    if not said.startswith("\n\nHuman:") or (LAST not in said and not text.startswith("\n\n")):
        return []
    turns = transcript(said)
    return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns


def is_transcript(text: str) -> bool:
    """Whether a reply is one, by its start; an answer may begin with Human: where nobody answers in it."""
    return text.startswith("\n\nHuman:") or (text.lstrip().startswith("Human:") and LAST in text)
