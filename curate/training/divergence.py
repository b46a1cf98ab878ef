"""KL(pi_theta || pi_ref) on held-out prompts: how far a policy has moved where it speaks itself, not where pairs do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.nn.functional import kl_div

from curate.base.errors import InputError
from curate.base.progress import say
from curate.models.load import load_model
from curate.models.products.layers import lighten
from curate.models.products.linear import rounding_once
from curate.models.rendering import TokenSequence, render_pairs, stop_token_ids
from curate.models.resolve import Model
from curate.project.params import TrainParams
from curate.scoring.packing.forward import pad, response_logits
from curate.training.launched import first, sharded
from curate.training.pairs import draw
from curate.training.policy import device_of, own_attention
from curate.training.work import PACK_TOKENS

HELD_BYTES = 2**28
"""Of a reference's weights that are held between estimates, at most: a second copy of a larger model is in memory only
while it is asked."""

LOGITS_BYTES = {"cpu": 2**26, "cuda": 2**29}  # of each model's float32 logits at a time


@dataclass(frozen=True)
class Divergence:
    """Estimates the KL divergence of a policy from the reference, nats a response, the mean over `prompts`.

    For each prompt x a response y is drawn from the policy, and KL(pi_theta(.|x, y_<t) || pi_ref(.|x, y_<t)) over the
    vocabulary is summed over its tokens: the Rao-Blackwellised estimator of arXiv 2504.10637. It is unbiased for the
    divergence of responses cut at `tokens` tokens, never negative (but for rounding), and zero for the reference.
    """

    prompts: Sequence[np.ndarray]  # int32 [tokens] each
    ends: Sequence[int]  # tokens that end a response
    tokens: int  # of a response, at most
    context: int  # of a sequence, at most
    seed: int  # of the responses
    autocast: bool  # forward passes in bfloat16
    reference: Callable[[], Any] | None = None  # gives it, frozen; None: the policy without its adapters

    @torch.no_grad()
    def __call__(self, policy: Any) -> float:
        """Of `policy`, which stands still (`eval`). Draws from a generator of its own.

        Raises:
            InputError: the policy's probabilities are no finite numbers.
        """
        reference = self.reference and self.reference()
        autocast = torch.autocast(device_of(policy).type, torch.bfloat16, enabled=self.autocast)
        with own_attention(policy), rounding_once(), autocast:
            each = [kl for part in self._responses(policy) for kl in self._each(policy, reference, part)]
        return float(np.mean(each))

    def _responses(self, policy: Any) -> Iterator[list[TokenSequence]]:
        """Every prompt, longest first, with a response; as many at once as a pass of training has tokens for."""
        device = device_of(policy)
        generator = torch.Generator(device).manual_seed(self.seed)
        left = sorted(self.prompts, key=len, reverse=True)
        while left:
            # One by one where the responses of a batch, which differ in length, would disturb each other.
            longest = len(left[0]) + self.tokens
            at_once = max(1, PACK_TOKENS[device.type] // longest) if longest <= policy.curate_unpadded_beyond else 1
            yield self._sample(policy, left[:at_once], generator)
            left = left[at_once:]

    def _sample(self, policy: Any, prompts: Sequence[np.ndarray], generator: torch.Generator) -> list[TokenSequence]:
        """A response to each prompt at temperature 1, its last token one of `ends` unless it was cut."""
        device = generator.device
        ids, mask, _ = pad([TokenSequence(prompt, prompt[:0]) for prompt in prompts]).to(device)
        ends = torch.tensor(self.ends, dtype=torch.long, device=device)
        alive = torch.ones(len(ids), dtype=torch.bool, device=device)
        start, fed, cache = ids.shape[1], ids, None
        caches = _caches(policy)
        for _ in range(self.tokens):
            positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -fed.shape[1] :]
            out = policy(
                input_ids=fed,
                attention_mask=mask,
                position_ids=None if len(prompts) == 1 else positions,  # some count from another number (RoBERTa)
                past_key_values=cache,
                use_cache=caches,
                logits_to_keep=1,
            )
            probabilities = out.logits[:, -1].float().softmax(-1)
            if not probabilities.isfinite().all():
                raise InputError(
                    "training diverged: the policy's probabilities are no finite numbers",
                    remedy="lower train.learning_rate or train.beta",
                )
            drawn = torch.multinomial(probabilities, 1, generator=generator)
            ids = torch.cat([ids, drawn], 1)
            # What follows a response's end is fed all the same, and seen by nobody.
            mask = torch.cat([mask, alive.long().unsqueeze(1)], 1)
            alive = alive & ~torch.isin(drawn.squeeze(1), ends) & (mask.sum(1) < self.context)
            if not alive.any():
                break
            fed, cache = (drawn, out.past_key_values) if caches else (ids, None)
        drawn_ids, lengths = ids[:, start:].int().cpu().numpy(), mask[:, start:].sum(1).tolist()
        return [
            TokenSequence(prompt, row[:length]) for prompt, row, length in zip(prompts, drawn_ids, lengths, strict=True)
        ]

    def _each(self, policy: Any, reference: Any, sequences: Sequence[TokenSequence]) -> Iterator[float]:
        """The divergence along each response, nats: both models' logits of a few responses at a time."""
        device = device_of(policy)
        bytes_each = 4 * self.tokens * policy.config.get_text_config().vocab_size
        at_once = max(1, LOGITS_BYTES[device.type] // bytes_each)
        if any(sequence.length > policy.curate_unpadded_beyond for sequence in sequences):
            at_once = 1
        for start in range(0, len(sequences), at_once):
            batch = pad(sequences[start : start + at_once]).to(device)
            logps = response_logits(policy, batch)[0].log_softmax(-1)
            with policy.disable_adapter() if reference is None else nullcontext():
                reference_logps = response_logits(policy if reference is None else reference, batch)[0].log_softmax(-1)
            each = kl_div(reference_logps, logps, log_target=True, reduction="none")
            each = each.masked_fill_(logps.isneginf(), 0).sum(-1).double()  # a token that the policy never gives
            yield from (part.sum().item() for part in each.split(batch.response_lengths.tolist()))


def _caches(policy: Any) -> bool:
    """Whether the model gives back keys and values for the next token; else it reads the whole again for each (Mamba,
    RWKV, RecurrentGemma, GPT-1)."""
    one = torch.zeros((1, 1), dtype=torch.long, device=device_of(policy))
    return getattr(policy(input_ids=one, use_cache=True), "past_key_values", None) is not None


def divergence_from(
    policy: Any, tokenizer: Any, heldout: pl.DataFrame, params: TrainParams, model: Model, seed: int
) -> Divergence | None:
    """The estimator for a policy that is still the reference: to be asked before the first step. None: off.

    Where the policy has no adapters, the first process, the only one that estimates, loads the reference for each
    estimate, or holds it where it is small; its linear layers in bfloat16 where autocast would cast them anyway.

    Args:
        heldout: pairs; the draw of `train.kl_prompts` prompts among them is the same for every arm.
        model: the reference.
        seed: of that draw, and of the responses.
    """
    if not params.kl_prompts:
        return None
    if sharded():
        say("train: no KL to the reference is estimated under FSDP")
        return None
    rows = draw(heldout, heldout.height, seed).unique("prompt_key", keep="first", maintain_order=True)
    rendered = render_pairs(tokenizer, rows.head(params.kl_prompts))
    prompts = [np.array(ids, dtype=np.int32) for ids in rendered["prompt_ids"]]
    autocast = params.dtype == "bfloat16"
    estimates = not params.lora_rank and first()
    reference = _reference(policy, model, autocast) if estimates else None
    ends = sorted(stop_token_ids(tokenizer, model))
    return Divergence(prompts, ends, params.kl_tokens, model.context, seed, autocast, reference)


def _reference(policy: Any, model: Model, autocast: bool) -> Callable[[], Any]:
    """What gives the frozen reference: the one that is held, or loaded each time."""

    def frozen(reference: Any) -> Any:
        reference = reference.eval().requires_grad_(False)
        tied = reference.get_input_embeddings().weight
        for module in reference.modules() if autocast else ():
            if type(module) is torch.nn.Linear and module.weight is not tied:
                module.to(torch.bfloat16)
        return reference

    def loaded() -> Any:
        reference = load_model(model, "float32")
        lighten(reference)
        return frozen(reference)

    if sum(weight.nbytes for weight in policy.parameters()) > HELD_BYTES:
        return loaded
    held = frozen(copy.deepcopy(policy))
    held.set_attn_implementation(held.curate_attention)
    return lambda: held
