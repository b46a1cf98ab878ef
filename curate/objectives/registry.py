"""The objectives by name, and what each needs, read from its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from curate.objectives.bdpo import bdpo
from curate.objectives.cpo import cpo
from curate.objectives.door import door
from curate.objectives.dpo import dpo
from curate.objectives.ipo import ipo
from curate.objectives.kldpo import kldpo
from curate.objectives.safedpo import safedpo
from curate.objectives.simpo import simpo
from curate.objectives.wpo import wpo

TENSORS: dict[str, str] = {
    "policy_chosen_logps": "log pi_theta(y_w|x), summed over the response; nats, with gradient",
    "policy_rejected_logps": "log pi_theta(y_l|x), summed over the response; nats, with gradient",
    "ref_chosen_logps": "log pi_ref(y_w|x), summed over the response; nats",
    "ref_rejected_logps": "log pi_ref(y_l|x), summed over the response; nats",
    "chosen_tokens": "|y_w|, end of turn included; tokens",
    "rejected_tokens": "|y_l|, end of turn included; tokens",
    "chosen_weight": "B-DPO's weight w_w of the chosen response",
    "rejected_weight": "B-DPO's weight w_l of the rejected response",
    "pair_scale": "B-DPO's scaling factor s",
    "chosen_unsafe": "1.0 if the chosen response is unsafe, else 0.0",
    "rejected_unsafe": "1.0 if the rejected response is unsafe, else 0.0",
    "chosen_alignment": "mean over the chosen response of log p_t - log sum_v p_v^2 under the policy; nats/token",
    "rejected_alignment": "mean over the rejected response of log p_t - log sum_v p_v^2 under the policy; nats/token",
    "refusal_logps": "log pi_theta(y_s | x (+) y_h[:k]), summed (W-DOOR: weighted by token); nats, with gradient",
    "harmful": "1.0 if the rejected response is harmful, 0.0 if the pair is benign data",
}
"""The names a loss may give its tensors. Each tensor is floating point, of shape [pairs]."""


@dataclass(frozen=True)
class Objective:
    """A loss with its declaration."""

    name: str
    function: Callable[..., torch.Tensor]
    tensors: tuple[str, ...]  # positional parameters, of TENSORS
    settings: dict[str, float | None]  # keyword-only parameters and their defaults; None: train.beta
    about: str
    of_batch: bool = False  # a pair's loss depends on the pairs beside it

    def loss(self, batch: Mapping[str, torch.Tensor], settings: Mapping[str, float]) -> torch.Tensor:
        """The loss of each pair: [pairs].

        Args:
            batch: at least `tensors`, by name.
            settings: those that differ from their defaults, and those that have none.

        Raises:
            KeyError: the batch lacks a tensor.
            ValueError: the tensors are not all [pairs].
            TypeError: a setting is unknown, or lacking and without a default.
        """
        tensors = [batch[name] for name in self.tensors]
        shapes = {name: tuple(tensor.shape) for name, tensor in zip(self.tensors, tensors, strict=True)}
        if len(set(shapes.values())) != 1 or tensors[0].ndim != 1:
            raise ValueError(f"{self.name} needs tensors of one shape [pairs]; found {shapes}")
        return self.function(*tensors, **settings)


def declare(name: str, function: Callable[..., torch.Tensor], about: str, of_batch: bool = False) -> Objective:
    """An objective, with what the signature of `function` says that it needs.

    Raises:
        ValueError: a positional parameter is not of TENSORS, or has a default; a setting's default is no float, or
            it has none and is not `beta`; there is *args or **kwargs.
    """
    tensors: list[str] = []
    settings: dict[str, float | None] = {}
    for parameter in inspect.signature(function).parameters.values():
        has_default = parameter.default is not parameter.empty
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name in TENSORS and not has_default:
            tensors.append(parameter.name)
        elif parameter.kind is parameter.KEYWORD_ONLY and isinstance(parameter.default, float):
            settings[parameter.name] = parameter.default
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.name == "beta" and not has_default:
            settings["beta"] = None
        else:
            raise ValueError(
                f"objective {name}: `{parameter}` is neither a tensor of {', '.join(TENSORS)} "
                "nor a keyword-only float with a default, nor beta"
            )
    return Objective(name, function, tuple(tensors), settings, about, of_batch)


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        declare("bdpo", bdpo, "DPO with each response weighted by its mutual information with the query (2603.22829)"),
        declare("dpo", dpo, "direct preference optimisation (2305.18290)"),
        declare("ipo", ipo, "a squared distance of the margin per token from its target (2310.12036)"),
        declare("cpo", cpo, "without reference, with likelihood on the chosen response (2401.08417)"),
        declare("simpo", simpo, "without reference, log-probability per token, a target margin (2405.14734)"),
        declare("safedpo", safedpo, "DPO with a margin between safe and unsafe, on relabelled pairs (2505.20065)"),
        declare("wpo", wpo, "DPO with each pair weighted by its likelihood under the policy (2406.11827)"),
        declare("kldpo", kldpo, "DPO with the pairs of higher loss weighted up (2502.01930)", of_batch=True),
        declare("cdpo", dpo, "DPO itself, on pairs relabelled by reward - lambda cost (C-DPO, 2403.02475)"),
        declare("door", door, "refusal after a harmful beginning, unlearning of the harmful answer (2503.03710)"),
        declare("w-door", door, "DOOR with the tokens of the refusal weighted (2503.03710)"),
    )
}
