"""The pairs to score, some thousands at a time, and what holds for every way of running them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate import __version__
from curate.base.errors import InputError
from curate.base.progress import say
from curate.models import turn
from curate.models.resolve import UNBOUNDED, Model
from curate.pairs.artefact import scan_artefact, tell_of_other_texts, unchanged
from curate.project.params import ScoreParams
from curate.scoring.null_prompts import NullPrompts, Rendered
from curate.scoring.scorer import Counts, Scored, pair_tokens, sequence_lengths

CHUNK_PAIRS = 8192
"""Pairs in memory at a time. Sequences are batched and shared within a chunk."""

_LONGER = "use a longer-context model (scratch: raise reference.context)"

Chunk = tuple[pl.DataFrame, Rendered]  # pairs, and their token ids


class Pairs(NamedTuple):
    """Pairs that can be gone through more than once, CHUNK_PAIRS at a time."""

    height: int
    chunks: Callable[[], Iterator[pl.DataFrame]]
    path: Path | None = None  # the file they are in
    check: Callable[[], None] = lambda: None  # raises `InputError` where that has changed since

    @classmethod
    def of_frame(cls, frame: pl.DataFrame) -> Pairs:
        return cls(frame.height, lambda: frame.iter_slices(CHUNK_PAIRS))

    @classmethod
    def of_file(cls, path: Path) -> Pairs:
        """A Parquet file with columns schema.PAIRS. Each chunk is of that very file, or an `InputError`.

        Raises:
            InputError: it has not.
        """
        check = unchanged(path, changed)
        frame = scan_artefact(path, "pairs")
        tell_of_other_texts(frame, path)
        height = frame.select(pl.len()).collect().item()

        def chunk(at: int) -> pl.DataFrame:
            check()
            try:
                return frame.slice(at, CHUNK_PAIRS).collect()
            finally:
                check()  # first of all, where reading has failed

        return cls(height, lambda: map(chunk, range(0, height, CHUNK_PAIRS)), path, check)


def changed(path: Path | None) -> InputError:
    """The error for pairs that are others than those that were rendered."""
    return InputError(
        "the pairs changed while they were scored",
        file=path,
        remedy="run the same command again when nothing writes to them: what the score store holds is kept",
    )


Runner = Callable[[Pairs, Model, ScoreParams, Path, Callable[[Scored], None]], dict[str, Any]]
"""What runs the chunks. It takes the pairs, the model, the params, the score store's folder and what keeps each scored
chunk, which it calls in the pairs' order; it returns the provenance. One chunk holds CHUNK_PAIRS pairs."""


def as_chunk(pairs: pl.DataFrame, rendered: pl.DataFrame) -> Chunk:
    """The pairs that were rendered, beside their token ids. Raises `InputError` where they are not the same."""
    kept = pairs if pairs.height == rendered.height else pairs.filter(pl.col("pair_id").is_in(rendered["pair_id"]))
    if not kept["pair_id"].equals(rendered["pair_id"]):
        raise changed(None)
    return kept, Rendered.of(rendered)


def longest_sequence(model: Model, params: ScoreParams) -> int:
    """Tokens. vLLM generates one, which it throws away; hence one less than the context, for every engine.

    Raises:
        InputError: neither the model nor `max_length` says.
    """
    if model.context == UNBOUNDED and not params.max_length:
        raise InputError(
            "neither config.json nor the tokenizer says how long a sequence may be",
            file=model.path,
            remedy="say it: score.max_length (--max-length), in tokens; recurrent models and ALiBi have no limit",
        )
    return min(params.max_length or model.context, model.context) - 1


def check_lengths(chunks: Iterable[Chunk], nulls: NullPrompts, limit: int, params: ScoreParams, pairs: int) -> int:
    """Tokens of all that is asked for of the pairs that fit `limit` tokens with every prompt.

    Raises:
        InputError: one does not and `too_long` is `error`; or none does.
    """
    seen, long, longest, tokens, first = 0, 0, 0, 0, None
    for chunk, rendered in chunks:
        seen += chunk.height
        lengths = sequence_lengths(rendered, nulls, chunk)
        over = (lengths > limit).nonzero()[0]
        long += len(over)
        tokens += int(pair_tokens(rendered, nulls, chunk)[lengths <= limit].sum())
        longest = max(longest, int(lengths.max(initial=0)))
        if len(over) and first is None:
            first = chunk.row(int(over[0]), named=True) | {"length": int(lengths[over[0]])}
    if first is not None and params.too_long == "error":
        raise InputError(
            f"{long:,} of {pairs:,} pairs are longer than the model's context",
            file=first["source"],
            row=first["source_row"],
            field=f"pair {first['pair_id']}",
            found=f"{first['length']:,} tokens (the longest pair: {longest:,})",
            expected=f"at most {limit:,} tokens, prompt and response together",
            remedy=f"score.too_long: reject (--too-long reject) sets such pairs aside; or {_LONGER}",
        )
    if long == seen:
        raise nothing_left(pairs, long)
    return tokens


def nothing_left(pairs: int, too_long: int = 0) -> InputError:
    """The error for a run of which nothing would come: of its pairs so many are too long, the others unrenderable."""
    if not pairs:
        return InputError("there is no pair to score", remedy="see what `curate prepare` set aside, and why")
    return InputError(
        "no pair is left to score",
        found=f"{too_long:,} too long, {pairs - too_long:,} that cannot be rendered",
        remedy=f"raise score.max_length or {_LONGER}"
        if too_long
        else "score.unrenderable: error (--unrenderable error) tells what is wrong with the first",
    )


def template_of(tokenizer: Any) -> dict[str, Any]:
    """How the template was rendered, as provenance has it; says what a user would not expect of it."""
    told = turn.record(tokenizer)
    if told["system_turn"]:
        text = textwrap.shorten(told["system_turn"], 70, placeholder=" ...")
        say(f"score: the chat template puts a system turn of its own before a prompt that has none: {text!r}")
    if told["thought"]:
        say(f"score: the chat template's generation prompt opens a thought, which is {told['thought']}")
    return told


def provenance_of(
    model: Model, params: ScoreParams, engine: str, nulls: NullPrompts, template: dict[str, Any]
) -> dict[str, Any]:
    """How scores were made; `params` with the engine resolved. Where servers and workers are is not part of it.

    Args:
        template: `template_of` the model's tokenizer.
    """
    told = {key: value for key, value in params.model_dump().items() if not key.startswith(("server_", "ray_"))}
    made = {
        "stage": "score",
        "version": __version__,
        "model": model.record(),
        "template": template,
        "engine": engine,
        "params": told,
    }
    return made | nulls.record()


def say_computed(counts: Counts, seconds: float) -> None:
    """One line: what was asked for, what the store had, what was computed and how fast."""
    rate = f", {counts.computed_tokens / max(seconds, 1e-9):,.0f} tokens/s" if counts.computed else ""
    say(
        f"score: {counts.wanted:,} log-probs wanted, {counts.distinct:,} distinct; the store held "
        f"{counts.distinct - counts.computed:,}, computed {counts.computed:,} ({counts.computed_tokens:,} tokens{rate})"
    )
