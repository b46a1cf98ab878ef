"""Queries and keys rotated at once are those that transformers' steps give, to the bit."""

import importlib

import pytest
import torch

from curate.models.products.rotary import DTYPES, NAME, Rotation, kernels, rotate_at_once


def modeling(kind):
    return importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")


@pytest.fixture
def theirs(monkeypatch):
    """transformers' own function of a file, which the file has again afterwards."""

    def get(kind):
        own = getattr(modeling(kind), NAME)
        own = own._theirs if isinstance(own, Rotation) else own
        monkeypatch.setattr(modeling(kind), NAME, own)
        return own

    return get


def states(batch=2, tokens=7, heads=(6, 2), width=24, dtype=torch.float32):
    """q, k as a layer makes them, cos, sin."""
    torch.manual_seed(0)
    q, k = (torch.randn(batch, tokens, one, width).to(dtype).transpose(1, 2).requires_grad_() for one in heads)
    return q, k, torch.randn(batch, tokens, width), torch.randn(batch, tokens, width)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_same_bits(kind, dtype, theirs):
    own = theirs(kind)
    given = states(dtype=dtype)
    expected, found = own(*given), Rotation(own, kernels(), DTYPES)(*given)
    slopes = [torch.randn(one.shape) for one in expected]
    gradients = (torch.autograd.grad(one, given[:2], slopes) for one in (expected, found))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    for other, one in zip(*gradients, strict=True):
        # In bfloat16 transformers rounds each of the gradient's two parts, and their sum.
        assert torch.equal(one, other) if dtype == torch.float32 else (one - other).norm() <= 0.01 * other.norm()


@pytest.mark.parametrize("case", ["one row for all", "half the width", "float64", "bfloat16 angles", "another axis"])
def test_what_is_not_ours_is_left_to_theirs(case, theirs):
    own, options = theirs("llama"), {}
    q, k, cos, sin = states()
    if case == "one row for all":
        cos, sin = cos[:1], sin[:1]
    elif case == "float64":
        q, k, cos, sin = (part.double() for part in (q, k, cos, sin))
    elif case == "bfloat16 angles":
        q, k, cos, sin = (part.bfloat16() for part in (q, k, cos, sin))
    elif case == "another axis":
        q, k, options = q.transpose(1, 2), k.transpose(1, 2), {"unsqueeze_dim": 2}
    else:
        own = theirs("phi3")  # rotates as much as cos is wide
        cos, sin = cos[..., :12], sin[..., :12]
    found, expected = Rotation(own, kernels(), DTYPES)(q, k, cos, sin, **options), own(q, k, cos, sin, **options)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize(("kind", "ours"), [("llama", True), ("qwen2", True), ("glm", False), ("cohere", False)])
def test_a_file_whose_rotation_is_another_keeps_it(kind, ours, theirs):
    """glm and cohere turn neighbours, not halves."""
    own = theirs(kind)
    layer = next(each for name, each in vars(modeling(kind)).items() if name.endswith("DecoderLayer"))
    module = layer.__new__(layer)
    torch.nn.Module.__init__(module)
    rotate_at_once(module)
    rotate_at_once(module)
    now = getattr(modeling(kind), NAME)
    assert isinstance(now, Rotation) == ours and (now._theirs if ours else now) is own


def test_one_that_gives_bfloat16_again_is_ours_in_float32_alone(theirs):
    """OLMo's: attention takes queries, keys and values of one dtype."""
    from tiny import small
    from transformers import AutoModelForCausalLM

    own = theirs("olmo2")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small("olmo2"))
    rotate_at_once(model)
    now = getattr(modeling("olmo2"), NAME)
    for dtype in DTYPES:
        given = states(dtype=dtype)
        for one, other in zip(now(*given), own(*given), strict=True):
            assert one.dtype == dtype and torch.equal(one, other)
        assert isinstance(now(*given)[0].grad_fn, torch.autograd.function.BackwardCFunction) == (dtype == DTYPES[0])
    ids = torch.arange(3, 23)[None]
    assert torch.isfinite(model.bfloat16()(ids).logits).all()


def test_a_models_output_keeps_its_bits(theirs):
    from tiny import small
    from transformers import AutoModelForCausalLM

    own = theirs("qwen2")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small("qwen2"))
    ids = torch.arange(3, 23)[None]
    expected = model(ids, labels=ids)
    expected.loss.backward()
    gradients = [one.grad.clone() for one in model.parameters()]
    rotate_at_once(model)
    assert getattr(modeling("qwen2"), NAME)._theirs is own
    model.zero_grad()
    found = model(ids, labels=ids)
    found.loss.backward()
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(one.grad, other) for one, other in zip(model.parameters(), gradients, strict=True))
