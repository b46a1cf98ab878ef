"""A prompt and two replies, named by rank: what most formats are, each with its own names for the fields."""

from __future__ import annotations

from collections.abc import Sequence

from curate.pairs.schema import QueryType
from curate.pairs.sources.base import (
    Malformed,
    Message,
    NullPrompt,
    Parsed,
    Ratings,
    Record,
    Refused,
    assistant,
    field,
    kind,
    optional_boolean,
    optional_number,
    query_type_of,
    shared_start,
    text,
    user,
)
from curate.pairs.sources.turns import (
    LAST,
    MARKER,
    is_transcript,
    is_turn,
    message,
    messages,
    one_reply,
    prompt_of,
    transcript,
)

SIDES = ("chosen", "rejected")
SYSTEM = ("system", "system_prompt")
RATED = (
    ("chosen_reward", "rejected_reward"),
    ("score_chosen", "score_rejected"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
    ("chosen_score", "rejected_score"),
    ("chosen_avg_rating", "rejected_avg_rating"),
    ("reward_chosen", "reward_rejected"),
)
"""Names that data sets give to the two rewards; the first pair of them under which a record has one is read."""

COSTS = ("chosen_cost", "rejected_cost")
LABELS = ("chosen_safe", "rejected_safe", "query_type")
BESIDE = frozenset({*SYSTEM, *LABELS, *COSTS, "margin", *(name for names in RATED for name in names)})
"""Fields that every format of this kind reads where they are there."""

Side = str | list[Message]


def asked(record: Record, name: str) -> list[Message]:
    """The prompt: one text is a user's turn, or a transcript as HH-RLHF has them."""
    value = field(record, name, "text or list of messages")
    if value is None:
        raise NullPrompt(name)
    if isinstance(value, str):
        return prompt_of(value) or [user(value)]
    if not isinstance(value, list):
        raise Malformed(name, kind(value), "text or list of messages")
    return messages(value, name)


def answered(record: Record, prompt: list[Message], chosen: str = "chosen", rejected: str = "rejected") -> Parsed:
    """The pair of `prompt` with its two replies.

    Whole conversations, or transcripts, may repeat the prompt (UltraFeedback and its kin; mirrors of HH-RLHF).

    Labels, ratings and a system text beside them are taken over; without `query_type` it follows from the two
    labels (docs/columns.md).

    Raises:
        Refused: the record gives no pair.
    """
    one, other = reply(record, chosen), reply(record, rejected)
    if isinstance(one, str) and isinstance(other, str) and (is_transcript(one) or is_transcript(other)):
        shared, one, other = transcripts_parted(one, other, chosen, rejected)
        _check_within([turn | {"content": turn["content"].strip()} for turn in prompt], shared, chosen)
        return finished(record, shared, one, other, chosen, rejected)
    if isinstance(one, list) and isinstance(other, list) and len(one) > 1:
        shared, one, other = parted(one, other)
        _check_within(prompt, shared, chosen)
        return finished(record, shared, one, other, chosen, rejected)
    return finished(record, prompt, _turns(one), _turns(other), chosen, rejected)


def finished(
    record: Record,
    prompt: list[Message],
    chosen: list[Message],
    rejected: list[Message],
    *names: str,
    marks: tuple = (),
) -> Parsed:
    """The pair, with what the record says beside it."""
    safe = optional_boolean(record, "chosen_safe"), optional_boolean(record, "rejected_safe")
    rated, under_other_names = ratings(record)
    return Parsed(
        with_system(record, prompt),
        one_reply(chosen, names[0]),
        one_reply(rejected, names[1]),
        _query_type(record, *safe),
        *safe,
        (*marks, "rated_under_other_names") if under_other_names else marks,
        ratings=rated,
    )


def reply(record: Record, name: str) -> Side:
    """One side: a text, a turn, or turns."""
    value = field(record, name, "text or list of messages")
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return messages(value, name)
    if is_turn(value):
        return [message(value, name)]
    raise Malformed(name, kind(value), "text or list of messages")


def parted(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Two conversations that differ in their last turn: what they share, and the two last turns."""
    if chosen == rejected:
        raise Refused("identical_responses", "chosen and rejected are the same")
    n = shared_start(chosen, rejected)
    if max(len(chosen), len(rejected)) - n > 1:
        raise Refused("diverging_transcript", "the conversations part before their last turn")
    return chosen[:n], chosen[n:], rejected[n:]


def transcripts_parted(chosen: str, rejected: str, *names: str) -> tuple[list[Message], list[Message], list[Message]]:
    """HH-RLHF's transcripts: the prompt is everything up to the last shared "\\n\\nAssistant:"; then the responses.

    A response that holds a further turn means that the transcripts part before their last turn: the two
    replies then answer different things, and the row is refused as `diverging_transcript`. Every turn is
    stripped of the white space around it, which belongs to the transcript's layout.
    """
    one, other = _transcript(chosen, names[0]), _transcript(rejected, names[1])
    cut = one.rfind(LAST, 0, shared_start(one, other))
    if cut < 0:
        raise Refused("diverging_transcript", "the transcripts share no turn of the assistant")
    replies = [whole[cut + len(LAST) :] for whole in (one, other)]
    if any(MARKER.search(said) for said in replies):
        raise Refused("diverging_transcript", "the transcripts part before their last turn")
    preferred, worse = ([assistant(said.strip())] for said in replies)
    return transcript(one[:cut]), preferred, worse


def _transcript(text: str, name: str) -> str:
    said = "\n\n" + text.lstrip()
    if not MARKER.match(said):
        raise Malformed(name, "text without a turn at its start", 'a transcript that starts with "Human:"')
    return said


def with_system(record: Record, prompt: list[Message]) -> list[Message]:
    """The prompt, before it the system text that stands in a field of its own."""
    told = None
    for name in SYSTEM:
        given = record.get(name)
        if given is None or given == "":
            continue
        said = text(record, name)
        if not said.strip():
            continue
        if told is not None and told != said:
            raise Malformed(name, "another text than the row's other one", "the same text, or none")
        told = said
        if not prompt or prompt[0]["role"] != "system":
            prompt = [{"role": "system", "content": said}, *prompt]
        if prompt[0]["content"] != said:
            raise Malformed(name, "another text than the system turn of the prompt", "the same text, or none")
    return prompt


def ratings(record: Record, rated: Sequence[tuple[str, str]] = RATED) -> tuple[Ratings, bool]:
    """What the record says of its two responses' quality, under any of the names known; and whether the rewards stand
    under others than the first that it has: readers of tables give every row the fields of all.
    """
    there = [names for names in rated if names[0] in record or names[1] in record] or rated[:1]
    says = (names for names in there if any(record.get(name) not in (None, "") for name in names))
    taken = next(says, there[0])
    numbers = (optional_number(record, name) for name in (*taken, *COSTS, "margin"))
    return Ratings(*numbers), taken != there[0]


def _turns(side: Side) -> list[Message]:
    return [assistant(side)] if isinstance(side, str) else side


def _check_within(prompt: list[Message], shared: list[Message], chosen: str) -> None:
    n = len(prompt)
    if not any(shared[at : at + n] == prompt for at in range(len(shared) - n + 1)):
        raise Malformed("prompt", f"not what {chosen} starts with", "the turns that chosen and rejected share")


def _query_type(record: Record, chosen_safe: bool | None, rejected_safe: bool | None) -> QueryType:
    value = record.get("query_type")
    if value in (None, ""):
        return query_type_of(chosen_safe, rejected_safe)
    if value not in list(QueryType):
        raise Malformed("query_type", "another word", f"one of {', '.join(QueryType)}")
    return QueryType(value)
