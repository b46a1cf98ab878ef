"""Chunks scored in this process, one after the other.

All pairs are rendered before the model is loaded: what is wrong with the data shows in minutes, not after hours.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curate.base.errors import OutputError
from curate.base.progress import progress
from curate.models import rendering
from curate.models.resolve import Model
from curate.project.params import ScoreParams
from curate.scoring.choice import choose
from curate.scoring.chunks import (
    Chunk,
    Pairs,
    as_chunk,
    check_lengths,
    longest_sequence,
    provenance_of,
    say_computed,
    template_of,
)
from curate.scoring.engines import version
from curate.scoring.null_prompts import null_prompts
from curate.scoring.scorer import Counts, Scored, Scorer, render_chunk


def score_here(
    pairs: Pairs, model: Model, params: ScoreParams, root: Path, keep: Callable[[Scored], None]
) -> dict[str, Any]:
    """Score in this process, and return the provenance."""
    limit = longest_sequence(model, params)
    params = choose(params, model._replace(context=limit + 1), root)
    engine = version(params, model)  # before anything long: an engine that is not installed stops here
    tokenizer = rendering.load_tokenizer(model)
    with _Spill(pairs) as spill:
        _render(tokenizer, pairs, params, spill)
        template = template_of(tokenizer)
        nulls = null_prompts(tokenizer, params, limit, spill.chunks)
        tokens = check_lengths(spill.chunks(), nulls, limit, params, pairs.height)
        scorer = Scorer(model, params, engine, root, nulls, limit)
        counts = Counts()
        started = time.monotonic()
        try:
            with progress(f"score ({params.engine})", tokens, "tokens") as advance:
                for chunk, unrenderable in zip(spill.chunks(), spill.rejects, strict=True):
                    scored = scorer.score(*chunk, advance)
                    keep(scored._replace(rejects=pl.concat([unrenderable, scored.rejects])))
                    counts = counts.plus(scored.counts)
        finally:
            scorer.close()
        scorer.store.tidy()
    say_computed(counts, time.monotonic() - started)
    return provenance_of(model, params, engine, nulls, template)


def _render(tokenizer: Any, pairs: Pairs, params: ScoreParams, spill: _Spill) -> None:
    """Render all pairs, chunk by chunk, into the spill."""
    with progress("pairs into tokens", pairs.height, "pairs") as advance:
        for pairs_of_chunk in pairs.chunks():
            rendered, rejects = render_chunk(tokenizer, pairs_of_chunk, params, advance)
            spill.write(rendered, rejects)


class _Spill:
    """Rendered chunks on disk, in an unnamed file that is gone with this process, however it ends."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.rejects: list[pl.DataFrame] = []  # of each chunk
        self._writer: Any = None

    def __enter__(self) -> _Spill:
        self._file = tempfile.TemporaryFile(prefix="curate-rendered-")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, rendered: pl.DataFrame, rejects: pl.DataFrame) -> None:
        """Add a chunk: rendering.RENDERED and schema.REJECTS."""
        self.rejects.append(rejects)
        table = rendered.to_arrow()
        # One batch a chunk, also when it is empty: reading gives back what was written.
        arrays = [column.combine_chunks() for column in table.columns]
        try:
            if self._writer is None:
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                self._writer = pa.ipc.new_stream(self._file, table.schema, options=options)
            self._writer.write_batch(pa.record_batch(arrays, schema=table.schema))
        except OSError as error:
            raise OutputError(
                "cannot write the rendered pairs to the temporary folder",
                file=tempfile.gettempdir(),
                found=error.strerror or error,
                remedy="free space there (about 1 kB a pair), or set TMPDIR to a folder that has it",
            ) from error

    def chunks(self) -> Iterator[Chunk]:
        """The chunks in their order."""
        if self._writer is None:
            return
        self._writer.close()  # the first time; then it does nothing
        self._file.seek(0)
        for pairs, batch in zip(self.pairs.chunks(), pa.ipc.open_stream(self._file), strict=True):
            yield as_chunk(pairs, pl.DataFrame(pl.from_arrow(batch)))
