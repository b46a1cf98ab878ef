"""What stands for `null`: the prompts after which a response's unconditional log-probability is taken (METHOD 1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from curate.base.errors import InputError
from curate.models import rendering
from curate.pairs.identity import draw_order
from curate.project.params import ScoreParams


class Rendered(NamedTuple):
    """Token ids of a chunk of pairs, in their order; int32 arrays."""

    prompts: list[np.ndarray]
    chosen: list[np.ndarray]
    rejected: list[np.ndarray]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Rendered:
        """From `rendering.render_pairs`."""
        return cls(*(_arrays(frame[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected")))

    def longer_responses(self) -> np.ndarray:
        """Tokens of each pair's longer response, [pairs]."""
        return np.array([max(len(w), len(r)) for w, r in zip(self.chosen, self.rejected, strict=True)], dtype=np.int64)


class NullPrompts(Protocol):
    """Prompt ids that stand for null, for each pair."""

    contexts: int  # how many a pair has

    def of(self, pairs: pl.DataFrame, rendered: Rendered) -> list[list[np.ndarray]]:
        """One list of prompts a pair; its null log-prob is the log of the mean over them."""
        ...


class FixedNull:
    """The same one for every pair: `empty_user` or `bos`."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = np.asarray(ids, dtype=np.int32)
        self.contexts = 1

    def of(self, pairs: pl.DataFrame, rendered: Rendered) -> list[list[np.ndarray]]:
        return [[self.ids]] * pairs.height


class ContrastiveNull:
    """The pair's own prompt and K others of its query type. [ours]

    Each query type has a pool of K + 1 prompts, those of lowest hash(seed, prompt); a pair takes K of them that are
    not its own. A shared pool keeps pairs comparable and prompts shared between sequences. Only prompts that fit
    beside the longest response are in it, so that none costs other pairs their place.
    """

    def __init__(self, pools: dict[str, dict[str, np.ndarray]], others: int) -> None:
        self.pools, self.others = pools, others  # query type -> prompt_key -> ids
        self.contexts = 1 + others

    def of(self, pairs: pl.DataFrame, rendered: Rendered) -> list[list[np.ndarray]]:
        keys = pairs.select("prompt_key", "query_type").rows()
        return [
            [own, *[ids for key, ids in self.pools[kind].items() if key != own_key][: self.others]]
            for own, (own_key, kind) in zip(rendered.prompts, keys, strict=True)
        ]


def null_prompts(
    tokenizer: Any, params: ScoreParams, limit: int, chunks: Callable[[], Iterable[tuple[pl.DataFrame, Rendered]]]
) -> NullPrompts:
    """What `params.null_prompt` names; for `contrastive`, all chunks are gone through twice.

    Raises:
        InputError: a query type has too few distinct prompts that fit beside the longest response.
    """
    if params.null_prompt != "contrastive":
        return FixedNull(rendering.null_prompt_ids(tokenizer, params.null_prompt))
    longest = 0  # tokens of the longest response that fits beside its own prompt
    for _, rendered in chunks():
        responses = rendered.longer_responses()
        fits = np.array([len(prompt) for prompt in rendered.prompts]) + responses <= limit
        longest = max(longest, int(responses[fits].max(initial=0)))
    wanted = params.contrastive_prompts + 1
    pools: dict[str, dict[str, tuple[bytes, bytes]]] = {}  # query type -> prompt_key -> (hash, ids): the lowest hashes
    for pairs, rendered in chunks():
        rows = pairs.select("prompt_key", "query_type").rows()
        order = draw_order((key for key, _ in rows), params.contrastive_seed)
        for (key, kind), rank, ids in zip(rows, order, rendered.prompts, strict=True):
            pool = pools.setdefault(kind, {})
            if len(ids) + longest <= limit:
                # Of prompts that differ in case or spacing only, one, whichever row comes first.
                pool[key] = min(pool.get(key, (rank, ids.tobytes())), (rank, ids.tobytes()))
                if len(pool) > wanted:
                    del pool[max(pool, key=lambda key: pool[key])]
    for kind, pool in sorted(pools.items()):
        if len(pool) < wanted:
            raise InputError(
                "too few distinct prompts for the contrastive null prompt",
                field=f"query_type {kind}",
                found=f"{len(pool)} that fit beside the longest response ({longest} tokens, of {limit} in all)",
                expected=f"more than score.contrastive_prompts = {wanted - 1}",
                remedy="lower contrastive_prompts, or max_length with too_long: reject; or use null_prompt: empty_user",
            )
    return ContrastiveNull(
        {
            kind: {key: np.frombuffer(ids, dtype=np.int32) for key, (_, ids) in sorted(pool.items(), key=_by_rank)}
            for kind, pool in pools.items()
        },
        params.contrastive_prompts,
    )


def _by_rank(item: tuple[str, tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    return item[1]


def _arrays(column: pl.Series) -> list[np.ndarray]:
    """A list column as one int32 array a row."""
    flat = column.explode(empty_as_null=False).to_numpy()
    return np.split(flat, np.cumsum(column.list.len().to_numpy())[:-1]) if len(column) else []
