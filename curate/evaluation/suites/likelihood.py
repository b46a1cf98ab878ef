"""Suites without an answer to read: the model is asked which of several answers it finds likeliest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from curate.evaluation.items import NO_ROOM, Item, Judgement, Messages, Response
from curate.evaluation.suites.base import Bench, results
from curate.models.rendering import load_tokenizer, render_responses


class Likelihood(NamedTuple):
    logps: np.ndarray  # log p(choice | prompt), nats, summed: [choices]
    tokens: np.ndarray  # of each choice, its end of turn included: [choices]


def likeliest(
    items: Sequence[Item],
    found: Sequence[Likelihood | None],
    answer: Callable[[Item, Likelihood], str],
    wanted: Callable[[Item], str],
) -> pl.DataFrame:
    """RESULTS: the answer that the model finds likeliest, and whether it is the wanted one; of no likelihood, why."""
    said = [None if one is None else answer(item, one) for item, one in zip(items, found, strict=True)]
    return results(
        items,
        [Response(text, "too_long" if text is None else "likeliest") for text in said],
        [Judgement(why=NO_ROOM if text is None else None) for text in said],
        [None if text is None else float(text == wanted(item)) for item, text in zip(items, said, strict=True)],
    )


def likelihoods(bench: Bench, prompts: Sequence[Messages], choices: Sequence[Sequence[str]]) -> list[Likelihood | None]:
    """How likely the model finds each choice as its own answer to the prompt, in its chat template; None of a prompt
    that leaves one of its choices no room in the model's context.

    Raises:
        InputError: a prompt or a choice cannot be rendered.
    """
    tokenizer = load_tokenizer(bench.model)
    counts = [len(some) for some in choices]
    repeated = [prompt for prompt, count in zip(prompts, counts, strict=True) for _ in range(count)]
    names = [f"item {i}, choice {j}" for i, count in enumerate(counts) for j in range(count)]
    sequences = render_responses(tokenizer, repeated, [text for some in choices for text in some], names)
    ends = np.cumsum(counts)
    asked = [sequences[end - count : end] for end, count in zip(ends, counts, strict=True)]
    room = bench.model.context - 1  # as in scoring: vLLM generates a token, which it throws away
    fits = [all(len(one.prompt_ids) + len(one.response_ids) <= room for one in some) for some in asked]
    logps = iter(bench.logps([one for some, fit in zip(asked, fits, strict=True) if fit for one in some]))
    return [
        Likelihood(np.array([next(logps) for _ in some]), np.array([len(one.response_ids) for one in some]))
        if fit
        else None
        for some, fit in zip(asked, fits, strict=True)
    ]
