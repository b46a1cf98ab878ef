"""Weighted pairs as TRL's trainer sees them: rows that make sense, the tokens that were scored, weights in a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import torch
from datasets import Dataset

from curate.base.errors import InputError, UsageError
from curate.models.rendering import render_pairs
from curate.pairs.schema import MESSAGES, WEIGHTS

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # nats, summed over the response; TRL's names
TEXTS = ("prompt", "chosen", "rejected")
BARRED = ("image", "images")
BARRED_AS_SCORED = ("tools", "chat_template_kwargs")  # TRL gives them to the template, curate did not


class WithWeights:
    """A collator, and the `WEIGHTS` of each pair: float32 [pairs]."""

    def __init__(self, collator: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        weights = {name: torch.tensor([example[name] for example in examples], dtype=torch.float32) for name in WEIGHTS}
        return {**self.collator(examples), **weights}


def check(dataset: Any, name: str, *, as_scored: bool = False) -> bool:
    """Whether the dataset has stored reference log-probs.

    Args:
        name: of the dataset, for the messages.
        as_scored: it is to be tokenised by `render`, whether or not it has them.

    Raises:
        UsageError: a dataset that is read as a stream.
        InputError: no pairs, a column too few or too many, or a number that cannot be.
    """
    if not isinstance(dataset, Dataset):
        raise UsageError(
            f"the {name} dataset cannot be checked before training",
            found=type(dataset).__name__,
            expected="a datasets.Dataset",
            remedy="read the file whole: Dataset.from_parquet(...)",
        )
    have = dataset.column_names
    stored = any(column in have for column in REFERENCE)
    as_scored = as_scored or stored
    needed = (*WEIGHTS, *(REFERENCE if stored else ()), *(TEXTS if as_scored else ()))
    if missing := [column for column in needed if column not in have]:
        raise InputError(
            f"the {name} dataset is not one of weighted pairs",
            field=", ".join(missing),
            found=f"columns {', '.join(have)}",
            remedy="give it the output of `curate weigh`",
        )
    barred = (*BARRED, *(BARRED_AS_SCORED if as_scored else ()))
    if extra := [column for column in barred if column in have]:
        raise InputError(
            f"the {name} dataset has a column that would change the tokens",
            field=", ".join(extra),
            expected="text alone, by the template's options that scoring used",
            remedy="drop the column" if as_scored else "use TRL's own DPOTrainer",
        )
    if not len(dataset):
        raise InputError(f"the {name} dataset has no pairs", remedy="check how its rows were filtered")
    numbers = dataset.select_columns([column for column in (*WEIGHTS, *REFERENCE) if column in have]).to_polars()
    for column in numbers.columns:
        value = numbers[column].cast(pl.Float64, strict=False)
        weight = column in WEIGHTS
        bad = ~value.is_finite() | (value < 0 if weight else value > 0)
        if (rows := bad.fill_null(True).arg_true()).len():
            raise InputError(
                f"the {name} dataset has a {'weight' if weight else 'log-probability'} that cannot be",
                row=int(rows[0]),
                field=column,
                found=f"{numbers[column][int(rows[0])]}",
                expected="a finite number, at least 0" if weight else "a finite number, at most 0",
                remedy="write the file again with `curate weigh`",
            )
    return stored


def render(
    batch: Mapping[str, Any], rows: Sequence[int], tokenizer: Any, max_length: int | None, name: str
) -> dict[str, Any]:
    """TRL's columns of token ids, by `curate.models.rendering`; for `Dataset.map`.

    Raises:
        InputError: texts that are no conversations, other numbers of tokens than were scored (where the dataset has
            `prompt_tokens`, `chosen_tokens`, `rejected_tokens`), a pair longer than `max_length`.
    """
    ids = batch["pair_id"] if "pair_id" in batch else [f"in row {row}" for row in rows]
    try:
        texts = {column: pl.Series(batch[column], dtype=MESSAGES) for column in TEXTS}
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"the {name} dataset is not one of conversations",
            field=", ".join(TEXTS),
            expected="lists of {role, content}, as `curate weigh` writes them",
        ) from error
    rendered = render_pairs(tokenizer, pl.DataFrame({"pair_id": pl.Series(ids, dtype=pl.String), **texts}))
    lengths = {side: rendered[f"{side}_ids"].list.len().cast(pl.Int64) for side in TEXTS}
    for side, length in lengths.items():
        scored = pl.Series(batch.get(f"{side}_tokens", length), dtype=pl.Int64, strict=False)
        if (differ := (length != scored).arg_true()).len():
            raise InputError(
                f"the {name} dataset's stored reference log-probs are of other tokens",
                row=rows[differ[0]],
                field=f"{side}_tokens",
                found=f"{length[differ[0]]} tokens by this tokenizer and template",
                expected=f"{scored[differ[0]]}, as when it was scored",
                remedy="use the tokenizer and the chat template of the model that scored the pairs",
            )
    whole = pl.DataFrame(lengths).select(pl.col("prompt") + pl.max_horizontal("chosen", "rejected")).to_series()
    if max_length is not None and (cut := (whole > max_length).arg_true()).len():
        raise InputError(
            "TRL would cut this pair, and stored reference log-probs are of whole ones",
            row=rows[cut[0]],
            field=f"{name} dataset",
            found=f"{whole[cut[0]]} tokens",
            expected=f"at most DPOConfig.max_length = {max_length}",
            remedy="max_length=None, or leave such pairs out",
        )
    return {column: rendered[column].to_list() for column in ("prompt_ids", "chosen_ids", "rejected_ids")}
