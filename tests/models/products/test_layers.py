"""Layers that keep less give what the model's own give, forward and backward."""

import copy

import pytest
import torch
from tiny import small
from torch import nn
from transformers import AutoModelForCausalLM

from curate.models.products.layers import fuse, lighten


def made(kind):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(small(kind))


def lightened(model, remake=False):
    ours = copy.deepcopy(model)
    lighten(ours, remake=remake)
    return ours


def light(model):
    """Names of the modules that were changed."""
    return {
        name for name, module in model.named_modules() if "forward" in vars(module) and type(module) is not nn.Linear
    }


def gradients(model, autocast):
    ids = torch.arange(24).view(2, 12)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(input_ids=ids, use_cache=False).logits.float()
    (logits.log_softmax(-1)[:, :, 3] ** 2).mean().backward()
    return logits.detach(), [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_a_model_gives_the_same_with_them(kind, autocast):
    model = made(kind)
    ours = lightened(model)
    assert any("mlp" in name for name in light(ours)) and any("norm" in name for name in light(ours))
    exact, found = gradients(copy.deepcopy(model), False), gradients(ours, autocast)
    assert all(gradient.dtype == torch.float32 for gradient in found[1])
    if not autocast:
        assert away(found, exact) < 1e-5
    else:
        assert away(found, exact) <= 1.1 * away(gradients(model, True), exact) < 0.1


def away(found, exact):
    """The root mean square of the relative distances of the logits and of each gradient."""
    pairs = list(zip([found[0], *found[1]], [exact[0], *exact[1]], strict=True))
    return (sum((one - other).norm() ** 2 / other.norm() ** 2 for one, other in pairs) / len(pairs)) ** 0.5


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_norms_that_are_made_again_give_the_same_bits_and_keep_less(kind, autocast):
    """Also where another reads the norm too: the queries' and keys' own norms of qwen3, say."""
    model = made(kind)
    kept = {}
    for remake in (False, True):
        ours = lightened(model, remake)
        storages = {}

        def note(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            found = gradients(ours, autocast)
        kept[remake] = sum(storages.values()), found
    (before, (logits, wanted)), (after, (same, got)) = kept[False], kept[True]
    assert torch.equal(logits, same) and all(torch.equal(one, other) for one, other in zip(wanted, got, strict=True))
    assert after == before if autocast else after < before


def test_a_norm_is_not_made_from_what_was_overwritten():
    model = made("llama")
    norm, layer = model.model.layers[0].input_layernorm, model.model.layers[0].mlp
    lighten(model, remake=True)
    states = torch.randn(1, 3, model.config.hidden_size, requires_grad=True)
    moved = states * 1
    out = layer(norm(moved)).sum()
    with torch.no_grad():
        moved.add_(1)
    with pytest.raises((AssertionError, RuntimeError)):
        out.backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_without_gradients_it_gives_the_same_too(dtype):
    model = made("llama").to(dtype)
    ours = copy.deepcopy(model)
    fuse(ours)
    assert any("mlp" in name for name in light(ours)) and any("norm" in name for name in light(ours))
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        expected, found = (one(input_ids=ids, use_cache=False).logits for one in (model, ours))
    assert found.dtype == dtype
    assert (found - expected).abs().max() <= (1e-5 if dtype == torch.float32 else 2e-2) * expected.abs().max()


def test_weights_in_bfloat16_get_their_gradients():
    """Of an adapted model that stands in bfloat16, say."""
    model = made("llama").to(torch.bfloat16)
    expected, wanted = gradients(copy.deepcopy(model), autocast=False)
    fuse(model)
    found, got = gradients(model, autocast=False)
    assert (found - expected).abs().max() <= 2e-2 * expected.abs().max()
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == torch.bfloat16 and (one - other).norm() <= 5e-2 * other.norm()


def test_layers_that_compute_something_else_stay_as_they_are():
    gemma = made("gemma3_text")  # a norm with 1 + weight, GELU in the middle
    assert light(lightened(gemma)) == set()

    class Scaled(nn.Module):
        """A norm by name and by its parts, and not by what it computes."""

        def __init__(self):
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, states):
            return 2 * nn.functional.rms_norm(states, (8,), self.weight, self.variance_epsilon)

    class Added(Scaled):
        """Which shows on what is small alone."""

        def forward(self, states):
            return nn.functional.rms_norm(states, (8,), self.weight) * states.norm() / (states.norm() + 1e-4)

    class Gated(Scaled):
        """Which shows with a gate alone."""

        def forward(self, states, gate=None):
            normed = nn.functional.rms_norm(states, (8,), self.weight, self.variance_epsilon)
            return normed if gate is None else normed * gate

    for norm in (Scaled, Added, Gated):
        assert light(lightened(nn.Sequential(norm()))) == set(), norm
    mlp = made("llama").model.layers[0].mlp
    assert light(lightened(nn.Sequential(mlp)))

    class Clamped(type(mlp)):
        """Which shows on what is large alone."""

        def forward(self, states):
            return self.down_proj(self.act_fn(self.gate_proj(states).clamp(max=9)) * self.up_proj(states))

    mlp.__class__ = Clamped
    assert light(lightened(nn.Sequential(mlp))) == set()


def test_adapters_put_in_afterwards_are_heeded():
    model = lightened(made("llama"))
    mlp = model.model.layers[0].mlp
    states = torch.randn(1, 3, model.config.hidden_size)
    before = mlp(states)
    mlp.gate_proj = nn.Sequential(mlp.gate_proj, nn.Hardtanh(-1e-3, 1e-3))
    assert (mlp(states) - before).abs().max() > 1e-3 * before.abs().max()
