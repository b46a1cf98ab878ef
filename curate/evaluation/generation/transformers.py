"""The engine that runs anywhere: batches of a transformers model with a key-value cache, finished rows dropped.

A loop of its own, for transformers' `generate` keeps finished rows to the end: 1.8 times slower with the embedded
reference model, whose answers differ in length (benchmarks/generation.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from curate.base import memory
from curate.base.device import device
from curate.base.errors import InputError
from curate.base.progress import say
from curate.evaluation.generation.base import Generated, Request
from curate.evaluation.generation.batches import batches, tokens_each
from curate.evaluation.generation.draw import Draw
from curate.models.load import load_model
from curate.models.resolve import Model
from curate.scoring.budget import Budget
from curate.scoring.engines import installed
from curate.scoring.packing import probe
from curate.scoring.packing.forward import stretches_beyond

BATCH_TOKENS = {"cpu": 32_768, "cuda": 131_072}  # of a batch, prompts and answers at their longest
CACHE_BYTES = 2**31  # keys and values of a batch, at most (or one request); on a GPU half of what is free
LOGITS_BYTES = 2**30  # float32 logits of a batch's next tokens, at most
COMPACT = 0.75  # finished rows are dropped once no more than this share of the batch goes on


class TransformersGeneration:
    """A request's answer depends on the request alone, up to the last bits of its logits: a matrix product's rounding
    can change with the number of rows, and with it a choice between tokens that are as good as tied.

    Args:
        stop: tokens that end an answer.
    """

    def __init__(self, model: Model, dtype: str, stop: Collection[int]) -> None:
        self.version = installed("transformers")
        self.model: Any = load_model(model, dtype).eval()
        if "past_key_values" not in inspect.signature(self.model.forward).parameters:
            raise InputError(
                "the transformers engine cannot generate with this model",
                file=model.path,
                found=f"{type(self.model).__name__}, which keeps no keys and values",
                remedy="--engine vllm, where it knows the model",
            )
        self.device = device()
        self.stop = torch.tensor(sorted(stop), dtype=torch.int64, device=self.device)
        config = self.model.config.get_text_config()
        room = _cache_bytes(self.device) // _cache_bytes_a_token(config, self.model.dtype.itemsize)
        self.budget = Budget(
            min(BATCH_TOKENS[self.device.type], room),
            "evaluate",
            model.path,
            "use dtype bfloat16, a lower max_tokens or a larger device",
        )
        self.rows = max(1, LOGITS_BYTES // (4 * config.vocab_size))
        self.alone_beyond = stretches_beyond(config)
        unpadded = probe.padding_fault(self.model, dtype)
        if unpadded:
            say(f"evaluate: this model answers one request at a time, which is slower: {unpadded}")
            self.alone_beyond = 0
        if self.device.type == "cpu":
            memory.keep_freed()

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """As the protocol says. Where a batch does not fit the device's memory, it goes on with half of it.

        Raises:
            InputError: a request alone does not fit either; logits that are no finite numbers.
        """

        def run(batch: list[int]) -> list[Generated]:
            return self._batch([requests[number] for number in batch])  # type: ignore[no-any-return]

        def length(batch: list[int]) -> int:
            return tokens_each([requests[number] for number in batch])

        together = (part for batch in batches(requests, self.budget.tokens) for part in self._together(requests, batch))
        out: dict[int, Generated] = {}
        for part, answers in self.budget.each(together, length, run, "requests"):
            out |= zip(part, answers, strict=True)
        return [out[number] for number in range(len(requests))]

    def close(self) -> None:
        del self.model
        memory.give_back()

    def _together(self, requests: Sequence[Request], batch: list[int]) -> list[list[int]]:
        """The batch, cut to as many rows as logits may have; requests that no other may lengthen are alone."""
        # A stretching rotary embedding goes by the longest sequence of the pass.
        alone = [n for n in batch if len(requests[n].prompt_ids) + requests[n].max_tokens > self.alone_beyond]
        others = [number for number in batch if number not in set(alone)]
        cut = [others[start : start + self.rows] for start in range(0, len(others), self.rows)]
        return [*([number] for number in alone), *cut]

    @torch.inference_mode()
    def _batch(self, requests: Sequence[Request]) -> list[Generated]:
        draw = Draw(requests, self.device)
        limits = torch.tensor([request.max_tokens for request in requests], device=self.device)
        written = torch.zeros((len(requests), int(limits.max())), dtype=torch.int64, device=self.device)
        lengths = torch.zeros_like(limits)
        stopped = torch.zeros_like(limits, dtype=torch.bool)
        finite = torch.ones((), dtype=torch.bool, device=self.device)

        cache: Any = None  # then what the model makes: some have one of their own kind (MiniMax)
        ids, mask = _left_padded(requests, self.device)
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        rows = torch.arange(len(requests), device=self.device)  # which request each row of the batch is
        live = torch.ones_like(stopped)
        for step in range(written.shape[1]):
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=None if len(requests) == 1 else positions,  # some count from another number (RoBERTa)
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits, cache = out.logits[:, -1], out.past_key_values
            finite &= (logits.amax(-1).isfinite() | ~live).all()
            tokens = draw.next(logits.float(), rows, step)
            ended = torch.isin(tokens, self.stop)
            written[rows, step] = tokens
            lengths[rows] += live & ~ended
            stopped[rows] |= live & ended
            live = live & ~ended & (step + 1 < limits[rows])
            going = int(live.sum())
            if not going:
                break
            # A finished row stays within the context.
            ids, positions = tokens[:, None], positions[:, -1:] + live[:, None]
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
            if going <= COMPACT * len(live):
                keep = live.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                ids, positions, mask, rows, live = (part[keep] for part in (ids, positions, mask, rows, live))
        if not finite:
            raise InputError(
                "the model gives logits that are no finite numbers",
                found=self.model.name_or_path,
                remedy="use dtype float32 or bfloat16, and check the model's weights",
            )
        return [
            Generated(tokens[:length], "stop" if stop else "length")
            for tokens, length, stop in zip(written.tolist(), lengths.tolist(), stopped.tolist(), strict=True)
        ]


def _left_padded(requests: Sequence[Request], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt ids and attention mask, int64 [requests, longest prompt]."""
    longest = max(len(request.prompt_ids) for request in requests)
    ids = np.zeros((len(requests), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, request in enumerate(requests):
        ids[row, longest - len(request.prompt_ids) :] = request.prompt_ids
        mask[row, longest - len(request.prompt_ids) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _cache_bytes(device: torch.device) -> int:
    """Of a batch, with the model in memory."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else CACHE_BYTES


def _cache_bytes_a_token(config: Any, itemsize: int) -> int:
    """Keys and values of all layers."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * kept * head_dim * itemsize)
