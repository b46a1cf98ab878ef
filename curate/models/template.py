"""A chat template as text: with our options, on a day that stands still, in bounded time.

A template is a program that came with a model. It may read the clock, run on without end, or put the text of a
conversation into an error; none of that may change a number, hang a run or reach the screen.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from curate.base.errors import InputError, few

Messages = Sequence[Mapping[str, str]]

TODAY = datetime(2024, 7, 26)
"""The day that every template is told, whatever the calendar says: Llama 3's own default. [ours]"""


def strftime_now(form: str) -> str:
    """`TODAY` as a template asks for it; in place of transformers' function of this name, which reads the clock."""
    return TODAY.strftime(form)


TEMPLATE_OPTIONS = {"enable_thinking": False, "date_string": strftime_now("%d %b %Y"), "strftime_now": strftime_now}
"""Given to every template; one that knows no such variable ignores it, and an option wins over a global of its name.
Without the first, Qwen3 writes an empty thought into each response, which would be scored; without the others the ids
of Llama 3, Granite 3, SmolLM3, Mistral Small 3 and gpt-oss change with the calendar."""

SECONDS = 10.0  # a template may take for one conversation ...
SECONDS_EACH = 0.1  # ... and for each of many, on top

_JINJA_WORDS = frozenset(re.findall(r"\w+", "dict list str int object element has no attribute is undefined"))
"""Of jinja's own messages, which name a variable of the template."""


class _TookTooLong(Exception):
    pass


def render(tokenizer: Any, messages: Messages, name: str, **options: Any) -> str:
    """One conversation as text. Arguments and errors as for `render_all`."""
    return render_all(tokenizer, [messages], [name], **options)[0]


def render_all(tokenizer: Any, conversations: Sequence[Messages], names: Sequence[str], **options: Any) -> list[str]:
    """Each conversation as the tokenizer's chat template writes it, special tokens included.

    Args:
        names: of the conversations, as errors have them.
        options: of the template, beside `TEMPLATE_OPTIONS` and in their place.

    Raises:
        InputError: the template refuses a conversation, or takes longer than `SECONDS`.
    """
    options = TEMPLATE_OPTIONS | options
    texts: list[str] = []
    try:
        with at_most(SECONDS + SECONDS_EACH * len(conversations)):
            for messages, name in zip(conversations, names, strict=True):
                try:
                    texts.append(str(tokenizer.apply_chat_template(list(messages), tokenize=False, **options)))
                except _TookTooLong:
                    raise
                except Exception as error:  # jinja's errors, and whatever a template raises by itself
                    raise refused(tokenizer, messages, name, error) from None
    except _TookTooLong:
        raise InputError(
            "the chat template runs on and was stopped",
            file=tokenizer.name_or_path or None,
            field=names[len(texts)] if len(texts) < len(names) else None,
            found=f"more than {SECONDS + SECONDS_EACH * len(conversations):.0f} s for {len(conversations)} renderings",
            remedy="look at the loops of the model's chat_template; a usual template takes a millisecond",
        ) from None
    return texts


def refused(tokenizer: Any, messages: Messages, name: str, error: Exception) -> InputError:
    """What is said of a template that raised `error` over `messages`: never a word of theirs."""
    roles = [str(message["role"]) for message in messages]
    return InputError(
        "the chat template refuses the messages",
        file=tokenizer.name_or_path or None,
        field=name,
        found=f"roles {few(roles, 6)}: {_of_the_template(str(tokenizer.chat_template), error)}",
        remedy="drop them, or use a model whose template takes these roles",
    )


def _of_the_template(template: str, error: Exception) -> str:
    """The error's message where each of its words is the template's own or jinja's, else its kind."""
    message = (str(error).splitlines() or [""])[0][:200]
    words = set(re.findall(r"[^\W\d_]+", message))
    if message and words <= set(re.findall(r"[^\W\d_]+", template)) | _JINJA_WORDS:
        return message
    return f"{type(error).__name__} (its message may hold text of the conversation, and is not printed)"


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `_TookTooLong` in this thread once the block has run for so long. A single step in C is waited for."""
    thread = ctypes.c_ulong(threading.get_ident())
    lock = threading.Lock()
    ended = fired = False

    def stop() -> None:
        nonlocal fired
        with lock:
            if not ended:
                fired = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TookTooLong))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            ended = True
            if fired:  # where it has not been raised yet, it must not be later
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
