"""B-DPO: direct preference optimisation with a weight on each side. [ours: docs/method.md, Loss]

Balanced Direct Preference Optimization (arXiv 2603.22829) modulates the strength of the chosen and the
rejected response by their mutual information with the query [paper]; the equations below are ours.
With weights and scale one it is DPO (arXiv 2305.18290, equation 7), bit for bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


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
) -> torch.Tensor:
    """The loss of each pair: [pairs], dimensionless.

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
    chosen = chosen_weight.detach() * (policy_chosen_logps - ref_chosen_logps)
    rejected = rejected_weight.detach() * (policy_rejected_logps - ref_rejected_logps)
    return -pair_scale.detach() * F.logsigmoid(beta * (chosen - rejected))
