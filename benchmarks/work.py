"""The pairs that every contender is given, as text and as token ids."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from curate.models import rendering
from curate.pairs.identity import draw_order

NUMBERS = ("ref_chosen_logps", "ref_rejected_logps", "null_chosen_logps", "null_rejected_logps")
"""What is asked for, four a pair, in this order."""


class Sequence(NamedTuple):
    """log p(response | prompt) is wanted."""

    prompt: list[int]  # token ids
    response: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.response)


class Work(NamedTuple):
    pairs: pl.DataFrame  # schema.PAIRS
    ids: pl.DataFrame  # rendering.RENDERED of the same pairs, in the same order
    null: list[int]  # token ids of the null prompt

    def sequences(self) -> list[Sequence]:
        """4 x pairs, in the order of `NUMBERS` within a pair."""
        return [
            Sequence(prompt, response)
            for own, chosen, rejected in self.ids.select("prompt_ids", "chosen_ids", "rejected_ids").iter_rows()
            for prompt in (own, self.null)
            for response in (chosen, rejected)
        ]

    def head(self, pairs: int) -> Work:
        return Work(self.pairs.head(pairs), self.ids.head(pairs), self.null)


def draw(pairs: pl.DataFrame, count: int, seed: int, *, fill: bool = False) -> pl.DataFrame:
    """All pairs of prompts in a seeded order, until there are `count`: repeats are as frequent as in the source.

    Args:
        fill: where the source has fewer, go on with copies whose texts are told apart by a number at their end.
    """
    prompts = pairs.select("prompt_key").unique(maintain_order=True)
    order = prompts.with_columns(order=pl.Series(draw_order(prompts["prompt_key"], seed), dtype=pl.Binary))
    drawn = pairs.join(order, on="prompt_key").sort("order", "source_row").drop("order")
    copies = -(-count // drawn.height) if fill else 1
    return pl.concat([drawn, *(_copy(drawn, number) for number in range(1, copies))]).head(count)


def _copy(pairs: pl.DataFrame, number: int) -> pl.DataFrame:
    role, content = (pl.element().struct.field(name) for name in ("role", "content"))
    numbered = pl.struct(role, (content + f" ({number})").alias("content"))
    return pairs.with_columns(
        pl.format("{}-{}", "pair_id", pl.lit(number)).alias("pair_id"),
        pl.col("prompt", "chosen", "rejected").list.eval(numbered),
    )


def render(tokenizer: Any, pairs: pl.DataFrame, context: int) -> Work:
    """Token ids; pairs that do not fit `context` - 1 tokens (vLLM generates one) are left out."""
    null = rendering.null_prompt_ids(tokenizer, "empty_user")
    ids = rendering.render_pairs(tokenizer, pairs)
    length = pl.max_horizontal(pl.col("prompt_ids").list.len(), len(null)) + pl.max_horizontal(
        pl.col("chosen_ids", "rejected_ids").list.len()
    )
    ids = ids.filter(length < context)
    return Work(pairs.join(ids.select("pair_id"), on="pair_id", how="semi", maintain_order="left"), ids, null)
