"""The LM head in chunks: log-probabilities and gradients of the plain formula, whatever the chunk."""

import pytest
import torch
from torch.nn.functional import linear

from curate.models.products import head

ROWS, HIDDEN, VOCABULARY = 37, 16, 53


@pytest.fixture(params=[1, 5, 37, 1000], ids="{}-rows".format)
def _chunks(request, monkeypatch):
    """Rows in a chunk: one, some with a rest, all, more."""
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", request.param * 4 * VOCABULARY)


def inputs(bias=True, dtype=torch.float32):
    """(states, weight, bias or None, targets, slope of each row), the first three with gradient; logits up to 10."""
    torch.manual_seed(0)
    parts = [2 * torch.randn(ROWS, HIDDEN), torch.randn(VOCABULARY, HIDDEN), torch.randn(VOCABULARY)]
    states, weight, offset = (part.to(dtype).requires_grad_() for part in parts)
    return states, weight, offset if bias else None, torch.randint(VOCABULARY, (ROWS,)), torch.randn(ROWS)


def plain(states, weight, bias, targets, softcap=None):
    """In float64: (log-probs, alignments)."""
    logits = linear(states.double(), weight.double(), None if bias is None else bias.double())
    logits = torch.tanh(logits / softcap) * softcap if softcap else logits
    logps = logits.log_softmax(-1)
    found = logps.gather(1, targets[:, None])[:, 0]
    return found, found - logps.exp().square().sum(-1).log()


def assert_near(ours, theirs, tolerance=1e-5):
    """The largest difference, in units of the largest value."""
    assert ours.shape == theirs.shape
    assert (ours.double() - theirs.double()).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_log_softmax(bias, softcap):
    states, weight, offset, targets, slope = inputs(bias)
    wanted = [part for part in (states, weight, offset) if part is not None]
    expected, _ = plain(states, weight, offset, targets, softcap)
    found, aligned = head.token_logps(states, weight, offset, targets, softcap=softcap)
    assert found.dtype == torch.float32 and aligned is None
    assert_near(found, expected)
    theirs = torch.autograd.grad((expected * slope).sum(), wanted)
    ours = torch.autograd.grad((found * slope).sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("frozen", range(3))
def test_what_is_frozen_gets_no_gradient_and_the_others_the_same(frozen):
    """With adapters the head's weights stand still, and nothing is computed for them."""
    *three, targets, slope = inputs()
    head.token_logps(*three, targets)[0].mul(slope).sum().backward()
    kept = [part.grad.clone() for part in three]
    for part in three:
        part.grad = None
    three[frozen].requires_grad_(False)
    head.token_logps(*three, targets)[0].mul(slope).sum().backward()
    for number, part in enumerate(three):
        assert part.grad is None if number == frozen else torch.equal(part.grad, kept[number])


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_alignment_is_wpos_and_carries_no_gradient(softcap):
    states, weight, bias, targets, _ = inputs()
    logps, aligned = head.token_logps(states, weight, bias, targets, softcap=softcap, alignment=True)
    expected, wanted = plain(states, weight, bias, targets, softcap)
    assert_near(aligned, wanted)
    assert_near(logps, expected)
    assert logps.requires_grad and not aligned.requires_grad
    # The same gradient as without: making the alignments leaves nothing behind.
    (ours,) = torch.autograd.grad(logps.sum(), states)
    (theirs,) = torch.autograd.grad(expected.sum(), states)
    assert_near(ours, theirs)


def test_a_token_that_is_certain_and_one_that_is_hopeless():
    """Logits of +-2,000: finite values and gradients."""
    states = torch.eye(2).mul(2000.0).requires_grad_()
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], requires_grad=True)
    logps, aligned = head.token_logps(states, weight, None, torch.tensor([0, 2]), alignment=True)
    for found in (logps, aligned):
        assert found.tolist() == pytest.approx([0.0, -4000.0], abs=1e-7)
    logps.sum().backward()
    assert torch.isfinite(weight.grad).all() and states.grad[0].abs().max() < 1e-6


@pytest.mark.usefixtures("_chunks")
def test_autocast_multiplies_in_bfloat16_and_gives_float32():
    states, weight, bias, targets, slope = inputs()
    expected, _ = plain(states, weight, bias, targets)
    theirs = torch.autograd.grad((expected * slope).sum(), (states, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        logps, _ = head.token_logps(states, weight, bias, targets)
    ours = torch.autograd.grad((logps * slope).sum(), (states, weight, bias))
    assert logps.dtype == torch.float32 and all(part.dtype == torch.float32 for part in ours)
    difference = (logps - expected).abs().max()
    assert 1e-4 < difference < 0.2  # not float32's, and no worse than bfloat16 must be
    for one, other in zip(ours, theirs, strict=True):
        assert_near(one, other, 0.03)
