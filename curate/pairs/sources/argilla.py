"""Argilla's preference sets: UltraFeedback cleaned, the DPO mix, Orca pairs rated anew, and distilabel's own output."""

from __future__ import annotations

from curate.pairs.sources import trl
from curate.pairs.sources.base import (
    Malformed,
    Parsed,
    Record,
    Refused,
    kind,
    listed,
    number,
    optional_number,
    prompt_text,
    text,
    user,
)
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.pairing import Replies, Reply
from curate.pairs.sources.replies import BESIDE, SYSTEM, answered, asked, with_system
from curate.pairs.sources.told import opened


def parse_averages(record: Record) -> Parsed:
    return answered(record, asked(record, "instruction"), "chosen_response", "rejected_response")


def parse_orca(record: Record) -> Parsed:
    """`status` is `tie` where the two were rated alike; `rating` has both ratings, `chosen_score` the better one."""
    if record.get("status") == "tie":
        raise Refused("no_preference", "status is tie")
    pair = answered(record, asked(record, "input"))
    given = _two(record.get("rating"))
    if None not in given:
        worse, better = sorted(number(one, "rating") for one in given)
        pair = pair._replace(ratings=pair.ratings._replace(chosen_reward=better, rejected_reward=worse))
    return pair


def _two(rating: object) -> list[object]:
    """Orca's two ratings, either or both of them None; also their list as text, because CSV has no types."""
    if rating in (None, ""):
        return [None, None]
    given = opened(rating)
    if not isinstance(given, list) or len(given) != 2:
        raise Malformed("rating", f"a list of {len(given)}" if isinstance(given, list) else kind(given), "two numbers")
    return given


def parse_generations(record: Record) -> Replies:
    """distilabel's ratings of its generations: as many numbers as texts, a null where the rating failed."""
    texts, given = listed(record, "generations"), listed(record, "ratings")
    if len(texts) != len(given):
        raise Malformed("ratings", f"a list of {len(given)}", f"as many as generations, {len(texts)}")
    replies = []
    for said, rating in zip(texts, given, strict=True):
        held = optional_number({"ratings": rating}, "ratings")
        if said is not None and held is not None:
            replies.append(Reply(text({"generations": said}, "generations"), held, reward=held))
    if len(replies) < 2:
        raise Refused("no_preference", "fewer than two generations have a rating")
    prompt = with_system(record, [user(prompt_text(record, "instruction"))])
    return Replies(prompt, replies, len(texts) - len(replies))


CLEANED = Format(
    "argilla_ultrafeedback",
    "Argilla's UltraFeedback, cleaned: prompt, chosen, rejected (conversations), chosen-rating, rejected-rating",
    fields("prompt chosen rejected chosen-rating rejected-rating"),
    trl.parse,
    reads=BESIDE,
    card="https://huggingface.co/datasets/argilla/ultrafeedback-binarized-preferences-cleaned",
)
AVERAGES = Format(
    "argilla_averages",
    "Argilla's UltraFeedback by average: instruction, chosen_response, rejected_response, chosen_avg_rating",
    fields("instruction chosen_response rejected_response"),
    parse_averages,
    reads=BESIDE,
    card="https://huggingface.co/datasets/argilla/ultrafeedback-binarized-preferences",
)
MIX = Format(
    "argilla_mix",
    "Argilla's DPO mix: chosen, rejected (conversations), chosen_rating, rejected_rating",
    fields("chosen rejected chosen_rating rejected_rating"),
    trl.parse,
    reads=BESIDE,
    looks=lambda record: "prompt" not in record and trl.in_turns(record),
    card="https://huggingface.co/datasets/argilla/dpo-mix-7k",
)
ORCA = Format(
    "argilla_orca",
    "Argilla's Orca pairs: input, chosen, rejected; optional system, rating, status (a tie is refused)",
    fields("input chosen rejected"),
    parse_orca,
    reads=BESIDE | {"rating", "status"},
    looks=lambda record: "instruction" not in record,
    card="https://huggingface.co/datasets/argilla/distilabel-intel-orca-dpo-pairs",
)
GENERATIONS = Format(
    "distilabel",
    "distilabel: instruction, generations: [texts], ratings: [numbers]; optional system_prompt",
    fields("instruction generations ratings"),
    parse_generations,
    reads=frozenset(SYSTEM),
    lists=frozenset({"generations", "ratings"}),
    card="https://distilabel.argilla.io",
)
