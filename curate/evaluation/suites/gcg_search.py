"""nanogcg's search for a suffix (0.3.0), as it runs with today's transformers and on the very tokens that we render.

What it takes to run it: its prefix cache is left off, for it indexes and reuses the key-value cache as older versions
of transformers had it; the tokenizer is handed over in a wrapper that renders as `curate.models.rendering` does;
tokens that no plain text has are kept out of the suffix; its bar gives way to ours, and so does what it makes of
candidates that do not fit the memory. nanogcg tokenises request, suffix and template apart, so that of the suffixes of
all steps the one counts under which the target is likeliest once the whole is rendered.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from curate.base import memory
from curate.base.device import as_deterministic_as_before, device
from curate.base.errors import InputError
from curate.base.progress import Advance
from curate.evaluation.suites.base import user
from curate.models.faults import fitting
from curate.models.load import load_model
from curate.models.rendering import (
    TokenSequence,
    load_tokenizer,
    prefill_token_ids,
    prompt_text,
    prompt_token_ids,
)
from curate.models.resolve import Model
from curate.scoring.budget import Budget
from curate.scoring.engines.transformers import BATCH_TOKENS
from curate.scoring.packing.forward import pad, response_logps

INITIAL = " ".join(["x"] * 20)
SLOT = "{optim_str}"  # nanogcg's
LOGITS_BYTES = 2**32  # float32 logits of the candidates in one forward pass, at most, about (or one candidate)
REMEDY = "evaluate in dtype bfloat16, on a larger device or without the suite gcg"
SEPARATOR = "\n"
"""Between request and suffix. The paper's space would melt into the suffix's first token; a line's end does not."""


class Searcher:
    """Searches for suffixes against one model.

    Args:
        topk: at most; no more than the tokens that a suffix may have.
        advance: called after every step.

    Raises:
        InputError: the model or its tokenizer cannot be loaded.
    """

    def __init__(self, model: Model, dtype: str, steps: int, search_width: int, topk: int, advance: Advance) -> None:
        from nanogcg import gcg

        logging.getLogger("nanogcg").setLevel(logging.ERROR)
        self.tokenizer = load_tokenizer(model)
        self.model: Any = load_model(model, dtype).eval().requires_grad_(False)
        self.context, self.steps, self.advance = model.context, steps, advance
        self.config = gcg.GCGConfig(
            num_steps=steps,
            search_width=search_width,
            optim_str_init=INITIAL,
            use_prefix_cache=False,
            allow_non_ascii=True,  # what is barred is found out here, once for all behaviours
        )
        self.barred = self._barred(gcg.get_nonascii_toks(self.tokenizer).tolist())
        rows = self.model.get_input_embeddings().num_embeddings
        self.config.topk = min(topk, rows - len(self.barred))
        self.path = model.path
        self.candidates = Budget(LOGITS_BYTES // (4 * rows), "gcg", self.path, REMEDY)
        self.suffixes = Budget(BATCH_TOKENS[device().type], "gcg", self.path, REMEDY)

    def search(self, goal: str, target: str, seed: int) -> tuple[str, float, float] | None:
        """(what is to stand behind the goal, the target's loss with what the search began with, and with this); None
        where request and target do not fit the context.

        Raises:
            InputError: the tokenizer cannot say a suffix, or a single candidate does not fit the device's memory.
        """
        first = self._losses(goal, target, [INITIAL])[0]
        if math.isinf(first):
            self.advance(self.steps)
            return None
        # nanogcg would try the whole width first.
        (sequence,) = self._sequences(goal, target, [INITIAL])
        self.config.batch_size = min(self.config.search_width, self.candidates.rows(sequence.length))
        strings = list(dict.fromkeys([INITIAL, *self._run(goal, target, seed).strings]))
        losses = self._losses(goal, target, strings)
        best = min(range(len(strings)), key=losses.__getitem__)
        return SEPARATOR + strings[best], first, losses[best]

    def close(self) -> None:
        """Give the device's memory back, for the engine that answers."""
        del self.model
        memory.give_back()

    def _run(self, goal: str, target: str, seed: int) -> Any:
        """nanogcg's result: `strings`, the suffix after each step, and `losses`."""
        from nanogcg import gcg

        self.config.seed = seed
        try:
            attack = gcg.GCG(self.model, _Rendering(self.tokenizer), self.config)
            attack.not_allowed_ids = torch.tensor(self.barred, device=device())
            # The slot is nanogcg's own: a goal that holds one would be cut there.
            content = goal.replace(SLOT, "") + SEPARATOR + SLOT
            # nanogcg turns deterministic kernels on, and collects garbage twice a step.
            with (
                self._in_place_of_its_own(gcg),
                as_deterministic_as_before(),
                memory.passing_over(),
                fitting(self.path, "a step of the search for a suffix", REMEDY),
            ):
                return attack.run(user(content), target)
        except RuntimeError as error:
            if "after decoding and re-encoding" not in str(error):
                raise
            raise InputError(
                "the search finds no suffix that this tokenizer reads as it wrote it",
                field="gcg",
                found=type(self.tokenizer).__name__,
                remedy="evaluate this model without the suite gcg",
            ) from error

    @contextmanager
    def _in_place_of_its_own(self, gcg: Any) -> Iterator[None]:
        """Within this block nanogcg has our bar, and our way with candidates that do not fit the device's memory: it
        would try the same number at every step, while what did not fit is still held, and end in a traceback."""
        bar, halving = gcg.tqdm, gcg.find_executable_batch_size
        gcg.tqdm, gcg.find_executable_batch_size = self._counted, self._halved
        try:
            yield
        finally:
            gcg.tqdm, gcg.find_executable_batch_size = bar, halving

    def _halved(self, losses: Callable[[int, torch.Tensor], torch.Tensor], most: int) -> Callable:
        """`losses(at_once, candidates)` as a function of the candidates [candidates, length, width], at most so many at
        once; of fewer from then on where these do not fit."""

        def of(candidates: torch.Tensor) -> torch.Tensor:
            number, length, _ = candidates.shape
            first = min(most, number)
            unit = f"candidates of {length:,} tokens"
            at_once, found = self.candidates.fit(
                lambda size: (size, losses(size, candidates)), first, unit, each=length
            )
            if at_once < first:
                self.config.batch_size = at_once
            return found

        return of

    def _counted(self, steps: Iterable[int]) -> Iterator[int]:
        for step in steps:
            yield step
            self.advance(1)

    def _barred(self, unprintable: list[int]) -> list[int]:
        """Besides what is no ASCII text: special tokens, and rows of the embedding that no token has."""
        rows = self.model.get_input_embeddings().num_embeddings
        special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return sorted({*unprintable, *special, *self.tokenizer.all_special_ids, *range(len(self.tokenizer), rows)})

    def _sequences(self, goal: str, target: str, suffixes: list[str]) -> list[TokenSequence]:
        """The goal with each suffix, and the target, tokenised as when they are asked."""
        names = [f"suffix {number}" for number in range(len(suffixes))]
        prompts = [user(goal + SEPARATOR + suffix) for suffix in suffixes]
        targets = prefill_token_ids(self.tokenizer, prompts, [target] * len(prompts), names)
        asked = prompt_token_ids(self.tokenizer, prompts, names)
        return [TokenSequence(*map(_ids, pair)) for pair in zip(asked, targets, strict=True)]

    @torch.inference_mode()
    def _losses(self, goal: str, target: str, suffixes: list[str]) -> list[float]:
        """-log p(target) behind the goal with each suffix, nats/token; infinite where that does not fit the context."""
        sequences = self._sequences(goal, target, suffixes)
        fits = [number for number, sequence in enumerate(sequences) if sequence.length <= self.context]
        losses = [math.inf] * len(sequences)

        def run(rows: list[int]) -> list[float]:
            batch = pad([sequences[fits[row]] for row in rows]).to(device())
            return response_logps(self.model, batch).tolist()  # type: ignore[no-any-return]

        lengths = [sequences[number].length for number in fits]
        for rows, logps in self.suffixes.of_one_length(lengths, run, "sequences"):
            for number, logp in zip((fits[row] for row in rows), logps, strict=True):
                losses[number] = -logp / len(sequences[number].response_ids)
        return losses


class _Rendering:
    """A tokenizer whose template is rendered, and tokenised, as `curate.models.rendering` does it."""

    bos_token = None  # the template has written it, and it is to stay

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any, **options: Any) -> Any:
        return self._tokenizer(text, **(options | {"add_special_tokens": False}))

    def apply_chat_template(self, messages: Any, tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize and add_generation_prompt
        return prompt_text(self._tokenizer, messages, "the request and its suffix")


def _ids(tokens: list[int]) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)
