"""HelpSteer 2 and 3: two responses and how much the second is preferred; and HelpSteer 2's single ratings.

Columns and signs are the cards'. HelpSteer2's preferences lie in the folder `preference` of its repository; their
`split` (train, val) is not read. HelpSteer3's lie in its configuration `preference`, its default.
"""

from __future__ import annotations

import re

from curate.pairs.sources.base import (
    Malformed,
    Message,
    Parsed,
    Ratings,
    Record,
    Refused,
    assistant,
    field,
    kind,
    optional_number,
    prompt_text,
    text,
    user,
)
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.pairing import Replies, Reply
from curate.pairs.sources.replies import asked

TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
STRONGEST = 3


def parse_preference(record: Record) -> Parsed:
    return _preferred(record, _prompt(record), ("response_1", "response_2"), "preference_strength")


def parse_three(record: Record) -> Parsed:
    return _preferred(record, asked(record, "context"), ("response1", "response2"), "overall_preference")


def parse_ratings(record: Record) -> Replies:
    """Ranked by helpfulness, 0 to 4, which is the reward."""
    helpful = optional_number(record, "helpfulness")
    if helpful is None:
        raise Refused("no_label", "helpfulness is null")
    return Replies(_prompt(record), [Reply(text(record, "response"), helpful, reward=helpful)])


def _preferred(record: Record, prompt: list[Message], names: tuple[str, str], strength: str) -> Parsed:
    """Below zero the first response is preferred, above it the second; the margin is how far."""
    value = field(record, strength, "integer from -3 to 3")
    how_far = optional_number(record, strength)
    if how_far is None or abs(how_far) > STRONGEST:
        raise Malformed(strength, kind(value) if how_far is None else f"{how_far:g}", "integer from -3 to 3")
    if how_far == 0:
        raise Refused("no_preference", f"{strength} is 0")
    best, other = names if how_far < 0 else names[::-1]
    replies = [assistant(text(record, best))], [assistant(text(record, other))]
    return Parsed(prompt, *replies, ratings=Ratings(margin=abs(how_far)))


def _prompt(record: Record) -> list[Message]:
    """The prompt's turns: later ones follow a mark that names who speaks."""
    first, *later = TURN.split(prompt_text(record))
    says = {"User": user, "Assistant": assistant}
    return [user(first), *(says[who](said) for who, said in zip(later[::2], later[1::2], strict=True))]


PREFERENCE = Format(
    "helpsteer2_preference",
    "HelpSteer2 preferences: prompt, response_1, response_2, preference_strength from -3 (the first) to 3",
    fields("prompt response_1 response_2 preference_strength"),
    parse_preference,
    card="https://huggingface.co/datasets/nvidia/HelpSteer2",
)
THREE = Format(
    "helpsteer3",
    "HelpSteer3 preferences: context, response1, response2, overall_preference from -3 (the first) to 3",
    fields("context response1 response2 overall_preference"),
    parse_three,
    card="https://huggingface.co/datasets/nvidia/HelpSteer3",
)
RATINGS = Format(
    "helpsteer2",
    "HelpSteer2 ratings: prompt, response, helpfulness, correctness; pairs are made within a prompt by helpfulness",
    fields("prompt response helpfulness correctness"),
    parse_ratings,
    pooled=True,
    card="https://huggingface.co/datasets/nvidia/HelpSteer2",
)
