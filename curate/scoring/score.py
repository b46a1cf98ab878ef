"""Pairs -> scores: requests minus what the store holds, scored, then joined back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate import __version__, rendering
from curate.errors import InputError
from curate.identity import draw_order
from curate.models import Model
from curate.params import ScoreParams
from curate.progress import progress, say
from curate.rendering import TokenSequence
from curate.schema import REJECTS, SCORES
from curate.scoring.engine import open_engine, version
from curate.scoring.information import with_information
from curate.scoring.store import Store

BATCH_TOKENS = 65_536
"""Tokens scored between two writes of the store. Batches are cut from all requests, not from the missing ones,
so that an interrupted run goes on with the very batches of an uninterrupted one."""

SIDES = ("chosen", "rejected")
LONGER_RESPONSE = pl.max_horizontal(pl.col(f"{side}_ids").list.len() for side in SIDES)  # tokens, of a rendered pair


class Scored(NamedTuple):
    scores: pl.DataFrame  # the pairs' columns and schema.SCORES, one row a pair kept, in the pairs' order
    rejects: pl.DataFrame  # schema.REJECTS
    summary: dict[str, Any]  # score.json
    provenance: dict[str, Any]


class _Requests(NamedTuple):
    frame: pl.DataFrame  # pair_id, side, kind (ref | null), key; several null rows a side when contrastive
    sequences: Mapping[bytes, TokenSequence]  # by key, each once


def score(pairs: pl.DataFrame, model: Model, params: ScoreParams, store_root: Path) -> Scored:
    """Score every pair with the reference model.

    Args:
        pairs: columns schema.PAIRS.
        store_root: folder of the score store; what it holds already is not computed again.

    Raises:
        InputError: a pair that cannot be rendered, is too long (with `too_long: error`), or scores to no
            finite number; an engine that is not installed or cannot load the model.
        OutputError: the store cannot be written.
    """
    engine_version = version(params.engine)
    tokenizer = rendering.load_tokenizer(model)
    rendered = rendering.render_pairs(tokenizer, pairs)
    # vLLM generates one token, which it throws away; hence one less than the context, for every engine.
    limit = min(params.max_length or model.context, model.context) - 1
    contexts = _null_prompts(tokenizer, pairs, rendered, params, limit)
    rendered, rejects = _within_context(pairs, rendered, contexts, limit, params)
    if rendered.is_empty():
        raise InputError("no pair is left to score", remedy="raise score.max_length or use a longer-context model")
    store = Store(store_root, model, params.dtype, engine_version)
    requests = _requests(rendered, contexts, store)
    logps = _fill(requests, store, model._replace(context=limit + 1), params)
    scores = _assemble(pairs, rendered, requests.frame.join(logps, on="key", how="left"))
    provenance = {
        "stage": "score",
        "version": __version__,
        "model": model.record(),
        "engine": engine_version,
        "params": params.model_dump(),
    }
    return Scored(scores, rejects, summarise(scores, rejects, provenance), provenance)


def _null_prompts(
    tokenizer: Any, pairs: pl.DataFrame, rendered: pl.DataFrame, params: ScoreParams, limit: int
) -> dict[str, list[np.ndarray]]:
    """Prompt ids that stand for `null`, by pair id: one, or for `contrastive` K others' and the pair's own.

    Contrastive [ours]: each query type has a pool of K + 1 prompts, those of lowest hash(seed, prompt); a pair
    takes K of them that are not its own prompt. A shared pool keeps pairs comparable and prompts cacheable. Only
    prompts that fit beside the longest response are in it, so that none costs others their place.
    """
    ids = rendered["pair_id"].to_list()
    if params.null_prompt != "contrastive":
        null = np.asarray(rendering.null_prompt_ids(tokenizer, params.null_prompt), dtype=np.int32)
        return {pair: [null] for pair in ids}
    prompts = dict(zip(ids, _arrays(rendered["prompt_ids"]), strict=True))
    keyed = pairs.select("pair_id", "prompt_key", "query_type").rows()
    pools: dict[str, dict[str, str]] = {}  # query type -> prompt key -> a pair with that prompt
    lengths = _lengths(rendered)
    longest = max((response for prompt, response in lengths.values() if prompt + response <= limit), default=0)
    for pair, key, query_type in keyed:
        pool = pools.setdefault(query_type, {})
        if lengths[pair][0] + longest <= limit:
            pool.setdefault(key, pair)
    wanted = params.contrastive_prompts
    for query_type, pool in pools.items():
        if len(pool) <= wanted:
            raise InputError(
                "too few distinct prompts for the contrastive null prompt",
                field=f"query_type {query_type}",
                found=f"{len(pool)} prompts",
                expected=f"more than score.contrastive_prompts = {wanted}",
                remedy="lower contrastive_prompts, or use null_prompt: empty_user",
            )
        by_hash = sorted(zip(draw_order(pool, params.contrastive_seed), pool, strict=True))
        pools[query_type] = {key: pool[key] for _, key in by_hash[: wanted + 1]}
    return {
        pair: [prompts[pair], *[prompts[other] for k, other in pools[kind].items() if k != key][:wanted]]
        for pair, key, kind in keyed
    }


def _within_context(
    pairs: pl.DataFrame,
    rendered: pl.DataFrame,
    contexts: Mapping[str, list[np.ndarray]],
    limit: int,
    params: ScoreParams,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that fit `limit` tokens with every context, and rejects for those that do not."""
    longest_null = [max(len(null) for null in contexts[pair]) for pair in rendered["pair_id"]]
    prompt = pl.max_horizontal(pl.col("prompt_ids").list.len(), pl.lit(pl.Series(longest_null)))
    lengths = rendered.select("pair_id", length=(prompt + LONGER_RESPONSE).cast(pl.Int64))
    long = lengths.filter(pl.col("length") > limit)
    if long.is_empty():
        return rendered, pl.DataFrame(schema=REJECTS)
    rows = pairs.join(long, on="pair_id", maintain_order="left")
    if params.too_long == "error":
        first = rows.row(0, named=True)
        raise InputError(
            f"{rows.height} of {pairs.height} pairs are longer than the model's context",
            file=first["source"],
            row=first["source_row"],
            field=f"pair {first['pair_id']}",
            found=f"{first['length']} tokens (the longest pair: {rows['length'].max()})",
            expected=f"at most {limit} tokens, prompt and response together",
            remedy="score.too_long: reject (--too-long reject) sets such pairs aside; or use a longer-context model",
        )
    rejects = rows.select(
        "source",
        "source_row",
        rule=pl.lit("too_long"),
        reason=pl.format("{} tokens, the limit is {}", "length", pl.lit(limit)),
        row=pl.struct("pair_id", "prompt", "chosen", "rejected").struct.json_encode(),
    ).cast(REJECTS)  # type: ignore[arg-type]
    return rendered.join(long, on="pair_id", how="anti", maintain_order="left"), rejects


def _lengths(rendered: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Pair id -> tokens of the prompt and of the longer response."""
    rows = rendered.select("pair_id", pl.col("prompt_ids").list.len(), LONGER_RESPONSE.alias("response")).rows()
    return {pair: (prompt, longest) for pair, prompt, longest in rows}


def _arrays(column: pl.Series) -> list[np.ndarray]:
    """A list column as one int32 array a row."""
    flat = column.explode(empty_as_null=False).to_numpy()
    return np.split(flat, np.cumsum(column.list.len().to_numpy())[:-1])


def _requests(rendered: pl.DataFrame, contexts: Mapping[str, list[np.ndarray]], store: Store) -> _Requests:
    rows: dict[str, list[Any]] = {"pair_id": [], "side": [], "kind": [], "key": []}
    sequences: dict[bytes, TokenSequence] = {}
    prompts = _arrays(rendered["prompt_ids"])
    for side in SIDES:
        responses = _arrays(rendered[f"{side}_ids"])
        for pair, prompt, response in zip(rendered["pair_id"], prompts, responses, strict=True):
            for kind, contexts_of_kind in (("ref", [prompt]), ("null", contexts[pair])):
                for context in contexts_of_kind:
                    sequence = TokenSequence(context, response)
                    key = store.key(sequence)
                    sequences[key] = sequence
                    for name, value in zip(rows, (pair, side, kind, key), strict=True):
                        rows[name].append(value)
    schema = {"pair_id": pl.String, "side": pl.String, "kind": pl.String, "key": pl.Binary}
    return _Requests(pl.DataFrame(rows, schema=schema), sequences)


def _fill(requests: _Requests, store: Store, model: Model, params: ScoreParams) -> pl.DataFrame:
    """Score what the store lacks, batch by batch, and return the store's rows for these requests."""
    held = store.read()
    known = set(held["key"].to_list())
    batches = [[key for key in batch if key not in known] for batch in _batches(requests.sequences)]
    todo = [batch for batch in batches if batch]
    missing = sum(len(batch) for batch in todo)
    say(
        f"score: {requests.frame.height:,} log-probs wanted, {len(requests.sequences):,} distinct; "
        f"the store holds {len(requests.sequences) - missing:,}, to compute {missing:,}"
    )
    if not todo:
        return held
    tokens = sum(requests.sequences[key].length for batch in todo for key in batch)
    engine = open_engine(params.engine, model, params.dtype)
    new = []
    try:
        with progress(f"score ({params.engine})", tokens, "tokens") as advance:
            for batch in todo:
                sequences = [requests.sequences[key] for key in batch]
                logps = engine.logps(sequences)
                _check_finite(logps, batch, requests.frame)
                store.add(batch, logps)
                new.append(pl.DataFrame({"key": batch, "logp": logps}, schema=held.schema))
                advance(sum(sequence.length for sequence in sequences))
    finally:
        engine.close()
    return pl.concat([held, *new])


def _batches(sequences: Mapping[bytes, TokenSequence]) -> Iterator[list[bytes]]:
    """Keys, longest sequences first (an engine that runs out of memory does so at once), about BATCH_TOKENS each."""
    batch: list[bytes] = []
    tokens = 0
    for key in sorted(sequences, key=lambda key: (-sequences[key].length, key)):
        if batch and tokens + sequences[key].length > BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(key)
        tokens += sequences[key].length
    if batch:
        yield batch


def _check_finite(logps: np.ndarray, keys: list[bytes], requests: pl.DataFrame) -> None:
    bad = np.flatnonzero(~np.isfinite(logps))
    if bad.size:
        row = requests.filter(pl.col("key") == keys[bad[0]]).row(0, named=True)
        raise InputError(
            "the model gives a log-probability that is no finite number",
            field=f"pair {row['pair_id']}, {row['side']}",
            found=f"{logps[bad[0]]} ({bad.size} sequences of this batch)",
            remedy="use dtype float32 or bfloat16, and check the model's weights",
        )


def _assemble(pairs: pl.DataFrame, rendered: pl.DataFrame, logps: pl.DataFrame) -> pl.DataFrame:
    """Join log-probs and token counts to the pairs; a contrastive null is the log of the mean over its rows."""
    peak = pl.col("logp").max()
    mean = peak + (pl.col("logp") - peak).exp().mean().log()  # log-mean-exp; one row gives itself
    wide = (
        logps.group_by("pair_id", "side", "kind")
        .agg(pl.when(pl.len() == 1).then(pl.col("logp").first()).otherwise(mean).alias("logp"))
        .with_columns(name=pl.format("{}_{}_logps", "kind", "side"))
        .pivot("name", index="pair_id", values="logp")
    )
    tokens = rendered.select(
        "pair_id",
        *(pl.col(f"{part}_ids").list.len().alias(f"{part}_tokens") for part in ("prompt", *SIDES)),
    )
    scores = with_information(
        pairs.drop(SCORES.keys() & set(pairs.columns))
        .join(tokens, on="pair_id", maintain_order="left")
        .join(wide, on="pair_id", maintain_order="left")
    )
    assert (
        scores.height == rendered.height
        and not scores.select(pl.any_horizontal(pl.col(*SCORES).is_null().any())).item()
    )
    return scores.with_columns(pl.col(name).cast(dtype) for name, dtype in SCORES.items()).select(
        pl.exclude(*SCORES), *SCORES
    )


def summarise(scores: pl.DataFrame, rejects: pl.DataFrame, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """score.json: counts, and quantiles of the mutual information by query type, nats/token."""
    by_type = {}
    for (query_type,), rows in sorted(scores.group_by("query_type")):
        by_type[str(query_type)] = {
            "pairs": rows.height,
            "positive_gap": rows.select((pl.col("pmi_gap") > 0).mean()).item(),
            "mean_abs_gap": rows.select(pl.col("pmi_gap").abs().mean()).item(),
            **{
                name: {f"q{int(q * 100):02d}": rows[name].quantile(q, "linear") for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
                for name in ("chosen_pmi", "rejected_pmi", "pmi_gap")
            },
        }
    return {
        "pairs": scores.height,
        "rejected": rejects.height,
        "response_tokens": int(scores["chosen_tokens"].sum() + scores["rejected_tokens"].sum()),
        "query_types": by_type,
        "model": provenance["model"],
        "engine": provenance["engine"],
        "dtype": provenance["params"]["dtype"],
        "null_prompt": provenance["params"]["null_prompt"],
    }
