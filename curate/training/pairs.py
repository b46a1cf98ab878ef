"""Weighted pairs as the trainer sees them: token ids, stored reference log-probs, weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from curate.base.progress import progress
from curate.models.rendering import TokenSequence, prefill_token_ids, render_pairs
from curate.objectives.door import prefix_length
from curate.pairs.identity import draw_order
from curate.training.work import Work

NUMBERS = (
    "ref_chosen_logps",
    "ref_rejected_logps",
    "chosen_weight",
    "rejected_weight",
    "pair_scale",
    "chosen_tokens",
    "rejected_tokens",
    "chosen_unsafe",
    "rejected_unsafe",
    "harmful",
)
"""Those of `curate.objectives.registry.TENSORS` that come with the data."""

ROLES = ("chosen", "rejected", "refusal")

MEASURED = -1
"""In place of an epoch: the draw of DOOR's beginnings that every evaluation of every arm has. [ours]"""


class Pair(NamedTuple):
    """One training example. A sequence that its loss does not need is None."""

    chosen: TokenSequence | None
    rejected: TokenSequence | None
    refusal: TokenSequence | None  # DOOR: the chosen response after the beginning of the rejected one
    refusal_weights: np.ndarray | None  # W-DOOR: of the refusal's tokens, float32
    numbers: tuple[float, ...]  # NUMBERS, in that order


class Refusals(NamedTuple):
    """How DOOR draws its beginnings, and W-DOOR's token weights by pair_id."""

    seed: int
    longest: int  # tokens
    context: int  # of the model, tokens: beginning and all
    token_weights: dict[str, np.ndarray] | None = None


def draw(frame: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """At most `count` rows, those of lowest hash(seed, pair id): the same draw whatever the order of the rows."""
    order = draw_order(frame["pair_id"], seed)
    return (
        frame.with_columns(pl.Series("_draw", order, dtype=pl.Binary))
        .sort("_draw", "pair_id")
        .head(count)
        .drop("_draw")
    )


class PairDataset(torch.utils.data.Dataset[Pair]):
    """Tokenised pairs in memory: three int32 sequences and the numbers of each.

    Args:
        refusals: train on DOOR's sequences: of a harmful pair the refusal and the rejected response, of a benign one
            the chosen response. None: both responses of every pair.
        measured: both responses of every pair, beside DOOR's refusals: what rewards are of, too.

    Attributes:
        epoch: which of DOOR's draws holds; the trainer sets it.
    """

    def __init__(
        self, tokenizer: Any, frame: pl.DataFrame, refusals: Refusals | None = None, measured: bool = False
    ) -> None:
        with progress("pairs into tokens", frame.height, "pairs") as advance:
            self.rendered = render_pairs(tokenizer, frame, advance)
        unsafe = {f"{side}_unsafe": ~pl.col(f"{side}_safe").fill_null(True) for side in ("chosen", "rejected")}
        # null where the source is silent: counts as safe here; SafeDPO, which reads it, refuses such rows before.
        self.numbers = frame.with_columns(**unsafe).select(pl.col(NUMBERS).cast(pl.Float64)).rows()
        self.refusals, self.measured = refusals, measured
        self.epoch = MEASURED if measured else 0
        # What may stand before a refusal: the rejected response's own text, nothing that the template ends it with.
        self.beginnings = []
        if refusals is not None:
            prompts, said = frame["prompt"].to_list(), [turns[-1]["content"] for turns in frame["rejected"].to_list()]
            self.beginnings = prefill_token_ids(tokenizer, prompts, said, [f"pair {pair}" for pair in frame["pair_id"]])

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: int) -> Pair:
        pair_id, *sequences = self.rendered.row(row)
        prompt, chosen, rejected = (np.asarray(ids, dtype=np.int32) for ids in sequences)
        numbers = self.numbers[row]
        plain = Pair(TokenSequence(prompt, chosen), TokenSequence(prompt, rejected), None, None, numbers)
        if self.refusals is None:
            return plain
        if not numbers[NUMBERS.index("harmful")]:
            return plain if self.measured else plain._replace(rejected=None)
        seed, longest, context, weights = self.refusals
        length = prefix_length(
            pair_id,
            seed=seed,
            epoch=self.epoch,
            harmful_tokens=len(self.beginnings[row]) + 1,
            longest=longest,
            room=max(context - len(prompt) - len(chosen), 0),
        )
        beginning = np.asarray(self.beginnings[row][:length], dtype=np.int32)
        refusal = TokenSequence(np.concatenate([prompt, beginning]), chosen)
        begun = plain._replace(refusal=refusal, refusal_weights=None if weights is None else weights[pair_id])
        return begun if self.measured else begun._replace(chosen=None)


class Collator:
    """Pairs -> a batch: `work`, NUMBERS [pairs] float32, and where each role's sequence is in the work [pairs].

    Args:
        alignment: the objective needs WPO's alignments.
    """

    def __init__(self, alignment: bool = False) -> None:
        self.alignment = alignment

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        sequences: list[TokenSequence] = []
        weights: list[np.ndarray | None] = []
        places: dict[str, list[int]] = {}
        for role in ROLES:
            places[role] = []
            for pair in pairs:
                sequence = getattr(pair, role)
                places[role].append(len(sequences) if sequence is not None else -1)
                if sequence is not None:
                    sequences.append(sequence)
                    weights.append(pair.refusal_weights if role == "refusal" else None)
        # Where a pair has no refusal, nothing reads it: any finite number does.
        places["refusal"] = [
            own if own >= 0 else chosen for own, chosen in zip(places["refusal"], places["chosen"], strict=True)
        ]
        numbers = torch.tensor([pair.numbers for pair in pairs], dtype=torch.float32)
        return {
            **dict(zip(NUMBERS, numbers.unbind(1), strict=True)),
            **{f"{role}_at": torch.tensor(places[role]) for role in ROLES},
            "work": Work(sequences, weights, self.alignment),
        }
