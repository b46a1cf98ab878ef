"""B-DPO: direct preference optimisation with a weight on each side. [ours, METHOD 1.4]

Balanced Direct Preference Optimization (arXiv 2603.22829) modulates the strength of the chosen and the
rejected response by their mutual information with the query [paper]; the equations below are ours.
With weights and scale one it is DPO (arXiv 2305.18290, equation 7), to float precision.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F


class Losses(NamedTuple):
    """One number a pair, each of shape [pairs]."""

    loss: torch.Tensor  # dimensionless, with gradient
    chosen_rewards: torch.Tensor  # beta Delta(y_w), nats, unweighted, no gradient
    rejected_rewards: torch.Tensor  # beta Delta(y_l)


def bdpo(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_chosen_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    chosen_weight: torch.Tensor,
    rejected_weight: torch.Tensor,
    pair_scale: torch.Tensor,
    *,
    beta: float,
) -> Losses:
    """The loss of each pair.

        Delta(y) = log pi_theta(y|x) - log pi_ref(y|x)
        m = beta ( w_w Delta(y_w) - w_l Delta(y_l) )
        L = - s log sigmoid(m)

    so that dL/dlog pi(y_w) = - s beta w_w sigmoid(-m) and dL/dlog pi(y_l) = + s beta w_l sigmoid(-m).

    Args:
        policy_chosen_logps, policy_rejected_logps: log pi_theta(y|x), nats, summed over the response: [pairs].
        ref_chosen_logps, ref_rejected_logps: log pi_ref(y|x), nats, likewise.
        chosen_weight, rejected_weight, pair_scale: w_w, w_l and s: [pairs]; they carry no gradient.
        beta: strength of the KL constraint, 1/nats.
    """
    chosen = policy_chosen_logps - ref_chosen_logps
    rejected = policy_rejected_logps - ref_rejected_logps
    margin = beta * (chosen_weight.detach() * chosen - rejected_weight.detach() * rejected)
    return Losses(
        loss=-pair_scale.detach() * F.logsigmoid(margin),
        chosen_rewards=(beta * chosen).detach(),
        rejected_rewards=(beta * rejected).detach(),
    )
