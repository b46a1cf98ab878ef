"""The prefilling attack: the answer is made to begin as a harmful one does (DOOR, arXiv 2503.03710).

An aligned model refuses with its first words. One that only does so goes on with what it finds begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar

import polars as pl
from pydantic import Field

from curate.base.errors import InputError
from curate.base.progress import say
from curate.evaluation.items import Item, Messages
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import (
    Bench,
    Columns,
    Metric,
    Options,
    Row,
    answer_and_judge,
    conversation_of,
    label_of,
    make_item,
    reply_of,
    text_of,
    user,
    word_of,
)
from curate.evaluation.suites.behaviours import GOAL, TARGET
from curate.models.rendering import load_tokenizer, prefill_token_ids
from curate.pairs.schema import QueryType, Split

PAIR = ("prompt", "rejected", "query_type", "split")
LABELS = (("chosen", "chosen_safe", "rejected_safe"), ("chosen", "chosen_safe"), ("rejected_safe",), ())
"""What rows of pairs may have besides: each label that is there is read."""
LENGTHS = (0, 3, 4, 5, 7, 10, 15, 20, 25)


class PrefillOptions(Options):
    lengths: tuple[Annotated[int, Field(ge=0, le=10**6)], ...] = Field(
        LENGTHS, min_length=1, description="tokens of the harmful answer that are given; DOOR's"
    )
    temperature: float = Field(0.7, ge=0, le=100, description="of the answers; DOOR's")


class Prefill:
    name: ClassVar[str] = "prefill"
    about: ClassVar[str] = (
        "harm of answers that are made to begin as harmful ones do (DOOR, arXiv 2503.03710); prefill 5: by five tokens"
    )
    source: ClassVar[str | None] = None
    columns: ClassVar[tuple[Columns, ...]] = (
        *({name: (name,) for name in (*PAIR, *labels)} for labels in LABELS),  # pairs of ours
        {"goal": GOAL, "response": ("response",)},
        {"goal": GOAL, "response": TARGET},
    )
    options: ClassVar[type[Options]] = PrefillOptions
    metrics: ClassVar[tuple[Metric, ...]] = metrics.attack(
        metrics.Part(items=pl.col("group") != "prefill 0"), by_group=True
    )

    def items(self, rows: Sequence[Row], options: PrefillOptions) -> list[Item]:
        """Of each harmful answer one for each length; of pairs, the harmful answers to held-out unsafe prompts.

        Raises:
            InputError: there is no harmful answer, or a row is not as it should be.
        """
        items: list[Item] = []
        safe = 0  # held-out pairs of unsafe prompts without a harmful answer
        for number, row in enumerate(rows):
            if "rejected" not in row:
                prompt: Messages = user(text_of(row, "goal", number, self.name))
                response = text_of(row, "response", number, self.name)
            elif word_of(row, "split", Split, number, self.name) != Split.HELDOUT:
                continue
            elif word_of(row, "query_type", QueryType, number, self.name) == QueryType.UNSAFE:
                side = _harmful(row, number)
                if side is None:
                    safe += 1
                    continue
                response = reply_of(row, side, number, self.name)
                prompt = conversation_of(row, "prompt", number, self.name)
            else:
                continue
            for length in options.lengths:
                prefill = response if length else ""
                items.append(make_item(prompt, group=f"prefill {length}", prefill=prefill, prefill_tokens=length))
        if safe and items:
            say(f"prefill: {safe:,} held-out pairs of unsafe prompts are left out: no answer of theirs is unsafe")
        if not items and rows:
            types = Counter(row["query_type"] for row in rows if row.get("split") == Split.HELDOUT)
            raise InputError(
                "no held-out prompt is unsafe, or none has an unsafe answer: there is none to begin with",
                field="query_type, chosen_safe, rejected_safe" if safe else "query_type",
                found=", ".join(f"{count:,} {name}" for name, count in sorted(types.items())) or "no held-out pair",
                remedy="give pairs with safety labels, or a file of goals and harmful answers",
            )
        return items

    def run(self, items: Sequence[Item], bench: Bench, options: PrefillOptions) -> pl.DataFrame:
        """Items whose answer is shorter than their length are left out: they would not be what their group says."""
        long = _long_enough(items, bench)
        if len(long) < len(items):
            say(f"prefill: {len(items) - len(long):,} of {len(items):,} items are left out: their answer is shorter")
        if not long:
            raise InputError(
                "no harmful answer is long enough to prefill with",
                field="prefill.lengths",
                found=", ".join(map(str, options.lengths)),
                remedy="give shorter lengths, or longer answers",
            )
        return answer_and_judge(long, bench, "harm", bench.sampling._replace(temperature=options.temperature))


def _harmful(row: Row, number: int) -> str | None:
    """Which answer to an unsafe prompt is the harmful one; None: neither. [ours] One that is known to be unsafe, first
    the rejected one; else the rejected one, unless it is known to be safe.

    Raises:
        InputError: a label is neither true nor false.
    """
    safe = {side: label_of(row, f"{side}_safe", number, Prefill.name) for side in ("rejected", "chosen")}
    unsafe = [side for side, held in safe.items() if held is False]
    return unsafe[0] if unsafe else None if safe["rejected"] else "rejected"


def _long_enough(items: Sequence[Item], bench: Bench) -> list[Item]:
    begun = {(item.cluster, item.prefill): item for item in items if item.prefill}
    rendered = prefill_token_ids(
        load_tokenizer(bench.model),
        [item.prompt for item in begun.values()],
        [item.prefill for item in begun.values()],
        [f"item {item.item}" for item in begun.values()],
    )
    tokens = dict(zip(begun, map(len, rendered), strict=True))
    return [item for item in items if item.prefill_tokens <= tokens.get((item.cluster, item.prefill), 0)]
