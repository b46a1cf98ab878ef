"""oneDNN's float32 products are PyTorch's own, forward and backward."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from curate.models.products.linear import _Linear, operand, product, rounding_once, speed_up


def draw(*shape, transposed=False):
    """Standard normal; `transposed` is a view on the last two axes' transpose."""
    return torch.randn(*shape[:-2], shape[-1], shape[-2]).mT if transposed else torch.randn(*shape)


def assert_near(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (19, 24), (3, 7, 24), (2, 3, 5, 24)], ids=str)
@pytest.mark.parametrize("views", [(False, False), (True, False), (False, True), (True, True)], ids=str)
def test_a_product_is_torchs(shape, views, biased):
    torch.manual_seed(0)
    a, b = draw(*shape, transposed=views[0]), draw(11, 24, transposed=views[1])
    bias = torch.randn(11) if biased else None
    assert_near(product(a, b, bias), linear(a, b, bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_keep_theirs(dtype):
    torch.manual_seed(0)
    a, b, bias = (draw(*shape).to(dtype) for shape in ((5, 8), (3, 8), (3,)))
    assert torch.equal(product(a, b, bias), linear(a, b, bias))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(19, 24), (3, 7, 24)], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_layers_gradients_are_torchs(shape, transposed, biased):
    torch.manual_seed(0)
    states, weight = draw(*shape, transposed=transposed).requires_grad_(), draw(11, 24).requires_grad_()
    bias = torch.randn(11, requires_grad=True) if biased else None
    wanted = [part for part in (states, weight, bias) if part is not None]
    slope = draw(*shape[:-1], 11, transposed=transposed)
    ours, theirs = _Linear.apply(states, weight, bias, None), linear(states, weight, bias)
    assert_near(ours, theirs)
    pairs = zip(torch.autograd.grad(ours, wanted, slope), torch.autograd.grad(theirs, wanted, slope), strict=True)
    for one, other in pairs:
        assert_near(one, other)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("autocast", [False, True])
def test_what_a_layer_gives_may_be_overwritten(autocast, biased):
    torch.manual_seed(0)
    layers = {name: torch.nn.Linear(24, 11, biased) for name in ("ours", "theirs")}
    layers["theirs"].load_state_dict(layers["ours"].state_dict())
    speed_up(layers["ours"])
    states, slope = draw(3, 7, 24), draw(3, 7, 11)
    for layer in layers.values():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            given = layer(states)
            given *= 3.0  # as Gemma 3n does
        (given.float() * slope).sum().backward()
    for ours, theirs in zip(*(layer.parameters() for layer in layers.values()), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-2 if autocast else 1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", range(3))
def test_only_what_asks_for_a_gradient_gets_one(frozen):
    torch.manual_seed(0)
    three = [draw(5, 8).requires_grad_(), draw(3, 8).requires_grad_(), draw(3).requires_grad_()]
    three[frozen].requires_grad_(False)
    _Linear.apply(*three, None).sum().backward()
    assert [part.grad is None for part in three] == [number == frozen for number in range(3)]


class Wider(nn.Linear):
    """A layer of someone's own."""

    def forward(self, states):
        return super().forward(states) + 1


def test_speed_up_keeps_what_a_model_gives_and_what_is_no_plain_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), Wider(6, 6), nn.Linear(6, 5, bias=False), nn.Linear(5, 2).double())
    states = torch.randn(4, 8)
    body, before = model[:3], model[:3](states)
    names = set(model.state_dict())
    speed_up(model)
    assert_near(body(states), before)
    assert set(model.state_dict()) == names
    sped = ["forward" in vars(layer) for layer in model]
    assert sped == [True, False, True, False]


def test_under_autocast_a_layer_runs_in_bfloat16():
    torch.manual_seed(0)
    layer, states = nn.Linear(8, 6), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        before = layer(states)
    speed_up(layer)
    with torch.autocast("cpu", torch.bfloat16):
        after = layer(states)
    assert after.dtype == torch.bfloat16 and torch.equal(after, before)
    after.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_under_autocast_gradients_of_a_layer_sped_up_without_it_stay_float32():
    """The backward pass runs outside autocast, as Trainer runs it; a layer run inside one is not ours."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 6)
    speed_up(layer)
    states = torch.randn(4, 8, requires_grad=True)
    found = layer(states)
    with torch.autocast("cpu", torch.bfloat16):
        (ours,) = torch.autograd.grad(found, states, torch.ones(4, 6))
    assert ours.dtype == torch.float32
    assert_near(ours, torch.ones(4, 6) @ layer.weight.detach())


def test_weights_are_rounded_once_in_a_block_and_anew_after_a_fused_step():
    """Fused AdamW changes a weight without telling: its version stays the same."""
    torch.manual_seed(0)
    layer, states = nn.Linear(8, 6), torch.randn(4, 8)
    speed_up(layer)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1.0, fused=True)

    def step():
        with rounding_once(), torch.autocast("cpu", torch.bfloat16):
            assert operand(layer.weight) is operand(layer.weight)
            found = layer(states)
        found.float().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return found.detach().float()

    first, second = step(), step()
    assert (second - first).abs().max() > 0.5
    with torch.autocast("cpu", torch.bfloat16):
        expected = linear(states, layer.weight, layer.bias)
        assert operand(layer.weight) is not operand(layer.weight)
    assert torch.equal(layer(states).bfloat16(), expected) or (layer(states) - expected).abs().max() < 0.05
