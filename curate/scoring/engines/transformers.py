"""The engine that runs anywhere: packs through a transformers model, the LM head in tiles.

A model that packs do not suit (its own attention, scaled logits, a recurrent state) is found out when it is loaded,
by scoring a few sequences both ways, and runs in batches of sequences of one length instead: no padding, so that what
is exact for one sequence is exact for a batch, whatever the architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from curate.base import memory, native
from curate.base.device import device
from curate.base.errors import InputError
from curate.base.progress import say
from curate.models.load import load_model
from curate.models.products.layers import fuse
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model
from curate.scoring.budget import Budget
from curate.scoring.packing import attention, probe
from curate.scoring.packing.forward import of_one_length, pad, response_logps, stretches_beyond
from curate.scoring.packing.head import Head, repack_linears, repacks
from curate.scoring.packing.last import trim
from curate.scoring.packing.packs import Pack, packs
from curate.scoring.packing.tree import kernels

BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}  # in one forward pass, at most (or one sequence)
FEWEST_TOKENS = 512  # a pass that does not fit the device's memory is halved, down to this
WORKERS = 4  # packs at once on a CPU, at most: Python runs one thread at a time between their steps
LOGITS_BYTES = 2**31  # float32 logits of one such batch, at most, whatever the vocabulary

_Scored = tuple[list[int], np.ndarray]
"""Rows of one pass, and the log-prob of each."""


class TransformersEngine:
    """Scores in packs. [tokens x vocabulary] is never held; but for a pass of a model that packs do not suit."""

    def __init__(self, model: Model, dtype: str, *, packed: bool = True, tell: Callable[[str], None] = say) -> None:
        self.model: Any = load_model(model, dtype).eval()
        self.path = model.path
        self.device = device()
        config = self.model.config.get_text_config()
        self.budget = Budget(
            BATCH_TOKENS[self.device.type],
            "score",
            self.path,
            "use dtype bfloat16, or set max_length and set longer pairs aside with too_long: reject",
        )
        self.workers = min(WORKERS, torch.get_num_threads()) if self.device.type == "cpu" else 1
        self.unpacked_budget = min(self.budget.tokens, LOGITS_BYTES // (4 * config.vocab_size))
        if self.device.type == "cpu":
            memory.keep_freed()
        self.alone_beyond = stretches_beyond(config)
        self._own = self.model.config._attn_implementation
        self.head: Head | None = None
        self.fault: str | None = None  # why packs do not suit
        if packed:
            self._try_packs(config, dtype, tell)
        if self.head is None:
            self.budget.tokens = self.unpacked_budget

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """As the protocol says. Where a pass does not fit the device's memory, it goes on with passes of half the size,
        of what the passes before have not scored.

        Raises:
            InputError: the smallest do not fit either; or a token that the model has no embedding of.
        """
        self._check_tokens(sequences)
        out = np.full(len(sequences), np.nan, dtype=np.float64)
        self.budget.fit(
            lambda tokens: self._fill(out, sequences, tokens), self.budget.tokens, "tokens", least=FEWEST_TOKENS
        )
        return out

    def _check_tokens(self, sequences: Sequence[TokenSequence]) -> None:
        known = len(self.model.get_input_embeddings().weight)
        highest = max((int(ids.max()) for sequence in sequences for ids in sequence if len(ids)), default=0)
        if highest >= known:
            raise InputError(
                "the tokenizer has tokens that the model does not know",
                file=self.path,
                found=f"token {highest}",
                expected=f"ids below {known}",
                remedy="give the tokenizer that belongs to the model",
            )

    @torch.inference_mode()
    def _fill(self, out: np.ndarray, sequences: Sequence[TokenSequence], tokens: int) -> None:
        """What of `out` is NaN, in passes of so many tokens, at most; each pass is kept where a later one fails."""
        # A stretching rotary embedding goes by the longest sequence of the pass: such must be of one length.
        packed = np.array([self.head is not None and s.length <= self.alone_beyond for s in sequences], dtype=bool)
        for score, which in ((self._packed, packed), (self._beyond_packs, ~packed)):
            numbers = np.flatnonzero(which & np.isnan(out))
            if numbers.size:
                for rows, logps in score([sequences[number] for number in numbers], tokens):
                    out[numbers[rows]] = logps

    def close(self) -> None:
        del self.model, self.head
        memory.give_back()

    def _packed(self, sequences: Sequence[TokenSequence], tokens: int) -> Iterator[_Scored]:
        for pack, logps in self._each(packs(sequences, tokens, self.workers)):
            rows, owners = np.unique(pack.owners, return_inverse=True)
            yield rows.tolist(), np.bincount(owners, weights=logps)

    def _each(self, every: Iterable[Pack]) -> Iterator[tuple[Pack, np.ndarray]]:
        """Each pack with its log-probs, in order. On a CPU several at once, a share of the cores each: packs are small,
        and cores that work on packs of their own neither wait for each other at every step nor share a cache."""
        if self.workers == 1:
            yield from ((pack, self._one_pack(pack)[0]) for pack in every)
            return
        threads = max(1, torch.get_num_threads() // self.workers)
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
            yield from pool.map(lambda pack: (pack, self._one_pack(pack)[0]), every)

    @torch.inference_mode()
    def _one_pack(self, pack: Pack) -> tuple[np.ndarray, set[int | None]]:
        """Log-probs [S] of a pack's scored tokens, float64; and the sliding windows that its layers named."""
        assert self.head is not None
        ids, positions, rows, targets = (
            torch.from_numpy(part).to(self.device, non_blocking=True)
            for part in (pack.input_ids, pack.position_ids, pack.rows, pack.targets)
        )
        with attention.attending(pack, self.device) as windows:
            states = self.model.base_model(
                input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False
            ).last_hidden_state[0]
        return self.head.logps(states[rows], targets).double().cpu().numpy(), windows

    @contextmanager
    def own_attention(self) -> Iterator[None]:
        """Within this block the model attends as its makers had it, where packs have put theirs in its place."""
        used = self.model.config._attn_implementation
        if used == self._own:
            yield
            return
        self.model.set_attn_implementation(self._own)
        try:
            yield
        finally:
            self.model.set_attn_implementation(used)

    def _beyond_packs(self, sequences: Sequence[TokenSequence], tokens: int) -> Iterator[_Scored]:
        with self.own_attention():
            yield from self._unpacked(sequences, tokens)

    def _unpacked(self, sequences: Sequence[TokenSequence], tokens: int) -> Iterator[_Scored]:
        for rows in of_one_length([sequence.length for sequence in sequences], min(tokens, self.unpacked_budget)):
            batch = pad([sequences[row] for row in rows]).to(self.device)
            yield rows, response_logps(self.model, batch).double().cpu().numpy()

    @torch.inference_mode()
    def _try_packs(self, config: Any, dtype: str, tell: Callable[[str], None]) -> None:
        """Turn to packs if this model gives the same numbers with them; else say so and leave it."""

        def alone(sequence: TokenSequence) -> float:
            ((_, (logp,)),) = self._unpacked([sequence], sequence.length)
            return float(logp)

        def packed(pack: Pack) -> tuple[np.ndarray, set[int | None]]:
            if self.head is None:
                self.head = Head(self.model.get_output_embeddings(), getattr(config, "final_logit_softcapping", None))
            return self._one_pack(pack)  # type: ignore[no-any-return]

        fuse(self.model)
        trim(self.model)
        self.fault = probe.fault(self.model, dtype, alone, packed)
        if self.fault:
            tell(f"score: this model runs without packs, which is slower: {self.fault}")
            self.head = None
        elif repacks(self.device):
            if not kernels():
                tell(f"score: {native.MISSING}")
            repack_linears(self.model, keep=self.model.get_output_embeddings())
            trim(self.model)
