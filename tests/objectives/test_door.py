"""DOOR by hand and against NumPy; W-DOOR's token weights; the length of the harmful beginning."""

import math

import numpy as np
import pytest
import torch

from curate.objectives.door import door, prefix_length, token_weights

DOUBLE = torch.float64


def tensors(*values):
    return [torch.tensor(value, dtype=DOUBLE) for value in values]


def test_by_hand():
    """a 0.2, b 0.5.

    Harmful: Delta(y_h) = -15 - -14 = -1, log sigmoid(0.5) = -0.4740770, unlearning 4 * 0.4740770 = 1.8963079;
        refusal 6; L = 0.2 (6 + 1.8963079) = 1.5792616.
    Benign: 0.8 * 10 = 8; its rejected response and refusal do not count.
    """
    loss = door(*tensors([-10.0, -10.0], [-15.0, -15.0], [-14.0, -14.0], [-6.0, -6.0], [1.0, 0.0]))
    assert loss.tolist() == pytest.approx([1.5792616, 8.0], abs=1e-7)


def test_against_numpy():
    generator = np.random.default_rng(0)
    chosen, rejected, reference, refusal = generator.uniform(-40, -1, (4, 50))
    harmful = np.arange(50) % 3 > 0
    expected = np.empty(50)
    for i in range(50):
        if harmful[i]:
            ratio = math.exp(rejected[i] - reference[i])  # pi_theta(y_h) / pi_ref(y_h)
            # NPO as its paper has it: (2/b) log(1 + (pi_theta/pi_ref)^b)
            expected[i] = 0.3 * (-refusal[i] + 2 / 0.7 * math.log(1 + ratio**0.7))
        else:
            expected[i] = 0.7 * -chosen[i]
    arrays = (chosen, rejected, reference, refusal, harmful.astype(float))
    loss = door(*map(torch.from_numpy, arrays), a=0.3, b=0.7)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-12)


def test_gradients_go_to_the_refusal_and_the_harmful_answer_or_to_the_benign_one():
    """Harmful: -a for the refusal, +2a sigmoid(b Delta) for y_h; at Delta = 0 that is +a. Benign: -(1 - a)."""
    chosen, rejected, refusal = (x.requires_grad_() for x in tensors([-10.0] * 2, [-15.0] * 2, [-6.0] * 2))
    door(chosen, rejected, *tensors([-15.0] * 2), refusal, *tensors([1.0, 0.0])).sum().backward()
    assert refusal.grad.tolist() == pytest.approx([-0.2, 0])
    assert rejected.grad.tolist() == pytest.approx([0.2, 0])
    assert chosen.grad.tolist() == pytest.approx([0, -0.8])


def test_token_weights_by_hand():
    """(pi*/pi_ref)^(1/5): e^(5/5) = 2.7182818; e^(-5/5) = 0.3678794; equal: 1; e^(50/5) and e^(-50/5) are clipped."""
    aligned = torch.tensor([[0.0, -5.0, -3.0], [-1.0, -51.0, -2000.0]], dtype=DOUBLE, requires_grad=True)
    reference = torch.tensor([[-5.0, 0.0, -3.0], [-51.0, -1.0, 0.0]], dtype=DOUBLE)
    weights = token_weights(aligned, reference)
    assert weights.flatten().tolist() == pytest.approx([2.7182818, 0.3678794, 1, 10, 0.1, 0.1])
    assert not weights.requires_grad
    assert token_weights(aligned, reference, tau=1.0, low=0.0, high=200.0)[0].tolist() == pytest.approx(
        [148.4131591, 0.006737947, 1]
    )


def lengths(epoch=0, seed=1, tokens=1000, longest=100, pairs=4000, room=None):
    options = {"seed": seed, "epoch": epoch, "harmful_tokens": tokens, "longest": longest, "room": room}
    return [prefix_length(f"pair {i}", **options) for i in range(pairs)]


def test_prefix_length_is_0_on_half_of_the_rows_and_else_uniform_from_1_to_the_longest():
    drawn = np.array(lengths())
    assert 0.46 < (drawn == 0).mean() < 0.54  # five standard errors of 4000 draws
    counts = np.bincount(drawn[drawn > 0], minlength=101)[1:]
    assert len(counts) == 100 and counts.min() > 0
    mean = counts.sum() / 100
    assert ((counts - mean) ** 2 / mean).sum() < 170  # chi-squared of 99 degrees: 148 at p = 0.001


def test_prefix_length_depends_on_the_seed_the_epoch_and_the_pair_alone():
    same, other_epoch, other_seed = lengths(pairs=200), lengths(epoch=1, pairs=200), lengths(seed=2, pairs=200)
    assert lengths(pairs=200) == same
    assert same != other_epoch != other_seed != same
    # Not seed + epoch: one run's second epoch is not the next run's first.
    assert lengths(seed=1, epoch=1, pairs=200) != lengths(seed=2, epoch=0, pairs=200)
    assert lengths(seed=1, epoch=11, pairs=200) != lengths(seed=11, epoch=1, pairs=200)


def test_prefix_length_leaves_the_end_of_turn_out():
    full, short = lengths(pairs=200), lengths(tokens=7, pairs=200)
    assert short == [min(k, 6) for k in full] and max(full) > 6
    assert set(lengths(tokens=1, pairs=200)) == {0}
    assert set(lengths(longest=1, pairs=200)) == {0, 1}


def test_prefix_length_keeps_to_the_room():
    full, narrow = lengths(pairs=200), lengths(pairs=200, room=9)
    assert narrow == [min(k, 9) for k in full] and max(full) > 9
    assert set(lengths(pairs=200, room=0)) == {0} and lengths(pairs=200, room=100) == full


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"longest": 0}, {"room": -1}])
def test_prefix_length_refuses_no_tokens(wrong):
    with pytest.raises(ValueError, match=r"at least one|longer than"):
        lengths(pairs=1, **wrong)
