"""The B-DPO loss against numbers worked by hand, against DPO, and its gradient against its formula (docs/method.md)."""

import math

import pytest
import torch

from curate.objectives.bdpo import bdpo
from curate.objectives.dpo import dpo

DOUBLE = torch.float64


def tensors(*values):
    return [torch.tensor(value, dtype=DOUBLE) for value in values]


def test_by_hand():
    """Delta(y_w) = -10 - -12 = 2, Delta(y_l) = -15 - -14 = -1, beta 0.1, w = (0.6, 1.4), s = 0.9.

    m = 0.1 (0.6 * 2 - 1.4 * -1) = 0.1 (1.2 + 1.4) = 0.26
    L = -0.9 log sigmoid(0.26) = 0.9 log(1 + e^-0.26) = 0.9 * 0.5715735 = 0.5144161
    """
    loss = bdpo(*tensors([-10.0], [-15.0], [-12.0], [-14.0], [0.6], [1.4], [0.9]), beta=0.1)
    assert loss.tolist() == pytest.approx([0.5144161], abs=1e-6)


def test_ln_2_where_the_policy_is_the_reference_whatever_the_weights():
    """m = beta (w_w 0 - w_l 0) = 0; -log sigmoid(0) = ln 2."""
    logps = torch.tensor([-3.0, -250.0])
    loss = bdpo(logps, logps, logps, logps, *tensors([0.1, 1.9], [1.9, 0.1], [1.0, 1.0]), beta=0.1)
    assert loss.tolist() == pytest.approx([math.log(2)] * 2)


def random_batch(seed, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    logps = [-50 * torch.rand(64, generator=generator, dtype=dtype) for _ in range(4)]
    chosen = 2 * torch.rand(64, generator=generator, dtype=dtype)
    return logps, chosen, 2 - chosen, 0.5 + torch.rand(64, generator=generator, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_is_dpo_at_weights_one_bit_for_bit(dtype):
    logps, *_ = random_batch(0, dtype)
    one = torch.ones(64, dtype=dtype)
    torch.testing.assert_close(bdpo(*logps, one, one, one, beta=0.1), dpo(*logps, beta=0.1), rtol=0, atol=0)


def test_gradients_match_the_formula():
    """dL/dlog pi(y_w) = -s beta w_w sigmoid(-m); dL/dlog pi(y_l) = +s beta w_l sigmoid(-m)."""
    (pc, pr, rc, rr), chosen, rejected, scale = random_batch(7)
    pc.requires_grad_(), pr.requires_grad_()
    bdpo(pc, pr, rc, rr, chosen, rejected, scale, beta=0.1).sum().backward()
    margin = 0.1 * (chosen * (pc - rc) - rejected * (pr - rr)).detach()
    torch.testing.assert_close(pc.grad, -scale * 0.1 * chosen * torch.sigmoid(-margin))
    torch.testing.assert_close(pr.grad, scale * 0.1 * rejected * torch.sigmoid(-margin))


def test_is_finite_far_out():
    big = torch.tensor([1e4, -1e4])
    loss = bdpo(big, -big, *[torch.zeros(2)] * 2, *[torch.ones(2)] * 3, beta=0.5)
    assert loss.tolist() == pytest.approx([0.0, 1e4])
