"""Whether packs suit a model: the same few sequences packed and alone, and one beside others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from curate.base import memory
from curate.base.errors import first_line
from curate.models.faults import fitting
from curate.models.rendering import TokenSequence
from curate.models.resolve import CONTEXT_KEYS
from curate.scoring.packing import attention
from curate.scoring.packing.forward import pad, response_logps, stretches_beyond
from curate.scoring.packing.packs import Pack, packs

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}  # packed against alone, nats/token
LEAK_TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-3, "float16": 1e-3}  # beside these or other sequences, nats/token

Alone = Callable[[TokenSequence], float]
"""A sequence's log-probability, summed over the response, run by itself with the model's own attention."""
Packed = Callable[[Pack], tuple[np.ndarray, set[int | None]]]
"""Log-probs [S] of a pack's scored tokens, and the sliding windows that the model's layers named."""


def fault(model: Any, dtype: str, alone: Alone, packed: Packed) -> str | None:
    """Why packs do not suit `model`, in a few words; None if they do, and then its attention is `attention.TREE`.

    Raises:
        InputError: there is no memory left beside the model.
    """
    with fitting(getattr(model, "name_or_path", None)):
        return _fault(model, dtype, alone, packed)


def _fault(model: Any, dtype: str, alone: Alone, packed: Packed) -> str | None:
    config = model.config.get_text_config()
    probe, others = (sequences(config.vocab_size, seed, positions(config)) for seed in (0, 1))
    tokens = np.array([len(sequence.response_ids) for sequence in probe])
    expected = np.array([alone(sequence) for sequence in probe]) / tokens
    attention.register()
    own = model.config._attn_implementation
    try:
        if type(model.get_output_embeddings()) is not torch.nn.Linear or getattr(config, "attention_chunk_size", None):
            raise attention.Unsupported("its LM head or its attention is its own")
        model.set_attn_implementation(attention.TREE)
        (pack,) = packs(probe, 1024)
        logps, windows = packed(pack)
        if getattr(config, "sliding_window", None) is not None and windows == {None}:
            raise attention.Unsupported("its sliding window is its own")
        found = np.bincount(pack.owners, weights=logps) / tokens
        if difference := beyond_rounding(found, expected, tokens, dtype):
            raise attention.Unsupported(f"packed and alone differ by {difference:.1e} nats/token")
        # One sequence again, after and beside others of the same lengths: its own prompt's and another's.
        prompt, kept = probe[2].prompt_ids, probe[2]
        beside = [TokenSequence(prompt, other.response_ids) for other in others[:2]] + others[3:]
        (pack,) = packs([kept, *beside], 1024)
        logps, _ = packed(pack)
        leak = float(abs(logps[pack.owners == 0].sum() / tokens[2] - found[2]))
        if not leak <= LEAK_TOLERANCE[dtype]:
            raise attention.Unsupported(f"what stands beside a sequence moves it by {leak:.1e} nats/token")
    except (attention.Unsupported, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if memory.no_room(error):
            raise
        model.set_attn_implementation(own)
        return first_line(error)
    return None


def padding_fault(model: Any, dtype: str) -> str | None:
    """Why left-padded batches do not suit `model`, in a few words; None if they give what each sequence gives alone.

    A recurrent state reads the padding, and so does what counts positions for itself (RWKV, RecurrentGemma, CPMAnt).

    Raises:
        InputError: there is no memory left beside the model.
    """
    with fitting(getattr(model, "name_or_path", None)):
        told: str | None = _padding_fault(model, dtype)
    return told


@torch.inference_mode()
def _padding_fault(model: Any, dtype: str) -> str | None:
    config = model.config.get_text_config()
    if getattr(config, "index_topk", None) is not None:  # which shows beyond so many tokens alone
        return "its attention picks tokens, and padding takes their places"
    where, apart = next(model.parameters()).device, stretches_beyond(config)
    every = sequences(config.vocab_size, 0, positions(config))
    # And short ones, most of a row padding, all of them within a convolution's reach of it.
    every += [TokenSequence(s.prompt_ids[:1], s.response_ids[:2]) for s in (every[0], every[-1])]
    # Those on one side of the length from which a rotary embedding goes by the longest of the batch.
    some = max(([s for s in every if (s.length <= apart) is short] for short in (True, False)), key=len)
    tokens = np.array([len(sequence.response_ids) for sequence in some])
    alone = np.array([float(response_logps(model, pad([sequence]).to(where))[0]) for sequence in some])
    batch = pad(some)
    # Padded with a token that means something: that of padding may be all zeros in a model that has not been trained.
    seen = batch.input_ids.masked_fill(batch.attention_mask == 0, int(some[0].prompt_ids[0]))
    try:
        together = response_logps(model, batch._replace(input_ids=seen).to(where)).double().cpu().numpy()
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        if memory.no_room(error):
            raise
        return first_line(error)
    difference = beyond_rounding(together / tokens, alone / tokens, tokens, dtype)
    return f"padding moves a sequence by {difference:.1e} nats/token" if difference else None


def beyond_rounding(found: np.ndarray, expected: np.ndarray, tokens: np.ndarray, dtype: str) -> float:
    """The largest difference of log-probs [S], nats/token, that is more than `TOLERANCE` and rounding; 0 where none is.

    A token's log-probability is rounded by its size: a response of one token, by that much, and a longer one by less.
    """
    differences = np.abs(found - expected)
    rounding = torch.finfo(getattr(torch, dtype)).eps * np.abs(expected) / np.sqrt(tokens)
    return float(differences[~(differences <= TOLERANCE[dtype] + rounding)].max(initial=0.0))


def positions(config: Any) -> int | None:
    """Positions that the model's configuration names: a table of so many embeddings has no more."""
    found = (getattr(config, name, None) for name in CONTEXT_KEYS)
    return next((number for number in found if isinstance(number, int)), None)


def sequences(vocabulary: int, seed: int, longest: int | None = None) -> list[TokenSequence]:
    """Two prompts and five responses of seeded tokens, one of a single token; 200 tokens in a pack.

    The longest has 120 tokens; where a model has fewer positions, `longest`, all are shortened alike.
    """
    draw = np.random.default_rng(seed)
    share = min(1.0, (longest or 120) / 120)

    def ids(length: int) -> np.ndarray:
        return draw.integers(0, vocabulary, max(1, int(length * share)), dtype=np.int32)

    first, second = ids(17), ids(60)
    return [
        *(TokenSequence(first, ids(length)) for length in (30, 1, 12)),
        *(TokenSequence(second, ids(length)) for length in (60, 25)),
    ]
