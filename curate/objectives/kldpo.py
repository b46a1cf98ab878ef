"""KLDPO: DPO robust to a shift of the preferences within a KL ball (arXiv 2502.01930), approximately.

[code] The weights, their cap of 10 and tau = 1 are those of TheBlackCat22/distributionally_robust_dpo.
"""

from __future__ import annotations

import torch

from curate.objectives.dpo import dpo

MAX_WEIGHT = 10.0


def kldpo(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_chosen_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    *,
    beta: float,
    tau: float = 1.0,
) -> torch.Tensor:
    """The loss of each pair: [pairs], dimensionless.

        l_i = - log sigmoid(beta h_i),    h as in DPO
        w_i = min( 10, exp( (l_i - mean_j l_j) / tau ) ),    no gradient
        L_i = w_i l_i

    The mean is over the pairs given, so that the loss of a pair depends on the others. In training they are those of
    one forward pass on one process: train.batch_pairs over the number of processes, not the step's batches
    together, and fewer where an epoch's last batch is short (the released code gathers a pass's from all
    processes). One pair alone has weight 1.

    Args:
        policy_chosen_logps, policy_rejected_logps: log pi_theta(y|x), nats, summed over the response: [pairs].
        ref_chosen_logps, ref_rejected_logps: log pi_ref(y|x), nats, likewise.
        beta: strength of the KL constraint, 1/nats.
        tau: temperature of the weights, dimensionless; the larger, the closer to DPO.
    """
    losses = dpo(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta)
    with torch.no_grad():
        weights = ((losses - losses.mean()) / tau).exp().clamp(max=MAX_WEIGHT)
    return weights * losses
