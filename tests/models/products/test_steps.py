"""Steps in C against float64."""

import pytest
import torch

from curate.models.products.steps import gate_, library, sum_exp


@pytest.fixture(params=[1, 3], ids=["one core", "three cores"], autouse=True)
def cores(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("columns", [1, 15, 16, 1000, 20_011])
def test_sums_of_exponentials(columns):
    torch.manual_seed(0)
    wide = torch.randn(37, 2 * columns + 3) * 10
    logits, shift = wide[:, 2 : 2 + columns], torch.randn(37) * 5 + 20
    expected = (logits - shift[:, None]).double().exp().sum(-1)
    found = sum_exp(logits, shift)
    assert library() and ((found - expected).abs() <= 1e-6 * expected).all()


def test_sums_of_exponentials_at_the_ends():
    logits = torch.tensor(
        [[-torch.inf] * 20, [-90.0] * 20, [1000.0] * 20, [torch.nan] + [0.0] * 19, [88.0] + [0.0] * 19]
    )
    found = sum_exp(logits, torch.zeros(5))
    assert found[0] == 0 and found[1] < 1e-38 and found[2] > 1e38 and found[3].isnan()
    assert abs(found[4] / torch.tensor(88.0).double().exp() - 1) < 1e-6


def test_what_is_not_for_us_is_left():
    logits = torch.randn(4, 8)
    assert sum_exp(logits.double(), torch.zeros(4)) is None
    assert sum_exp(logits.T, torch.zeros(8)) is None


@pytest.mark.parametrize("shape", [(1, 3, 7), (1, 40, 1031)], ids=str)
def test_gate(shape):
    torch.manual_seed(0)
    gated, raised = torch.randn(shape) * 40, torch.randn(shape)
    gated[0, 0, :5] = torch.tensor([-1e4, 1e4, torch.nan, 0, -torch.inf])
    expected = torch.nn.functional.silu(gated.double()) * raised
    found = gate_(gated.clone(), raised)
    expected[0, 0, 4] = found[0, 0, 4]  # torch: -inf times 0
    assert torch.allclose(found.double(), expected, rtol=1e-6, atol=1e-30, equal_nan=True) and found[0, 0, 2].isnan()


def test_gate_of_other_kinds_is_torchs():
    gated, raised = torch.randn(4, 8), torch.randn(4, 8)
    expected = torch.nn.functional.silu(gated) * raised
    assert torch.equal(
        gate_(gated.bfloat16(), raised.bfloat16()), torch.nn.functional.silu(gated.bfloat16()) * raised.bfloat16()
    )
    assert torch.allclose(gate_(gated.T.clone().T, raised), expected)
