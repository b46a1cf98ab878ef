"""Suites without an answer to read: the model is asked which of several answers it finds likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from curate.evaluation.items import Messages
from curate.evaluation.suites.base import Bench
from curate.models.rendering import load_tokenizer, render_responses


class Likelihood(NamedTuple):
    logps: np.ndarray  # log p(choice | prompt), nats, summed: [choices]
    tokens: np.ndarray  # of each choice, its end of turn included: [choices]


def likelihoods(bench: Bench, prompts: Sequence[Messages], choices: Sequence[Sequence[str]]) -> list[Likelihood]:
    """How likely the model finds each choice as its own answer to the prompt, in its chat template.

    Raises:
        InputError: a prompt or a choice cannot be rendered, or is longer than the model's context.
    """
    tokenizer = load_tokenizer(bench.model)
    counts = [len(some) for some in choices]
    repeated = [prompt for prompt, count in zip(prompts, counts, strict=True) for _ in range(count)]
    names = [f"item {i}, choice {j}" for i, count in enumerate(counts) for j in range(count)]
    sequences = render_responses(tokenizer, repeated, [text for some in choices for text in some], names)
    logps = bench.logps(sequences)
    tokens = np.array([len(sequence.response_ids) for sequence in sequences])
    ends = np.cumsum(counts)[:-1]
    return [Likelihood(*parts) for parts in zip(np.split(logps, ends), np.split(tokens, ends), strict=True)]
