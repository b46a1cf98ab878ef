"""The engine that runs anywhere: padded batches through a transformers model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from curate.errors import InputError
from curate.models import Model
from curate.rendering import TokenSequence
from curate.scoring.forward import pad, response_logps

BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}  # padded tokens in one forward pass, at most
LOGITS_BYTES = 2**31  # float32 logits of one forward pass, at most, whatever the vocabulary


def device() -> torch.device:
    """The CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(model: Model, dtype: str) -> torch.nn.Module:
    """The model on `device()`.

    Raises:
        InputError: transformers cannot load it, or it does not fit.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            model.path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=model.trust_remote_code,
            attn_implementation="sdpa",
        )
        return loaded.to(device())  # type: ignore[no-any-return]
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the model does not fit the device's memory",
            file=model.path,
            found=str(error).splitlines()[0],
            remedy="use dtype bfloat16 or a larger device",
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError("cannot load the model", file=model.path, found=str(error).splitlines()[0]) from error


class TransformersEngine:
    """Scores sequences of like length together; [tokens x vocabulary] is held for one forward pass only."""

    def __init__(self, model: Model, dtype: str) -> None:
        self.model = load_model(model, dtype).eval()
        self.device = device()
        vocabulary = self.model.config.get_text_config().vocab_size  # type: ignore[union-attr]
        self.budget = min(BATCH_TOKENS[self.device.type], LOGITS_BYTES // (4 * vocabulary))

    @torch.inference_mode()
    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        out = np.empty(len(sequences), dtype=np.float64)
        try:
            for rows in _buckets(sequences, self.budget):
                batch = pad([sequences[row] for row in rows]).to(self.device)
                out[rows] = response_logps(self.model, batch).double().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise InputError(
                "a batch does not fit the device's memory",
                found=str(error).splitlines()[0],
                remedy="use dtype bfloat16, or set max_length and set longer pairs aside with too_long: reject",
            ) from error
        return out

    def close(self) -> None:
        del self.model


def _buckets(sequences: Sequence[TokenSequence], budget: int) -> Iterator[list[int]]:
    """Row numbers of forward passes: longest first, at most `budget` padded tokens each (or one sequence)."""
    rows: list[int] = []
    longest = 0
    for row in sorted(range(len(sequences)), key=lambda row: -sequences[row].length):
        longest = longest or sequences[row].length
        if rows and longest * (len(rows) + 1) > budget:
            yield rows
            rows, longest = [], sequences[row].length
        rows.append(row)
    if rows:
        yield rows
