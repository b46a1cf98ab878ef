"""The next token of each row, from logits: the likeliest, or drawn by the row's own random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from curate.evaluation.generation.base import Request


class Draw:
    """Draws for a batch of requests.

    A request's numbers come from its seed and the token's place alone (Philox, a counter-based generator), and one
    uniform number a token goes through the inverse of the cumulative distribution: what else is in the batch moves a
    draw no more than it moves the logits' last bits.
    """

    def __init__(self, requests: Sequence[Request], device: torch.device) -> None:
        most = max(request.max_tokens for request in requests)
        uniform = np.zeros((len(requests), most))
        for row, request in enumerate(requests):
            if request.temperature:
                uniform[row, : request.max_tokens] = _uniform(request)
        self.uniform = torch.from_numpy(uniform).to(device)  # float64, [rows, tokens]
        self.temperature = torch.tensor([r.temperature for r in requests], dtype=torch.float64, device=device)
        self.top_p = torch.tensor([r.top_p for r in requests], dtype=torch.float64, device=device)
        # Known on the CPU, so that greedy decoding asks nothing of the device.
        self.sampled = any(r.temperature for r in requests)
        self.nuclear = any(r.temperature and r.top_p < 1 for r in requests)

    def next(self, logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        """Token ids int64 [R].

        Args:
            logits: float32, [R, vocabulary].
            rows: int64, [R]: which requests they are of.
            step: number of the token in the answer, from 0.
        """
        tokens = logits.argmax(-1)
        if not self.sampled:
            return tokens
        temperature, top_p, uniform = self.temperature[rows], self.top_p[rows], self.uniform[rows, step]
        groups = [(temperature > 0) & (top_p == 1)]
        if self.nuclear:
            groups.append((temperature > 0) & (top_p < 1))
        for group, inverse in zip(groups, (inverse_cdf, nucleus_inverse_cdf), strict=False):
            at = group.nonzero()[:, 0]
            if len(at):
                probabilities = (logits[at].double() / temperature[at, None]).softmax(-1)
                tokens[at] = inverse(probabilities, uniform[at], top_p[at])
        return tokens


def _uniform(request: Request) -> np.ndarray:
    """[max_tokens] of [0, 1); a smaller max_tokens has the first of them."""
    return np.random.Generator(np.random.Philox(key=request.seed)).random(request.max_tokens)


def inverse_cdf(probabilities: torch.Tensor, uniform: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The token [R] at which the cumulative distribution of float64 [R, vocabulary] passes `uniform` [R]."""
    cumulative = probabilities.cumsum(-1)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    # Rounding may put the product on the sum itself; a token of no probability is never drawn.
    last = probabilities.shape[-1] - 1 - (probabilities > 0).flip(-1).int().argmax(-1)
    return torch.minimum(drawn, last)


def nucleus_inverse_cdf(probabilities: torch.Tensor, uniform: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The same of the nucleus: the fewest likeliest tokens whose probabilities reach `top_p` [R] (arXiv 1904.09751).
    Of equally likely tokens the lower id comes first."""
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ranked.cumsum(-1) - ranked
    drawn = inverse_cdf(ranked.masked_fill(before >= top_p[:, None], 0), uniform, top_p)
    return order.gather(-1, drawn[:, None])[:, 0]
