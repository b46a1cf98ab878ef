"""What stands for `null`: prompts after which a response's unconditional log-probability is taken (docs/method.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from curate.base.errors import InputError
from curate.base.progress import say
from curate.models import rendering
from curate.pairs.identity import draw_order, question_keys
from curate.pairs.schema import Split
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

    contexts: int  # how many a pair has at most

    def of(self, pairs: pl.DataFrame, rendered: Rendered) -> list[list[np.ndarray]]:
        """One list of prompts a pair, at least one; its null log-prob is the log of the mean over them."""
        ...

    def record(self) -> dict[str, Any]:
        """What the provenance says beside the params."""
        ...


OTHERS = "other training prompts"
DRAW = "contrastive null prompts"
"""What the contrastive mean is over, in the provenance, and the name of its draw. `curate.selection.measure` tells
older scores apart, which had held-out prompts or the own one in the mean."""


class FixedNull:
    """The same one for every pair: `empty_user` or `bos`."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = np.asarray(ids, dtype=np.int32)
        self.contexts = 1

    def of(self, pairs: pl.DataFrame, rendered: Rendered) -> list[list[np.ndarray]]:
        return [[self.ids]] * pairs.height

    def record(self) -> dict[str, Any]:
        return {}


class ContrastiveNull:
    """K training prompts of the pair's query type, its own left out. [ours]

    With the own one in the mean, log p(y|x) - log p(y|null) could not exceed log(K + 1), and nearly always sat there.

    Each query type has a pool of K + 1 training prompts, those of lowest hash(DRAW, seed, prompt); a pair takes K of
    them that do not ask its own question (whatever their system turns). No held-out prompt takes part in the gap of a
    training pair; and the draw has a hash of its own, as the held-out draw takes the lowest of its. A shared pool keeps
    pairs comparable and prompts shared between sequences. Only prompts that fit beside the longest response are in it,
    so that none costs other pairs their place. A query type with fewer prompts has fewer in the mean, the same number
    for all its pairs.
    """

    def __init__(self, pools: dict[str, dict[str, np.ndarray]], wanted: int) -> None:
        self.pools = pools  # query type -> question_key -> ids; two at least
        self.others = {kind: min(wanted, len(pool) - 1) for kind, pool in pools.items()}
        self.contexts = max(self.others.values(), default=1)

    def of(self, pairs: pl.DataFrame, rendered: Rendered) -> list[list[np.ndarray]]:
        """A type without a pool has no pair that fits, and what stands for null there is never asked for: its own."""
        return [
            [ids for key, ids in self.pools[kind].items() if key != own][: self.others[kind]]
            if kind in self.pools
            else [prompt]
            for own, kind, prompt in zip(question_keys(pairs), pairs["query_type"], rendered.prompts, strict=True)
        ]

    def record(self) -> dict[str, Any]:
        return {"contrastive": {"mean_over": OTHERS, "prompts": self.others}}


def null_prompts(
    tokenizer: Any, params: ScoreParams, limit: int, chunks: Callable[[], Iterable[tuple[pl.DataFrame, Rendered]]]
) -> NullPrompts:
    """What `params.null_prompt` names; for `contrastive`, all chunks are gone through twice.

    Raises:
        InputError: a query type has a pair that fits, and no two training prompts that fit beside the longest response.
    """
    if params.null_prompt != "contrastive":
        return FixedNull(rendering.null_prompt_ids(tokenizer, params.null_prompt))
    longest = 0  # tokens of the longest response that fits beside its own prompt
    asking: set[str] = set()  # query types that have a pair that fits
    for pairs, rendered in chunks():
        responses = rendered.longer_responses()
        fits = np.array([len(prompt) for prompt in rendered.prompts]) + responses <= limit
        longest = max(longest, int(responses[fits].max(initial=0)))
        asking.update(pairs["query_type"].filter(pl.Series(fits, dtype=pl.Boolean)))
    wanted = params.contrastive_prompts + 1
    pools: dict[str, dict[str, tuple[bytes, bytes]]] = {}  # type -> question_key -> (hash, ids): the lowest hashes
    for pairs, rendered in chunks():
        order = draw_order(pairs["prompt_key"], params.contrastive_seed, DRAW)
        training = pairs["split"] == Split.TRAIN
        rows = zip(question_keys(pairs), pairs["query_type"], order, rendered.prompts, training, strict=True)
        for key, kind, rank, ids, may_be_drawn in rows:
            if kind not in asking:
                continue
            pool = pools.setdefault(kind, {})
            if may_be_drawn and len(ids) + longest <= limit:
                # Of prompts that differ in case, spacing or system turn only, one, whichever row comes first.
                pool[key] = min(pool.get(key, (rank, ids.tobytes())), (rank, ids.tobytes()))
                if len(pool) > wanted:
                    del pool[max(pool, key=lambda key: pool[key])]
    for kind, pool in sorted(pools.items()):
        if len(pool) < 2:
            raise InputError(
                "the contrastive null prompt has no other prompt to compare with",
                field=f"query_type {kind}",
                found=f"{len(pool)} distinct training prompts that fit beside the longest response ({longest} tokens, "
                f"of {limit} in all)",
                expected="two at least, so that each pair has one that is not its own",
                remedy="lower max_length with too_long: reject, add pairs, or use null_prompt: empty_user",
            )
        if len(pool) < wanted:
            say(
                f"score: {kind} queries have {len(pool)} distinct training prompts that fit, so the contrastive mean "
                f"is over {len(pool) - 1} others, not {params.contrastive_prompts}"
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
