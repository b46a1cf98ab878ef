"""DOOR and W-DOOR: learn to refuse after a harmful beginning, unlearn the harmful answer (arXiv 2503.03710).

[digest] The losses, a = 0.2, b = 0.5, tau = 5, k ~ U{1..100}, and k = 0 on half of the rows. This is the paper's
form. [code] wicai24/DOOR-Alignment differs: for W-DOOR it has (pi_ref/pi*)^(1/tau) as the token's weight and no
reference in the unlearning term, where it divides by the length and adds a margin.
[ours] What of a preference pair is what: y_s is the chosen and y_h the rejected response of a pair whose rejected
response is harmful; the chosen response of any other pair is the benign data. Neither y_s nor benign data is unsafe:
`curate.selection.relabelling.door` turns such pairs round, or drops them. The bounds of the token weights. The cap of
k, and its draw by a hash.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F


def door(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    refusal_logps: torch.Tensor,
    harmful: torch.Tensor,
    *,
    a: float = 0.2,
    b: float = 0.5,
) -> torch.Tensor:
    """The loss of each pair: [pairs], nats.

        Delta(y_h) = log pi_theta(y_h|x) - log pi_ref(y_h|x)
        harmful:  L = a ( - log pi_theta(y_s | x (+) y_h[:k]) - (2/b) log sigmoid(-b Delta(y_h)) )
        benign:   L = (1 - a) ( - log pi_theta(y_w|x) )

    W-DOOR is the same with sum_t b_t log pi_theta(y_s_t | x (+) y_h[:k], y_s_<t) for refusal_logps, b_t of
    `token_weights`. [ours] The mean is over harmful and benign pairs together, so that a batch's mixture counts
    beside a; the released code means each kind apart, in equal numbers.

    Args:
        policy_chosen_logps, policy_rejected_logps: log pi_theta(y|x), nats, summed over the response: [pairs].
        ref_rejected_logps: log pi_ref(y_l|x), nats, likewise.
        refusal_logps: log pi_theta(y_s | x (+) y_h[:k]), nats, summed (W-DOOR: weighted): [pairs]. Where benign any
            finite number, 0 for one.
        harmful: 1.0 where the rejected response is harmful, 0.0 where the pair is benign data: [pairs].
        a: weight of the harmful pairs; 1 - a is that of the benign ones.
        b: strength of the unlearning, 1/nats; 2/b of it is the unlearning's own weight.
    """
    unlearning = -(2 / b) * F.logsigmoid(-b * (policy_rejected_logps - ref_rejected_logps))
    return harmful * a * (unlearning - refusal_logps) - (1 - harmful) * (1 - a) * policy_chosen_logps


def token_weights(
    aligned_token_logps: torch.Tensor,
    ref_token_logps: torch.Tensor,
    *,
    tau: float = 5.0,
    low: float = 0.1,
    high: float = 10.0,
) -> torch.Tensor:
    """W-DOOR's weight b_t of each refusal token: the shape given, dimensionless, no gradient.

        b_t = clip( (pi*(y_t) / pi_ref(y_t))^(1/tau), low, high )

    Args:
        aligned_token_logps: log pi*(y_t | ...), nats, of a DPO-aligned model: any shape.
        ref_token_logps: log pi_ref(y_t | ...), nats, of the reference model: the same shape.
        tau: temperature; the larger, the closer the weights to 1.
        low, high: bounds of b_t. [ours]
    """
    return ((aligned_token_logps - ref_token_logps).detach() / tau).exp().clamp(low, high)


def prefix_length(
    pair_id: str, *, seed: int, epoch: int, harmful_tokens: int, longest: int = 100, room: int | None = None
) -> int:
    """k: how many tokens of the harmful response stand before the refusal.

    0 on half of the rows, else uniform on {1..longest}, but at most harmful_tokens - 1, so that the harmful
    response's end of turn is never among them, and at most `room`. Drawn by (seed, epoch, pair_id) alone: the order of
    the rows, the batches and a resumed run change nothing.

    Args:
        pair_id: the pair's identity.
        seed, epoch: of the run; each epoch draws anew.
        harmful_tokens: |y_h|, tokens, end of turn included.
        longest: the paper's C, tokens.
        room: what the model's context leaves between prompt and refusal, tokens; None: without end.

    Raises:
        ValueError: harmful_tokens or longest below one, or room below zero.
    """
    if room is not None and room < 0:
        raise ValueError(f"room {room}: prompt and refusal are longer than the context")
    if harmful_tokens < 1 or longest < 1:
        raise ValueError(f"harmful_tokens {harmful_tokens} and longest {longest} must be at least one")
    digest = hashlib.sha256(f"{seed}|{epoch}|{pair_id}".encode()).digest()
    if digest[0] % 2 == 0:
        return 0
    # 64 bits modulo `longest`: uniform to one part in 10^17 at 100.
    drawn = min(1 + int.from_bytes(digest[1:9]) % longest, harmful_tokens - 1)
    return drawn if room is None else min(drawn, room)
