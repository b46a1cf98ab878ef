"""The `reference` stage's model from scratch: gather texts, train a tokenizer, train a small Qwen2 on them. [ours]

Plain maximum likelihood on all tokens of a dialogue, the query's too. Some dialogues have an empty user turn,
so that log p(y|null) is no extrapolation.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.utils import deterministic

from curate.base.device import as_deterministic_as_before
from curate.base.exits import losing
from curate.base.files import replacing
from curate.base.memory import keep_freed
from curate.base.progress import progress, say
from curate.models.products.cores import Cores, together
from curate.models.products.head import token_logps
from curate.models.products.layers import lighten
from curate.models.products.tied import one_gradient, tie
from curate.models.resolve import REFERENCE, write_reference
from curate.models.scratch.batches import IGNORED, Batch, Reading, batches, windows
from curate.models.scratch.plain import Document
from curate.models.scratch.texts import Text, gather
from curate.models.scratch.tokenizer import token_ids, train_tokenizer
from curate.pairs.sources.base import user
from curate.project.params import CleaningParams, DataParams, ModelParams, ReferenceParams

LOST = "no model is kept half-trained, the same command trains it from the start"
DECAY = 0.1  # of matrices, as a fraction of the learning rate
THREADS = 8
"""At most: a model of this size gains nothing from more."""


def train_reference(params: ReferenceParams, data: DataParams, cleaning: CleaningParams, out: Path) -> dict[str, Any]:
    """Train the model and write it to the folder `out`: weights, tokenizer, generation config, reference.json.

    Same arguments, same machine: same bytes.

    Returns:
        documents, tokens (in all texts), parameters, vocab_size, loss (nats/token, mean over the last tenth).

    Raises:
        InputError: a text cannot be read.
        OutputError: `out` is a folder of something else, or cannot be written.
    """
    from curate.base.light import silence

    with losing(LOST), replacing(out, REFERENCE) as folder:
        texts = gather(params, data, cleaning)
        documents = list(chain.from_iterable(text.documents for text in texts))
        tokenizer = train_tokenizer(documents, params.vocab_size, params.context)
        readings = list(chain.from_iterable(_readings(tokenizer, text, params) for text in texts))
        with _deterministic(params):
            model = _new_model(tokenizer, params)
            loss = _fit(model, readings, params)
        summary = {
            "documents": len(documents),
            "tokens": sum(len(reading.ids) for reading in readings),
            "parameters": model.num_parameters(),
            "vocab_size": len(tokenizer),
            "loss": loss,
        }
        silence()
        model.cpu().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_reference(folder, ModelParams(name="scratch"))
    return summary


def _readings(tokenizer: Any, text: Text, params: ReferenceParams) -> Iterator[Reading]:
    left = params.text_tokens if text.capped and params.text_tokens else math.inf
    ids = token_ids(tokenizer, text.documents)
    asked = [_without_query(document) for document in text.documents]
    null_ids = iter(token_ids(tokenizer, [document for document in asked if document]))
    for whole, null in zip(ids, asked, strict=True):
        null_window = windows(next(null_ids), params.context)[0] if null else None
        for window in windows(whole, params.context):
            if left <= 0:
                return
            left -= len(window)
            yield Reading(window, null_window)


def _without_query(document: Document) -> Document | None:
    """The last response after an empty user turn; None where there is no response."""
    if isinstance(document, str) or document[-1]["role"] != "assistant":
        return None
    return [user(""), document[-1]]


def _new_model(tokenizer: Any, params: ReferenceParams) -> Any:
    from curate.base.light import transformers

    # Not pad here: it is bos, and torch does not train the embedding of padding.
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=params.hidden_size,
        intermediate_size=math.ceil(params.hidden_size * 8 / 3 / 64) * 64,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        num_key_value_heads=params.heads,
        max_position_embeddings=params.context,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        **tokens,
    )
    model = transformers.Qwen2ForCausalLM(config)
    model.generation_config = transformers.GenerationConfig(**tokens, pad_token_id=tokenizer.pad_token_id)
    return model


def _fit(model: Any, readings: list[Reading], params: ReferenceParams) -> float:
    """Train in place; the mean loss of the last tenth of the steps, nats/token."""
    on_gpu = torch.cuda.is_available()
    model.to("cuda" if on_gpu else "cpu").train()
    lighten(model)
    tie(model)
    if not on_gpu:
        keep_freed()
    number = 1 if on_gpu else together()
    optimizers = _optimizers(model, params, number)
    cores = Cores()
    feed = batches(readings, params.batch_tokens, params.null_fraction, params.seed)
    losses, tokens, start = [], 0, time.monotonic()
    with progress("reference", params.steps, "steps") as advance:
        for step in range(params.steps):
            batch = next(feed)
            count = int((batch.targets != IGNORED).sum())
            # On a CPU half of the rows on half of the cores.
            parts = [Batch(*(part[row::number] for part in batch)) for row in range(number)]
            parts = [part for part in parts if len(part.targets)]
            each = cores.each(partial(_backward, model, count), parts)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for side_by_side in optimizers:
                for group in chain.from_iterable(optimizer.param_groups for optimizer in side_by_side):
                    group["lr"] = params.learning_rate * _schedule(step, params.steps)
                cores.each(lambda optimizer: optimizer.step(), side_by_side)
            model.zero_grad(set_to_none=True)
            losses.append(torch.stack(each).sum())
            tokens += count
            advance()
    mean = float(torch.stack(losses[-max(1, params.steps // 10) :]).mean())
    seconds = time.monotonic() - start
    say(f"reference: loss {mean:.3f} nats/token, {tokens:,} tokens read, {tokens / seconds:,.0f}/s")
    return mean


def _optimizers(model: Any, params: ReferenceParams, number: int) -> list[list[torch.optim.Optimizer]]:
    """Of `params.optimizer`, one list after the other; those of a list, at most `number`, run side by side.

    Muon (Jordan et al. 2024) orthogonalises the update of each of the layers' matrices; scaled to the size of
    AdamW's (arXiv 2502.16982, equation 4), so that one learning rate serves both. The rest, the embedding too, is
    AdamW's."""
    by_muon = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in by_muon} if params.optimizer == "muon" else set()
    rest = [weight for weight in model.parameters() if id(weight) not in chosen]
    adamw = torch.optim.AdamW(
        [
            {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": DECAY},
            {"params": [weight for weight in rest if weight.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=params.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    if not chosen:
        return [[adamw]]
    parts = [by_muon[part::number] for part in range(number)]
    muon = partial(torch.optim.Muon, lr=params.learning_rate, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    return [[muon(part) for part in parts], [adamw]]


def _backward(model: Any, count: int, batch: Batch) -> torch.Tensor:
    """Adds to the gradients of the mean over `count` tokens what these rows have in it; returns their part of the mean.

    Right-padded: the causal mask alone keeps padding out of every token that counts.
    """
    device = model.device
    read = torch.from_numpy(batch.targets != IGNORED).flatten().nonzero().squeeze(1).to(device)
    targets = torch.from_numpy(batch.targets).flatten().to(device).index_select(0, read)
    with one_gradient():
        states = model.model(input_ids=torch.from_numpy(batch.input_ids).to(device), use_cache=False).last_hidden_state
        logps, _ = token_logps(states.flatten(0, 1).index_select(0, read), model.lm_head.weight, None, targets)
    loss = -logps.sum() / count
    loss.backward()
    return loss.detach()


def _schedule(step: int, steps: int) -> float:
    """Learning rate as a fraction of its peak: linear warm-up over 5% of the steps, then cosine to a tenth."""
    warmup = max(1, round(0.05 * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@contextmanager
def _deterministic(params: ReferenceParams) -> Iterator[None]:
    """Seeded, deterministic kernels and a fixed number of threads; as before afterwards."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    with torch.random.fork_rng(), as_deterministic_as_before():
        torch.manual_seed(params.seed)
        torch.use_deterministic_algorithms(True)
        deterministic.fill_uninitialized_memory = False
        torch.set_num_threads(min(THREADS, len(os.sched_getaffinity(0))))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
