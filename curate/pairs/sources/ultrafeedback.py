"""UltraFeedback: binarized (conversations with a score each), and as it was rated (four completions a row).

By its card the binarized set's chosen completion has the highest overall_score, and the rejected one is drawn from the
other three: the two scores may be the same, which `prepare` counts (`rated_alike`).
"""

from __future__ import annotations

from curate.pairs.sources import trl
from curate.pairs.sources.base import Malformed, Record, Refused, field, kind, optional_number, prompt_text, text, user
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.pairing import Replies, Reply
from curate.pairs.sources.replies import BESIDE
from curate.pairs.sources.told import opened


def parse_completions(record: Record) -> Replies:
    """Ranked by `overall_score`, which is the reward."""
    given = field(record, "completions", "list of completions")
    if not isinstance(given, list):
        raise Malformed("completions", kind(given), "list of completions")
    replies = []
    for i, completion in enumerate(given):
        if not isinstance(completion, dict):
            raise Malformed(f"completions[{i}]", kind(completion), "object with response and overall_score")
        score = optional_number(completion, "overall_score")
        if score is not None:
            replies.append(Reply(text(completion, "response"), score, reward=score))
    if len(replies) < 2:
        raise Refused("no_preference", "fewer than two completions have an overall_score")
    return Replies([user(prompt_text(record, "instruction"))], replies, len(given) - len(replies))


BINARIZED = Format(
    "ultrafeedback",
    "UltraFeedback binarized: prompt, chosen, rejected (conversations), score_chosen, score_rejected",
    fields("prompt chosen rejected score_chosen score_rejected"),
    trl.parse,
    reads=BESIDE,
    card="https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized",
)
COMPLETIONS = Format(
    "ultrafeedback_completions",
    "UltraFeedback as rated: instruction, completions: [{response, overall_score}]",
    fields("instruction completions"),
    parse_completions,
    lists=frozenset({"completions"}),
    looks=lambda record: isinstance(opened(record["completions"]), list),
    card="https://huggingface.co/datasets/openbmb/UltraFeedback",
)
