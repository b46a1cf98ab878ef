"""What shards (FSDP2) ask of training: as many passes in each process, and sums that are not rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from curate.base.errors import UsageError


def in_shards(model: torch.nn.Module) -> bool:
    """Whether the model is sharded: then every process must call it equally often."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(module, FSDPModule) for module in model.modules())


def check_one_pass(policy: Any) -> None:
    """Refuse a model whose passes FSDP cannot count alike.

    Raises:
        UsageError: a policy that cannot run any sequences together in one pass.
    """
    if not policy.curate_packs and policy.curate_unpadded_beyond < np.inf:
        raise UsageError(
            "this model cannot train under FSDP: sequences of different length disturb each other in one pass",
            field="train.accelerate",
            found="the processes would make different numbers of passes",
            remedy="use configs/ddp.yaml, with train.lora_rank where the whole model does not fit a GPU",
        )


def keep_sums(plugin: Any) -> None:
    """Have FSDP2 compute in bfloat16 where it would, but leave float32 what is float32: the log-probabilities summed
    over a response, which accelerate would have rounded (of 300 nats by up to 1), and sums of gradients."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if plugin.mixed_precision_policy is not None:
        dtype = plugin.mixed_precision_policy.param_dtype
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
