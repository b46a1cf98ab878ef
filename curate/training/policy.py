"""The policy: a causal LM whose forward pass turns `Work` into log-probabilities, whatever wraps it.

The pass lies inside the model's own `forward`, so that DDP, FSDP, PEFT and autocast see one call; and the last part of
it inside the LM head's, so that FSDP has its weights at hand when they are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from curate.base import memory
from curate.base.errors import UsageError, few, first_line
from curate.base.progress import say
from curate.models.adapters import in_two_places, merge
from curate.models.products.head import token_logps
from curate.models.products.layers import lighten
from curate.models.products.linear import speed_up
from curate.models.products.tied import one_gradient, tie
from curate.models.rendering import TokenSequence
from curate.scoring.packing import attention, probe
from curate.scoring.packing.forward import pad, response_logits, response_logps, stretches_beyond
from curate.scoring.packing.last import trim
from curate.scoring.packing.packs import Pack
from curate.training.sharding import in_shards
from curate.training.shares import large
from curate.training.work import Work

Logps = dict[str, torch.Tensor]
"""`logps` [N], log pi(y|x) in nats, token-weighted where the work says so, with gradient; and with `Work.alignment`
`alignment` [N], the mean over the response's tokens, without."""


def make_policy(model: Any, *, gradient_checkpointing: bool = False) -> Any:
    """Give `model` (transformers, float32 weights) a forward pass that takes `work=Work`; returns the model.

    Packs are used where they give the same numbers on this model (`curate.scoring.packing.probe`), else padded buckets.
    Dropout is switched off: the reference's log-probabilities are without it.

    Raises:
        UsageError: gradient checkpointing of a model that has none.
    """
    if gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise UsageError(
            "transformers cannot compute this model's layers again",
            field="train.gradient_checkpointing",
            found=type(model).__name__,
            remedy="set train.gradient_checkpointing to false; a lower train.batch_pairs needs less memory, too",
        )
    for module in model.eval().modules():
        # Layers of dropout, the rates that attention and stacks of layers keep for themselves, the noise of routers.
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and (isinstance(module, torch.nn.Dropout) or "drop" in name):
                setattr(module, name, 0.0)
            elif isinstance(value, float) and "jitter" in name:
                module.train = _stand_still  # its rate may be part of the numbers (PhiMoE)
    base = model.base_model
    if getattr(base, "layers_are_rescaled", False):
        # RWKV divides weights in place while it evaluates: what is saved then would not be what was measured.
        base.train()._rescale_layers()
        base._rescale_layers = _stand_still
        base.eval()
    model.config.use_cache = False
    model.curate_packs = False
    lighten(model, remake=large(model) and not gradient_checkpointing)
    trim(model)
    tie(model)
    _score_in_the_head(model.get_output_embeddings())
    own = type(model).forward

    def forward(self: Any, input_ids: Any = None, *args: Any, work: Work | None = None, **options: Any) -> Any:
        if work is None:
            return own(self, input_ids, *args, **options)
        return _packed(self, work) if self.curate_packs else _padded(self, work)

    model.forward = MethodType(forward, model)
    model.curate_attention = model.config._attn_implementation
    fault = _fault(model.eval())
    if fault:
        say(f"train: this model runs without packs, which is slower: {fault}")
    model.curate_packs = fault is None
    model.curate_unpadded_beyond = stretches_beyond(model.config.get_text_config())
    if fault and (unpadded := probe.padding_fault(model, str(next(model.parameters()).dtype).removeprefix("torch."))):
        say(f"train: and in batches of one length: {unpadded}")
        model.curate_unpadded_beyond = 0
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": attention.across_checkpoint})
    return model


def _stand_still(mode: bool = True) -> None:
    """In place of a module's `train` or the like: it stays as it is."""


def _score_in_the_head(head: Any) -> None:
    """Have the LM head, called with targets, give `token_logps`: within its own forward pass, before which FSDP
    gathers its weights where they are a unit of their own."""
    own = head.forward.__func__  # not the bound one: a copy of the model has a head of its own

    def forward(
        self: Any, states: torch.Tensor, *args: Any, targets: torch.Tensor | None = None, **options: Any
    ) -> Any:
        if targets is None:
            return own(self, states, *args, **options)
        return token_logps(states, self.weight, self.bias, targets, **options)

    head.forward = MethodType(forward, head)


@contextmanager
def own_attention(policy: Any) -> Iterator[None]:
    """Within this block the policy attends as its makers had it, for passes without `work`: packs have their own."""
    policy.set_attn_implementation(policy.curate_attention)
    try:
        yield
    finally:
        if policy.curate_packs:
            policy.set_attn_implementation(attention.TREE)


def device_of(model: Any) -> torch.device:
    return next(model.parameters()).device  # type: ignore[no-any-return]


def add_lora(policy: Any, rank: int, alpha: float, targets: Sequence[str]) -> Any:
    """The policy with LoRA adapters (arXiv 2106.09685), the only weights that train.

    Raises:
        UsageError: no module has one of the names, one that has takes no adapter, or its weight is the LM head's or
            another module's, too.
    """
    from peft import LoraConfig, get_peft_model

    names: Any = targets[0] if list(targets) == ["all-linear"] else list(targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=names, task_type="CAUSAL_LM")
    try:
        adapted = get_peft_model(policy, config)
        if hasattr(adapted.get_output_embeddings(), "lora_A"):
            raise UsageError("the LM head takes no adapter", field="train.lora_targets", found=", ".join(targets))
        if names := in_two_places(adapted):
            raise UsageError(
                "weights that the model has in two places take no adapter: merged, it would change both",
                field="train.lora_targets",
                found=few(names),
                remedy="leave these modules out",
            )
        with torch.no_grad():  # PEFT takes some modules that it cannot run: routers that give several tensors
            adapted(work=Work([TokenSequence(np.array([0]), np.array([1]))]))
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        if memory.no_room(error):
            raise
        raise UsageError(
            "LoRA cannot adapt these modules",
            field="train.lora_targets",
            found=f"{', '.join(targets)}: {first_line(error)}",
            remedy="name linear layers that the model has, those of its attention say: q_proj, v_proj",
        ) from error
    for module in adapted.modules():
        if hasattr(module, "lora_A"):
            speed_up(module)
    return adapted


def as_plain(policy: Any) -> Any:
    """The trained model as transformers knows it, to be saved: adapters merged into the weights."""
    if hasattr(policy, "merge_and_unload"):
        policy = merge(policy)
    policy.config.use_cache = True
    return policy


@torch.no_grad()
def token_logps_of(policy: Any, sequences: Sequence[TokenSequence]) -> list[np.ndarray]:
    """log p of each response token, policy standing still: float32 [|y|] a sequence, nats."""
    out: list[np.ndarray] = [np.empty(0, dtype=np.float32)] * len(sequences)
    work = Work(sequences)
    for number, logps, _ in (_of_packs if policy.curate_packs else _of_buckets)(policy, work):
        out[number] = logps.float().cpu().numpy()
    return out


def _packed(model: Any, work: Work) -> Logps:
    return _summed(model, work, _of_packs(model, work, in_shards(model)))


def _padded(model: Any, work: Work) -> Logps:
    return _summed(model, work, _of_buckets(model, work, in_shards(model)))


Part = tuple[int, torch.Tensor, torch.Tensor | None]


def _of_packs(model: Any, work: Work, together: bool = False) -> Iterator[Part]:
    """(number, token log-probs [|y|], token alignments or None) of each sequence; `together`: in one pass."""
    for pack in work.packs(device_of(model), together):
        logps, aligned, _ = _one_pack(model, pack, work.alignment)
        # A sequence's rows lie together: split, as adding by index has no fixed order on CUDA.
        ends = np.flatnonzero(np.diff(pack.owners, append=-1)) + 1
        lengths = np.diff(ends, prepend=0).tolist()
        parts = (None,) * len(lengths) if aligned is None else aligned.split(lengths)
        yield from zip(pack.owners[ends - 1].tolist(), logps.split(lengths), parts, strict=True)


def _of_buckets(model: Any, work: Work, together: bool = False) -> Iterator[Part]:
    """The same, by the model's own attention and head."""
    for numbers, batch in work.buckets(model.curate_unpadded_beyond, together):
        # Not model(...): this already runs within its call, hooks and all.
        logits, targets, _ = response_logits(partial(type(model).forward, model), batch.to(device_of(model)))
        logps = -cross_entropy(logits, targets, reduction="none")
        lengths = batch.response_lengths.tolist()
        parts: Sequence[torch.Tensor | None] = [None] * len(lengths)
        if work.alignment:
            with torch.no_grad():
                aligned = logps - ((2 * logits).logsumexp(-1) - 2 * logits.logsumexp(-1))
            parts = aligned.split(lengths)
        yield from zip(numbers, logps.split(lengths), parts, strict=True)


def _summed(model: Any, work: Work, parts: Iterator[Part]) -> Logps:
    device = device_of(model)
    sums: dict[int, torch.Tensor] = {}
    alignments: dict[int, torch.Tensor] = {}
    for number, logps, aligned in parts:
        weights = work.weights(number, device)
        sums[number] = (logps if weights is None else logps * weights).sum()
        if aligned is not None:
            alignments[number] = aligned.detach().mean()
    found = {"logps": torch.stack([sums[number] for number in range(len(work))])}
    if alignments:
        found["alignment"] = torch.stack([alignments[number] for number in range(len(work))])
    return found


def _one_pack(model: Any, pack: Pack, alignment: bool = False) -> tuple[torch.Tensor, torch.Tensor | None, Any]:
    """(log-probs [S] of the pack's scored tokens, alignments [S] or None, the sliding windows that layers named)."""
    device = device_of(model)
    config = model.config.get_text_config()
    ids, positions, rows, targets = (
        torch.from_numpy(part).to(device, non_blocking=True)
        for part in (pack.input_ids, pack.position_ids, pack.rows, pack.targets)
    )
    head = model.get_output_embeddings()
    softcap = getattr(config, "final_logit_softcapping", None)
    with one_gradient():
        with attention.attending(pack, device) as windows:
            states = model.base_model(
                input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False
            ).last_hidden_state[0]
        # Not states[rows]: its gradient, an accumulating index_put, is slow on a CPU and sorts on CUDA.
        logps, aligned = head(states.index_select(0, rows), targets=targets, softcap=softcap, alignment=alignment)
    return logps, aligned, windows


@torch.no_grad()
def _fault(model: Any) -> str | None:
    """Why packs do not suit, or None."""
    device = device_of(model)
    rope = str(getattr(model.config.get_text_config(), "rope_parameters", None))
    if "'dynamic'" in rope or "'longrope'" in rope:
        return "its rotary embedding depends on the longest sequence of a pass"

    def packed(pack: Pack) -> tuple[np.ndarray, set[int | None]]:
        logps, _, windows = _one_pack(model, pack)
        return logps.double().cpu().numpy(), windows

    def alone(sequence: TokenSequence) -> float:
        return float(response_logps(model, pad([sequence]).to(device))[0])

    return probe.fault(model, str(next(model.parameters()).dtype).removeprefix("torch."), alone, packed)
