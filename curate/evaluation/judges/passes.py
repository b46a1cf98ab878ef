"""Verdicts of one forward pass: probabilities that a model gives on token ids, kept by content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from curate.base import memory
from curate.base.device import device
from curate.base.errors import InputError
from curate.base.progress import progress, say
from curate.evaluation.generation.cache import TextCache, key, parsed
from curate.evaluation.generation.local import close_all
from curate.models.resolve import Model
from curate.pairs.identity import digest
from curate.scoring.budget import Budget
from curate.scoring.engines import installed
from curate.scoring.engines.transformers import BATCH_TOKENS

Inputs = Mapping[str, list[int]]  # what a tokenizer gives for one text: input_ids, and whatever goes with them
Run = Callable[[dict[str, torch.Tensor]], torch.Tensor]  # [rows, length] each -> probabilities [rows, labels]

KEEP_EVERY = 64  # verdicts between two writes of the cache, about


class Passes:
    """A model's probabilities. A batch holds rows of one length and no padding, so that a verdict does not depend on
    what else is judged. The model is loaded when the first verdict is missing, and again after `close`.

    Args:
        labels: probabilities of one verdict.
    """

    def __init__(self, model: Model, dtype: str, state: Path, labels: int, load: Callable[[], Run]) -> None:
        self.model = model
        self.scope = {"model": model.digest, "dtype": dtype, "engine": installed("transformers")}
        self._cache = TextCache(state / "verdicts" / digest(self.scope), partial(_read, labels=labels))
        self._load = load
        self._run: Run | None = None
        self._budget = Budget(
            BATCH_TOKENS[device().type], "judge", model.path, "set judge_dtype bfloat16, or use a smaller judge"
        )

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[Inputs]) -> list[list[float]]:
        """Probabilities of each.

        Raises:
            InputError: the model cannot be loaded, a text does not fit, or a number is none; what is done is kept.
        """
        keys = [key(dict(each)) for each in inputs]
        wanted = dict(zip(keys, inputs, strict=True))
        kept = zip(wanted, self._cache.lookup(list(wanted)), strict=True)
        found = {each: shares for each, shares in kept if shares is not None}
        missing = [each for each in wanted if each not in found]
        if missing:
            with progress("judge", len(missing), "responses") as advance:
                fresh: list[bytes] = []
                try:
                    for rows, shares in self._passes([wanted[each] for each in missing]):
                        batch = [missing[row] for row in rows]
                        found |= dict(zip(batch, shares, strict=True))
                        fresh += batch
                        if len(fresh) >= KEEP_EVERY:
                            self._keep(fresh, found)
                        advance(len(batch))
                finally:
                    self._keep(fresh, found)
        return [found[each] for each in keys]

    def close(self) -> None:
        if self._run is not None:
            self._run = None
            memory.give_back()

    def _keep(self, fresh: list[bytes], found: Mapping[bytes, list[float]]) -> None:
        self._cache.add(fresh, [json.dumps(found[each]) for each in fresh])
        fresh.clear()

    def _passes(self, inputs: Sequence[Inputs]) -> Iterator[tuple[list[int], list[list[float]]]]:
        """The numbers of each pass's inputs, and their probabilities."""
        lengths = [len(each["input_ids"]) for each in inputs]
        return self._budget.of_one_length(lengths, lambda rows: self._pass([inputs[row] for row in rows]), "responses")

    def _pass(self, inputs: Sequence[Inputs]) -> list[list[float]]:
        if self._run is None:
            if device().type == "cuda":
                close_all()
            say(f"judge: {self.model.name} in {self.scope['dtype']}, {self.scope['engine']}")
            self._run = self._load()
        # Each may have parts of its own (token types), the same for all texts of a tokenizer.
        batch = {name: torch.tensor([each[name] for each in inputs], device=device()) for name in inputs[0]}
        out = self._run(batch | {"attention_mask": torch.ones_like(batch["input_ids"])}).double().cpu()
        if not torch.isfinite(out).all():
            raise InputError(
                "the judge gives a number that is no finite one",
                file=self.model.path,
                remedy="set judge_dtype float32 or bfloat16, and check the model's weights",
            )
        return [list(map(float, row)) for row in out.tolist()]


def _read(text: str, labels: int) -> list[float]:
    """What `_keep` wrote. Raises `ValueError` for anything else."""
    match parsed(text):
        case [*shares] if len(shares) == labels and all(
            type(one) is float and -1e-6 <= one <= 1 + 1e-6 for one in shares
        ):
            return shares
    raise ValueError(f"no {labels} probabilities")
