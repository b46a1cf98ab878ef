"""Where a response begins and ends in a template's text, found out with a conversation of our own.

A template is asked for three renderings: up to the assistant's turn, with a response that is a word of ours, and with a
user's turn after it. What they share and where they part says how this template writes any response. [ours]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from curate.base.errors import InputError
from curate.models.template import TODAY, Messages, render

USER, SAID, NEXT = "curatequestion", "curateresponse", "curatefollowup"  # no template writes these by itself
_THOUGHT = re.compile(r"think|thought|reason", re.IGNORECASE)
CLOSED_THOUGHT = re.compile(r"(</|\[/|◁/|<\|end_?)\s*(think|thought|reason)", re.IGNORECASE)
"""The mark after a thought that a response's text may hold: `</think>`, `[/THINK]`, `<|END_THINKING|>`."""


class Turn(NamedTuple):
    """How a template writes a response. Texts are special tokens and letters alike."""

    asked: list[dict[str, str]]  # our conversation, up to the response
    opened: str  # its rendering with the generation prompt, as a response follows it
    dropped: str  # the end of the generation prompt that no response follows: a thought that it opens
    added: str  # what stands between the generation prompt and every response, and is one of its tokens: a thought shut
    tail: str  # what follows the response's text to the rendering's end
    end: str  # the special token that ends the response; "" where the template writes none
    scored: str  # what follows the response's text up to its end, that included: the last that is scored
    system: str  # what the template puts in front by itself when a conversation has no system turn; "" for nothing

    def before(self, text: str) -> str:
        """A generation prompt -> the text that a response follows."""
        return text.removesuffix(self.dropped) + self.added


def turn_of(tokenizer: Any) -> Turn:
    """How this tokenizer's template writes a response.

    Raises:
        InputError: the template refuses a user's turn and a response, leaves the response out, or opens the turn for a
            generation otherwise than for a response.
    """
    asked, opened = _asked(tokenizer)
    answered = _answered(asked)
    whole = render(tokenizer, answered, "a response of one word")
    at = whole.rfind(SAID)
    if at < 0:
        raise InputError(
            "the chat template leaves the response out",
            file=tokenizer.name_or_path or None,
            expected="the assistant's content in the rendered text",
            remedy="use a template that writes the assistant's turns",
        )
    dropped, added = _beginning(tokenizer, opened, whole[:at])
    tail = whole[at + len(SAID) :]
    between = _between(tokenizer, answered)
    end, scored = _end(tokenizer, tail, between)
    system = _own_system(tokenizer, opened, between) if asked[0]["role"] == "user" else ""
    turn = Turn(asked, opened, dropped, added, tail, end, scored, system)
    return turn._replace(opened=turn.before(opened))


def check_written(tokenizer: Any, prompts: Sequence[Messages], names: Sequence[str]) -> None:
    """Raise `InputError` where the template writes a prompt without one of its turns: some know no system turn.

    That is found with words of ours in the same roles, for a template may write a turn's own words in other ways.
    """
    first: dict[tuple[str, ...], str] = {}
    for prompt, name in zip(prompts, names, strict=True):
        first.setdefault(tuple(turn["role"] for turn in prompt), name)
    for roles, name in first.items():
        said = [f"{USER}{number}end" for number in range(len(roles))]
        conversation = [{"role": role, "content": word} for role, word in zip(roles, said, strict=True)]
        try:
            text = render(tokenizer, conversation, name, add_generation_prompt=True)
        except InputError:  # it takes the words for something else, a call's result
            continue
        for number, word in enumerate(said):
            if word not in text:
                raise InputError(
                    "the chat template leaves a turn of the prompt out",
                    file=tokenizer.name_or_path or None,
                    field=name,
                    found=f"turn {number + 1} of {len(roles)}, of {roles[number]}",
                    expected="every turn of the prompt in the rendered text",
                    remedy="use a model whose template writes it, put its text into the user's turn, or set such pairs "
                    "aside: score.unrenderable: reject",
                )


def reads_clock(tokenizer: Any) -> bool:
    """Whether the template writes what day it is, which is `template.TODAY` here."""
    asked, opened = _asked(tokenizer)
    other = render(
        tokenizer, asked, "another day", add_generation_prompt=True, date_string="other", strftime_now=lambda _: "other"
    )
    return other != opened


def record(tokenizer: Any) -> dict[str, str | None]:
    """What provenance says of how this template was rendered.

    Keys: `end_of_turn`, the token that ends a response; `system_turn`, what the template puts before a conversation
    that has no system turn; `date`, the day it was told, where it writes one; `thought`, what became of a thought that
    its generation prompt opens. None for what it does not do.

    Raises:
        InputError: as `turn_of`.
    """
    turn = turn_of(tokenizer)
    thought = (
        f"left out: {turn.dropped.strip()}" if turn.dropped else f"shut: {turn.added.strip()}" if turn.added else None
    )
    return {
        "end_of_turn": turn.end or tokenizer.eos_token,
        "system_turn": turn.system or None,
        "date": TODAY.date().isoformat() if reads_clock(tokenizer) else None,
        "thought": thought,
    }


def special_tokens(tokenizer: Any) -> list[str]:
    """The special tokens' texts, longest first: those with a name, those that only the vocabulary marks (Gemma 3's
    <end_of_turn>), and those that the model's makers end a generation with."""
    named = named_ends(tokenizer)
    marked = (t.content for number, t in tokenizer.added_tokens_decoder.items() if t.special or number in named)
    return sorted({*tokenizer.all_special_tokens, *marked} - {""}, key=lambda token: (-len(token), token))


def named_ends(tokenizer: Any) -> frozenset[int]:
    """Ids that the model's makers end a generation with, as `rendering.load_tokenizer` read them."""
    return getattr(tokenizer, "curate_ends", frozenset())


def _asked(tokenizer: Any) -> tuple[list[dict[str, str]], str]:
    """Our conversation, and its rendering up to the response; with a system turn for a template that wants one."""
    user = [{"role": "user", "content": USER}]
    try:
        return user, render(tokenizer, user, "a user's turn", add_generation_prompt=True)
    except InputError as error:
        if "runs on" in error.what:
            raise
        asked = [{"role": "system", "content": "a"}, *user]
        try:
            return asked, render(tokenizer, asked, "a system and a user's turn", add_generation_prompt=True)
        except InputError:
            raise error from None


def _answered(asked: Messages) -> list[dict[str, str]]:
    return [*map(dict, asked), {"role": "assistant", "content": SAID}]


def _between(tokenizer: Any, answered: list[dict[str, str]]) -> str:
    """What stands between a response and the next user's words; "" where the template refuses a second turn."""
    try:
        longer = render(tokenizer, [*answered, {"role": "user", "content": NEXT}], "two turns")
    except InputError as error:
        if "runs on" in error.what:
            raise
        return ""
    first, last = longer.rfind(SAID), longer.rfind(NEXT)
    return longer[first + len(SAID) : last] if 0 <= first < last else ""


def _beginning(tokenizer: Any, opened: str, before: str) -> tuple[str, str]:
    """(dropped, added) of `Turn`, given the generation prompt and what stands before a response.

    The two are the same in most templates, or the second goes on with what the response begins with (a space, a
    channel's name), which is scored as the response's. Two kinds of thought are neither:
    - The generation prompt opens a thought that a response is written without (DeepSeek-R1 distillations). Then the
      response follows what both share: the state in which the model says by itself whether it thinks.
    - It opens a thought that is shut, empty, before a response, in tokens that span the two. Then the response follows
      the shut thought.
    Both are exact: the prompt's ids and the response's are what the template itself writes, and a generation of ours
    begins with the same prompt.
    """
    if before.startswith(opened):
        added = before[len(opened) :]
        if _THOUGHT.search(added) and not _ids_begin(tokenizer, opened, before):
            return "", added
        return "", ""
    if opened.startswith(before) and _THOUGHT.search(opened[len(before) :]):
        return opened[len(before) :], ""
    raise InputError(
        "the template renders the prompt differently once a response follows",
        file=tokenizer.name_or_path or None,
        expected="the generation prompt as an exact prefix of the assistant's turn, or a thought that it opens",
        remedy="mend the model's chat_template so that a response follows the very text of the generation prompt",
    )


def _ids_begin(tokenizer: Any, text: str, longer: str) -> bool:
    first, second = tokenizer([text, longer], add_special_tokens=False, verbose=False)["input_ids"]
    return bool(second[: len(first)] == first)


def _end(tokenizer: Any, tail: str, between: str) -> tuple[str, str]:
    """(end, scored) of `Turn`: the first special token of the tail that the model's makers end a generation with.

    Where they name none of them, the tokenizer's end of text if it follows a response in the midst of a conversation
    too, or the last special token that does (Phi-3's `<|end|>`, not the `<|endoftext|>` that only closes the whole);
    with no such token, what the tail ends with. Where the tail has no special token, the one that opens the user's turn
    after it (GLM-4 shows the model `<|user|>` there), else the tokenizer's end of text, which the template left out.
    """
    eos = tokenizer.eos_token or ""
    named = {
        token.content for number, token in tokenizer.added_tokens_decoder.items() if number in named_ends(tokenizer)
    }
    found, following = _specials(tokenizer, tail), _specials(tokenizer, between)
    shared = []
    for (token, end), (other, _) in zip(found, following, strict=False):
        if token != other:
            break
        shared.append((token, end))
    wanted = [
        *(one for one in found if one[0] in named),
        *(one for one in shared if one[0] == eos),
        *shared[-1:],
        *(one for one in found if one[0] == eos),
        *(one for one in found if tail.rstrip().endswith(one[0]) and one[1] == len(tail.rstrip())),
        *found,
    ]
    if wanted:
        return wanted[0][0], tail[: wanted[0][1]]
    never = {tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token} - {eos}
    for token, end in following:
        if token in named or (not named and token not in never):
            return token, between[:end]
    return "", tail + eos


def _specials(tokenizer: Any, text: str) -> list[tuple[str, int]]:
    """The special tokens in the text, in order, each with where it ends."""
    pattern = "|".join(map(re.escape, special_tokens(tokenizer)))
    return [(match[0], match.end()) for match in re.finditer(pattern, text)] if pattern else []


def _own_system(tokenizer: Any, opened: str, between: str) -> str:
    """What stands before the first user's words and not before the second's, special tokens left out."""
    if USER not in opened or not between:
        return ""
    front = opened[: opened.find(USER)]
    same = 0
    while same < min(len(front), len(between)) and front[-1 - same] == between[-1 - same]:
        same += 1
    own = front[: len(front) - same]
    for token in special_tokens(tokenizer):
        own = own.replace(token, " ")
    return " ".join(own.split()) if re.search(r"\w{3}", own) else ""
