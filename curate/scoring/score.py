"""Pairs -> scores, chunk by chunk, so that memory does not grow with their number."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base import files
from curate.base.errors import UsageError
from curate.base.progress import say
from curate.models.resolve import Model
from curate.pairs.schema import REJECTS
from curate.project.params import ScoreParams
from curate.scoring.chunks import Pairs, Runner, nothing_left
from curate.scoring.local import score_here
from curate.scoring.scorer import Scored
from curate.selection.length import explained


class Result(NamedTuple):
    scores: pl.DataFrame  # the pairs' columns and schema.SCORES, one row a pair kept, in the pairs' order
    rejects: pl.DataFrame  # schema.REJECTS
    summary: dict[str, Any]  # score.json
    provenance: dict[str, Any]


class FileResult(NamedTuple):
    rejects: pl.DataFrame  # schema.REJECTS
    summary: dict[str, Any]  # score.json
    provenance: dict[str, Any]


def score(pairs: pl.DataFrame, model: Model, params: ScoreParams, store_root: Path) -> Result:
    """Score every pair with the reference model.

    Args:
        pairs: columns schema.PAIRS.
        store_root: folder of the score store; what it holds already is not computed again.

    Raises:
        InputError: a pair that cannot be rendered, is too long (with `too_long: error`), or scores to no
            finite number; an engine that is not installed or cannot load the model.
        OutputError: the store cannot be written.
        UsageError: the engine is `ray`, which scores files.
    """
    if params.engine == "ray":
        raise UsageError("the ray engine scores a Parquet file", remedy="use score_file, or the command")
    parts: list[Scored] = []
    provenance = score_here(Pairs.of_frame(pairs), model, params, store_root, parts.append)
    scores = pl.concat([part.scores for part in parts])
    rejects = pl.concat([part.rejects for part in parts])
    return Result(scores, rejects, summarise(scores.lazy(), rejects.height, provenance), provenance)


def score_file(
    pairs: Path, model: Model, params: ScoreParams, store_root: Path, out: Path, run: Runner = score_here
) -> FileResult:
    """`score`, from a Parquet file to another, in memory that hardly grows with the number of pairs.

    What does grow: the pairs set aside, and some 100 bytes a pair while the summary is made.

    Args:
        run: what runs the chunks (`curate.scoring.runners.runner` knows it by the engine's name).

    Raises:
        As `score`; and OutputError where `out` cannot be written.
    """
    source = Pairs.of_file(pairs)
    if not source.height:
        raise nothing_left(0)
    rejects = [pl.DataFrame(schema=REJECTS)]
    with files.replacing(out) as temporary:
        parts = temporary.parent / "parts"
        parts.mkdir()

        def keep(scored: Scored) -> None:
            scored.scores.write_parquet(parts / f"{len(rejects):09}.parquet")
            rejects.append(scored.rejects)

        provenance = run(source, model, params, store_root, keep)
        if sum(part.height for part in rejects) == source.height:
            raise nothing_left(source.height, sum((part["rule"] == "too_long").sum() for part in rejects))
        files.sink_parquet(pl.scan_parquet(sorted(parts.iterdir()), glob=False), temporary, provenance)
        shutil.rmtree(parts)
        rejected = pl.concat(rejects)
        if rejected.height:
            rules = ", ".join(f"{rule} {count:,}" for rule, count in sorted(rejected["rule"].value_counts().rows()))
            say(f"score: {rejected.height:,} of {source.height:,} pairs set aside ({rules})")
        summary = summarise(pl.scan_parquet(temporary, glob=False), rejected.height, provenance)
    return FileResult(rejected, summary, provenance)


def summarise(scores: pl.LazyFrame, rejected: int, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """score.json: counts, quantiles of the mutual information by query type, nats/token, and how much of the gap is
    length."""
    by_type: dict[str, dict[str, Any]] = {}
    for name in ("pmi_gap", "chosen_pmi", "rejected_pmi"):  # one column at a time: there may be many rows
        for (query_type,), rows in sorted(scores.select("query_type", name).collect().group_by("query_type")):
            values = rows[name]
            told = by_type.setdefault(str(query_type), {"pairs": rows.height})
            told[name] = {f"q{int(q * 100):02d}": values.quantile(q, "linear") for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
            if name == "pmi_gap":
                told |= {"positive_gap": (values > 0).mean(), "mean_abs_gap": values.abs().mean()}
    tokens = scores.select(pl.col("chosen_tokens", "rejected_tokens").cast(pl.Int64).sum()).collect()
    return {
        "pairs": sum(told["pairs"] for told in by_type.values()),
        "rejected": rejected,
        "response_tokens": sum(tokens.row(0)),
        "query_types": by_type,
        "length_explains": explained(scores, "pmi_gap")._asdict(),
        "model": provenance["model"],
        "template": provenance["template"],
        "engine": provenance["engine"],
        "dtype": provenance["params"]["dtype"],
        "null_prompt": provenance["params"]["null_prompt"],
        **({"contrastive": provenance["contrastive"]} if "contrastive" in provenance else {}),
    }
