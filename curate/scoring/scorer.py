"""One chunk of pairs: requests minus what the store holds, scored, then put back to the pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.base.device import device_type
from curate.base.errors import InputError
from curate.base.progress import Advance
from curate.models import rendering
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model, parameters
from curate.pairs.schema import GAPS, REJECTS, SCORES, columns
from curate.project.params import ScoreParams
from curate.scoring.engine import Engine
from curate.scoring.engines import open_engine
from curate.scoring.engines.longrope import goes_by_context
from curate.scoring.information import with_information
from curate.scoring.null_prompts import NullPrompts, Rendered
from curate.scoring.packing.packs import group_by_prompt
from curate.scoring.store import Store

BATCH_TOKENS = {"cpu": 65_536, "cuda": 1_048_576, "server": 262_144}
"""Tokens computed between two writes of the store, at most, by device, and for each server."""

BATCH_WORK = {"cpu": 1e12, "cuda": 4e14, "server": 4e14}
"""Tokens times the model's parameters between two writes: a few seconds on two cores, or on one large GPU. This much
is lost at an interruption, and as often the progress moves."""

FEWEST_TOKENS = {"cpu": 2_048, "cuda": 32_768, "server": 65_536}
"""However large the model: less would leave workers, or a server's queue, without work at the end of each batch."""

SIDES = ("chosen", "rejected")
NONE = -1  # in place of a sequence's number, where a pair has fewer contexts than others


class Counts(NamedTuple):
    """What was done."""

    wanted: int = 0  # log-probs that pairs asked for
    distinct: int = 0  # of those, after putting equal ones together within each chunk
    computed: int = 0  # of those, what the store did not hold
    computed_tokens: int = 0  # of the sequences computed, prompts counted each time

    def plus(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(self, other, strict=True)))


class Scored(NamedTuple):
    """A chunk."""

    scores: pl.DataFrame  # the pairs' columns and schema.SCORES, one row a pair kept, in the pairs' order
    rejects: pl.DataFrame  # schema.REJECTS
    counts: Counts


class Requests(NamedTuple):
    """The distinct sequences of a chunk, and which of them each pair asks for."""

    sequences: list[TokenSequence]
    keys: list[bytes]  # of the store, [sequences]
    reference: np.ndarray  # int64, [pairs, 2]: log p(y|x) of chosen and rejected, as a number of `sequences`
    null: np.ndarray  # int64, [pairs, 2, contexts]: log p(y|null); several contexts when contrastive, NONE beyond


class Scorer:
    """Scores chunks of pairs with one model. The engine is opened when the first number is missing.

    Args:
        model: its `context` is the longest sequence allowed, plus the one token that vLLM generates.
        params: with the engine resolved.
        engine: its `version`.
        root: folder of the score store.
        limit: longest sequence, tokens.
    """

    def __init__(
        self, model: Model, params: ScoreParams, engine: str, root: Path, nulls: NullPrompts, limit: int
    ) -> None:
        self.model = model._replace(context=limit + 1)
        self.params, self.nulls, self.limit = params, nulls, limit
        self.store = store_of(root, self.model, params.dtype, params.engine, engine)
        servers = len(params.server_urls) if params.engine == "server" else 0
        self.batch_tokens = batch_tokens(parameters(model), "server" if servers else device_type(), servers or 1)
        self._engine: Engine | None = None

    def score(self, pairs: pl.DataFrame, rendered: Rendered, advance: Advance) -> Scored:
        """Score a chunk; `advance` is called with the tokens of the log-probs asked for as they are there.

        Raises:
            InputError: a score is no finite number; the engine cannot be opened.
            OutputError: the store cannot be written.
        """
        lengths = sequence_lengths(rendered, self.nulls, pairs)
        fits = lengths <= self.limit
        reasons = [f"{length} tokens, the limit is {self.limit}" for length in lengths[~fits]]
        rejects = set_aside(pairs.filter(~fits), "too_long", reasons)
        kept = pairs.filter(fits)
        rendered = Rendered(*([ids for ids, keep in zip(part, fits, strict=True) if keep] for part in rendered))
        requests = self._requests(kept, rendered)
        logps, counts = self._fill(kept, requests, advance)
        null = np.where(requests.null == NONE, -np.inf, logps[requests.null])
        return Scored(_assemble(kept, rendered, logps[requests.reference], null), rejects, counts)

    def close(self) -> None:
        """Close the engine, if one was opened."""
        if self._engine is not None:
            self._engine.close()

    def _requests(self, pairs: pl.DataFrame, rendered: Rendered) -> Requests:
        numbers: dict[bytes, int] = {}
        sequences: list[TokenSequence] = []
        contexts = self.nulls.of(pairs, rendered)
        shape = (pairs.height, len(SIDES))
        reference = np.empty(shape, dtype=np.int64)
        null = np.full((*shape, self.nulls.contexts), NONE, dtype=np.int64)

        def number(prompt: np.ndarray, response: np.ndarray) -> int:
            sequence = TokenSequence(prompt, response)
            key = self.store.key(sequence)
            if key not in numbers:
                numbers[key] = len(sequences)
                sequences.append(sequence)
            return numbers[key]

        for row, (prompt, nulls) in enumerate(zip(rendered.prompts, contexts, strict=True)):
            for side, responses in enumerate((rendered.chosen, rendered.rejected)):
                reference[row, side] = number(prompt, responses[row])
                null[row, side, : len(nulls)] = [number(context, responses[row]) for context in nulls]
        return Requests(sequences, list(numbers), reference, null)

    def _fill(self, pairs: pl.DataFrame, requests: Requests, advance: Advance) -> tuple[np.ndarray, Counts]:
        """log p of every sequence, nats, float64 [sequences]: from the store, and what it lacks from the engine."""
        logps: np.ndarray = self.store.lookup(requests.keys)
        numbers = np.concatenate([requests.reference.ravel(), requests.null.ravel()])
        asked = np.bincount(numbers[numbers != NONE], minlength=len(logps))
        asked_tokens = asked * np.array([sequence.length for sequence in requests.sequences], dtype=np.int64)
        missing = np.isnan(logps)
        advance(int(asked_tokens[~missing].sum()))
        computed = tokens = 0
        for batch in _batches(requests.sequences, self.batch_tokens) if missing.any() else ():
            todo = [number for number in batch if missing[number]]
            if not todo:
                continue
            if self._engine is None:
                self.store.check_writable()  # before the model takes its minutes
                self._engine = open_engine(self.params, self.model)
            sequences = [requests.sequences[number] for number in todo]
            found = self._engine.logps(sequences)
            _check_finite(found, todo, requests, pairs)
            self.store.add([requests.keys[number] for number in todo], found)
            logps[todo] = found
            computed += len(todo)
            tokens += sum(sequence.length for sequence in sequences)
            advance(int(asked_tokens[todo].sum()))
        return logps, Counts(int(asked.sum()), len(logps), computed, tokens)


def store_of(root: Path, model: Model, dtype: str, name: str, engine: str) -> Store:
    """The store under `root` of what the engine called `name` makes of the model.

    Args:
        model: its `context` as the engine gets it.
        engine: its `version`; the store's key has with it what else of its settings moves a number.
    """
    if name == "vllm" and goes_by_context(model):
        engine += f", context {model.context}"
    return Store(root, model, dtype, engine)


def batch_tokens(parameters: int, where: str, servers: int = 1) -> int:
    """Tokens of a batch: a few seconds of work for a model of so many parameters on `cpu`, `cuda` or by `server`.

    Batches are cut from all requests of a chunk, not from the missing ones, and by what does not change from run to
    run: so an interrupted run goes on with the very batches of an uninterrupted one, and ends with the same bytes.
    Other cuts make other packs and move a number in its last bits, as more pairs do. Both are the number to the
    engine's precision, so the store's keys do not know of them, and what was stored under other cuts stays.
    """
    most = max(FEWEST_TOKENS[where], int(BATCH_WORK[where]) // max(1, parameters))
    return min(BATCH_TOKENS[where], most) * servers


def pair_tokens(rendered: Rendered, nulls: NullPrompts, pairs: pl.DataFrame) -> np.ndarray:
    """Tokens of all sequences that each pair asks for, prompts counted each time: int64, [pairs]."""
    contexts = nulls.of(pairs, rendered)
    tokens = [
        (1 + len(others)) * (len(chosen) + len(rejected)) + 2 * (len(prompt) + sum(map(len, others)))
        for prompt, chosen, rejected, others in zip(*rendered, contexts, strict=True)
    ]
    return np.asarray(tokens, dtype=np.int64)


def sequence_lengths(rendered: Rendered, nulls: NullPrompts, pairs: pl.DataFrame) -> np.ndarray:
    """Tokens of each pair's longest sequence, with whichever prompt: int64, [pairs]."""
    contexts = nulls.of(pairs, rendered)
    prompts = [max(len(prompt), *map(len, others)) for prompt, others in zip(rendered.prompts, contexts, strict=True)]
    lengths: np.ndarray = np.asarray(prompts, dtype=np.int64) + rendered.longer_responses()
    return lengths


def set_aside(pairs: pl.DataFrame, rule: str, reasons: Sequence[str]) -> pl.DataFrame:
    """Rejects (schema.REJECTS) of these pairs, a reason each."""
    return pairs.select(
        "source",
        "source_row",
        rule=pl.lit(rule),
        reason=pl.Series(reasons, dtype=pl.String),
        row=pl.struct("pair_id", "prompt", "chosen", "rejected").struct.json_encode(),
    ).cast(REJECTS)  # type: ignore[arg-type]


def render_chunk(
    tokenizer: Any, pairs: pl.DataFrame, params: ScoreParams, advance: Advance | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A chunk's token ids (`rendering.RENDERED`), and the rejects of the pairs that have none (schema.REJECTS).

    Raises:
        InputError: a pair cannot be rendered, and `unrenderable` is `error`.
    """
    if params.unrenderable == "error":
        return rendering.render_pairs(tokenizer, pairs, advance), pl.DataFrame(schema=REJECTS)
    rendered, faults = rendering.render_or_set_aside(tokenizer, pairs, advance)
    refused = pairs.filter(pl.col("pair_id").is_in(faults.keys()))
    return rendered, set_aside(refused, "unrenderable", [faults[pair] for pair in refused["pair_id"]])


def _batches(sequences: Sequence[TokenSequence], budget: int) -> Iterator[list[int]]:
    """Numbers of sequences, about `budget` tokens to compute each; those of one prompt together, longest first.

    Longest first, because an engine that runs out of memory should do so at once.
    """
    batch: list[int] = []
    tokens = 0
    for group in group_by_prompt(sequences):
        prompt = len(sequences[group[0]].prompt_ids)
        tokens += prompt
        for number in group:
            response = len(sequences[number].response_ids)
            if batch and tokens + response > budget:
                yield batch
                batch, tokens = [], prompt
            batch.append(number)
            tokens += response
    if batch:
        yield batch


def _check_finite(logps: np.ndarray, numbers: list[int], requests: Requests, pairs: pl.DataFrame) -> None:
    bad = np.flatnonzero(~np.isfinite(logps))
    if bad.size:
        number = numbers[bad[0]]
        asked = (requests.reference == number) | (requests.null == number).any(axis=2)
        row, side = np.argwhere(asked)[0]
        raise not_finite(logps[bad], field=f"pair {pairs['pair_id'][int(row)]}, {SIDES[side]}")


def not_finite(logps: np.ndarray, **where: Any) -> InputError:
    """The error for log-probs that are no finite numbers; `where` is `file` or `field`."""
    return InputError(
        "the model gives a log-probability that is no finite number",
        found=f"{logps[0]} ({logps.size} sequences of this batch)",
        remedy="use dtype float32 or bfloat16, and check the model's weights",
        **where,
    )


def _assemble(pairs: pl.DataFrame, rendered: Rendered, reference: np.ndarray, null: np.ndarray) -> pl.DataFrame:
    """The pairs with their scores: reference [pairs, 2] and null [pairs, 2, contexts] in nats.

    Several contexts give the log of their mean probability (contrastive, docs/method.md); -inf where there is none.
    """
    peak = null.max(axis=2, keepdims=True)
    null = peak[..., 0] + np.log(np.exp(null - peak).sum(axis=2) / np.isfinite(null).sum(axis=2))
    made: dict[str, Any] = {
        f"{part}_tokens": [len(ids) for ids in sequences]
        for part, sequences in zip(("prompt", *SIDES), rendered, strict=True)
    }
    for column, side in enumerate(SIDES):
        made |= {f"ref_{side}_logps": reference[:, column], f"null_{side}_logps": null[:, column]}
    of_other_scores = {*columns("scores", "splits", "weights"), *GAPS}
    scores = with_information(
        pairs.drop(of_other_scores & {*pairs.columns}).with_columns(
            pl.Series(name, values, dtype=SCORES[name]) for name, values in made.items()
        )
    )
    return scores.select(pl.exclude(*SCORES), *SCORES)
