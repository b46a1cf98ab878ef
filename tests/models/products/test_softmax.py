"""Sums of exponentials that come in parts are those of one softmax in float64."""

import math

import pytest
import torch

from curate.models.products.softmax import FAR, ROOM, LogSumExp, scaled_softmax

ROWS = 5


def parts(offsets, spread=3.0):
    """A part of 40 columns for each offset, around it."""
    torch.manual_seed(0)
    return [offset + spread * torch.randn(ROWS, 40) for offset in offsets]


def added(every, overwrite=False):
    total = LogSumExp()
    for part in every:
        total.add(part.clone(), part.clone if overwrite else None)
    return total.log()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "offsets",
    [
        *((0.0,), (0.0, 1.0, -2.0), (-50.0, -50.0), (1000.0, 990.0), (-2000.0, 2000.0, 0.0)),
        (0.0, ROOM),  # about where a later part asks for another shift
        (0.0, ROOM + FAR + 5),
        (0.0, 80.0, 160.0, 400.0),  # rising all the way
        (90.0, 0.0, -90.0),
    ],
    ids=str,
)
def test_parts_of_any_size_add_up(offsets, overwrite):
    every = parts(offsets)
    expected = torch.cat(every, 1).double().logsumexp(1)
    found = added(every, overwrite)
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() < 1e-6 + 1e-7 * expected.abs().max()


def test_one_row_that_rises_leaves_the_others_as_they_were():
    every = parts((0.0, 0.0))
    every[1][2] += 500
    assert torch.allclose(added(every), torch.cat(every, 1).double().logsumexp(1), atol=1e-4, rtol=1e-7)


def test_logits_are_left_alone_unless_they_can_be_made_anew():
    (logits,) = parts((0.0,))
    before = logits.clone()
    LogSumExp().add(logits)
    assert torch.equal(logits, before)


def test_entries_that_are_masked_count_for_nothing():
    """A whole part of -inf first, as a padded vocabulary may have it; and single ones."""
    every = [torch.full((ROWS, 8), -torch.inf), *parts((3.0,))]
    every[1][:, ::2] = -torch.inf
    assert torch.allclose(added(every), every[1].double().logsumexp(1), atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_stays_none(value):
    """In its row alone, so that scoring can say which pair it was."""
    every = parts((0.0, 1.0))
    every[1][3, 7] = value
    assert torch.isfinite(added(every)).tolist() == [True, True, True, False, True]


def test_the_softmax_and_what_it_is_multiplied_with():
    (logits,) = parts((0.0,), spread=10.0)
    scale = torch.linspace(-1, 2, ROWS)
    found = scaled_softmax(logits, logits.logsumexp(1), scale)
    expected = scale[:, None] * logits.double().softmax(1)
    assert (found - expected).abs().max() < 5e-6
    certain = scaled_softmax(torch.tensor([[0.0, -4000.0]]), torch.zeros(1), torch.ones(1))
    assert certain.tolist() == [pytest.approx([1.0, 0.0], abs=1e-6)]
