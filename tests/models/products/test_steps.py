"""Steps in C against float64, and torch's form of each against C's."""

import platform

import pytest
import torch
from narrow import compiled_with
from torch.nn.functional import silu

from curate.models.products import steps
from curate.models.products.steps import gate, gate_backward_, norm, norm_backward, softmax_slope_, sum_exp, transposed

HALF = {torch.float32: 1e-6, torch.bfloat16: 2**-8}  # of a number, relative
BOTH = pytest.mark.parametrize("dtype", HALF, ids=str)


@pytest.fixture(params=[1, 3], ids=["one core", "three cores"], autouse=True)
def cores(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """As on a processor with narrower vectors."""
    if platform.machine() != "x86_64":
        pytest.skip("has no such vectors")
    with compiled_with("-mno-avx", tmp_path_factory.mktemp("cache")):
        return steps.library.__wrapped__()


@pytest.fixture(params=["C", "narrow C"])
def _c(request, monkeypatch):
    assert steps.library()
    if request.param != "C":
        found = request.getfixturevalue("narrow")
        assert found
        monkeypatch.setattr(steps, "library", lambda: found)


@pytest.fixture(params=["C", "narrow C", "torch"])
def _way(request, monkeypatch):
    found = {"C": steps.library, "narrow C": lambda: request.getfixturevalue("narrow"), "torch": lambda: None}
    library = found[request.param]()
    monkeypatch.setattr(steps, "library", lambda: library)


def close(found, expected, dtype=torch.float32, floor=1e-30):
    assert found.dtype == dtype
    found, expected = found.double(), expected.double()
    return bool(((found - expected).abs() <= HALF[dtype] * expected.abs() + floor).all())


@BOTH
@pytest.mark.usefixtures("_c")
@pytest.mark.parametrize("columns", [1, 15, 16, 1000, 20_011])
def test_sums_of_exponentials(columns, dtype):
    torch.manual_seed(0)
    wide = (torch.randn(37, 2 * columns + 3) * 10).to(dtype)
    logits, shift = wide[:, 2 : 2 + columns], torch.randn(37) * 5 + 20
    expected = (logits.float() - shift[:, None]).double().exp().sum(-1)
    # The fewer numbers a vector of this processor has, the more are added one after the other.
    assert torch.allclose(sum_exp(logits, shift).double(), expected, rtol=5e-6, atol=0)


def test_sums_of_exponentials_at_the_ends():
    logits = torch.tensor(
        [[-torch.inf] * 20, [-90.0] * 20, [1000.0] * 20, [torch.nan] + [0.0] * 19, [88.0] + [0.0] * 19]
    )
    found = sum_exp(logits, torch.zeros(5))
    assert found[0] == 0 and found[1] < 1e-38 and found[2] > 1e38 and found[3].isnan()
    assert abs(found[4] / torch.tensor(88.0).double().exp() - 1) < 1e-6


def test_what_is_not_for_c_is_left():
    logits, of_rows, targets = torch.randn(4, 8), torch.zeros(4), torch.zeros(4, dtype=torch.int64)
    assert sum_exp(logits.double(), of_rows) is None
    assert sum_exp(logits.T, torch.zeros(8)) is None
    assert softmax_slope_(logits.half(), of_rows, of_rows, targets) is None
    assert softmax_slope_(torch.randn(8, 4).T, of_rows, of_rows, targets) is None


@BOTH
@pytest.mark.usefixtures("_c")
@pytest.mark.parametrize("columns", [5, 16, 1003])
def test_the_slope_of_log_softmax(columns, dtype):
    torch.manual_seed(0)
    logits = (torch.randn(37, columns) * 8).to(dtype)
    norm, scale = logits.double().logsumexp(-1).float(), torch.randn(37)
    targets = torch.randint(columns, (37,))
    targets[::3], targets[1::7] = -4, columns  # of another tile
    expected = -(logits.double() - norm[:, None]).exp()
    own = (targets >= 0) & (targets < columns)
    expected[own.nonzero()[:, 0], targets[own]] += 1
    expected *= scale[:, None]
    # 1 - p is as exact as float32 has p.
    assert close(softmax_slope_(logits, norm, scale, targets), expected, dtype, floor=3e-7)


def test_the_slope_of_a_token_that_is_all_but_certain():
    """In bfloat16 p would be 1, or .996: 1 - p is taken before it is rounded."""
    logits = torch.tensor([[0.0, -8.0]]).bfloat16()
    found = softmax_slope_(logits.clone(), logits.float().logsumexp(-1), torch.ones(1), torch.tensor([0]))
    expected = 1 / (1 + torch.tensor(8.0).exp())
    assert abs(found[0, 0] / expected - 1) < 1e-2 and abs(found[0, 1] / expected + 1) < 1e-2


@BOTH
@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("shape", [(1, 3, 7), (1, 40, 1031)], ids=str)
def test_gate(shape, dtype):
    torch.manual_seed(0)
    gated, raised, slope = ((torch.randn(shape) * size).to(dtype) for size in (20, 1, 1))
    gated[0, 0, :3] = torch.tensor([-60.0, 60.0, 0])
    exact = [part.double().requires_grad_() for part in (gated, raised)]
    expected = silu(exact[0]) * exact[1]
    expected.backward(slope.double())
    of_gated, of_raised = (part.grad for part in exact)
    exact_enough = {"dtype": dtype, "floor": 1e-6 if dtype == torch.float32 else 0.1}
    assert close(gate(gated, raised), expected, **exact_enough)
    found = gate_backward_(gated, raised, slope)
    assert all(
        close(one, other, **exact_enough) for one, other in zip(found, (expected, of_gated, of_raised), strict=True)
    )
    over = gate(gated, raised, overwrite=True)
    assert over.data_ptr() == gated.data_ptr() and close(over, expected, **exact_enough)


def test_gate_of_what_is_no_number():
    gated = torch.tensor([-1e4, 1e4, torch.nan, 0, -torch.inf])
    assert gate(gated.clone(), torch.ones(5))[:4].tolist() == pytest.approx([0, 1e4, torch.nan, 0], nan_ok=True)
    assert gate(gated.bfloat16(), torch.ones(5).bfloat16())[2].isnan()


def test_gate_of_other_kinds_is_torchs():
    gated, raised = torch.randn(4, 8), torch.randn(4, 8)
    assert torch.equal(gate(gated.double(), raised.double()), silu(gated.double()) * raised.double())
    assert torch.allclose(gate(gated.T.clone().T, raised), silu(gated) * raised)


@BOTH
@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("width", [7, 64, 384])
def test_norm(width, dtype):
    torch.manual_seed(0)
    states, weight = torch.randn(2, 19, width) * 3, torch.randn(width)
    states[0, 0] = 0
    slope = torch.randn(2, 19, width).to(dtype)
    exact = [part.double().requires_grad_() for part in (states, weight)]
    expected = exact[0] / (exact[0].square().mean(-1, keepdim=True) + 1e-6).sqrt() * exact[1]
    expected.backward(slope.double())
    found, scale = norm(states, weight, 1e-6, dtype)
    assert close(found, expected, dtype) and scale.shape == (2, 19, 1)
    assert scale[0, 0] == pytest.approx(1e3)
    of_states, of_weight = norm_backward(states, weight, scale, slope, True)
    ordinary = slice(1, None)
    assert close(of_states.flatten(0, 1)[ordinary], exact[0].grad.flatten(0, 1)[ordinary], floor=1e-6)
    assert torch.allclose(of_states[0, 0].double(), exact[0].grad[0, 0], rtol=1e-5)
    assert close(of_weight, exact[1].grad, floor=1e-5)
    assert norm_backward(states, weight, scale, slope, False)[1] is None


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (33, 50), (1003, 517)], ids=str)
def test_transposed(shape):
    matrix = torch.randn(shape)
    found = transposed(matrix)
    assert found.is_contiguous() and torch.equal(found, matrix.t())
    assert torch.equal(transposed(matrix.t()), matrix) and torch.equal(transposed(matrix.double()), matrix.double().t())
