"""The optimiser of the model from scratch's matrices."""

import pytest
import torch

from curate.models.scratch.muon import Muon, orthogonal

SHAPES = [(32, 32), (96, 32), (32, 96)]


def parameters(*shapes, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(scale * torch.randn(shape, generator=generator)) for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_a_matrix_made_orthogonal(shape):
    """U S V^T becomes about U V^T, whatever its size."""
    (matrix,) = parameters(shape, scale=1e-3)
    u, _, v = torch.linalg.svd(matrix.detach(), full_matrices=False)
    found = orthogonal(matrix.detach())
    assert found.shape == shape
    inner = u.T @ found @ v.T
    assert torch.allclose(inner, torch.eye(len(inner)), atol=0.35)  # of torch's coefficients: 0.68 to 1.21
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-4)


def test_steps_are_those_of_torch_in_another_precision():
    ours, theirs = parameters(*SHAPES), parameters(*SHAPES)
    optimizers = [
        Muon(ours, lr=0.01, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(4):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=torch.Generator().manual_seed(step))
            its.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, its, start in zip(ours, theirs, parameters(*SHAPES), strict=True):
        moved, apart = (mine - start).norm(), (mine - its).norm()
        assert apart < 0.01 * moved  # bfloat16's


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_an_update_has_the_size_of_one_of_adamw(shape):
    """0.2 of the learning rate, root mean square over the entries: arXiv 2502.16982, section 2.2."""
    (matrix,) = parameters(shape)
    before = matrix.detach().clone()
    matrix.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    Muon([matrix], lr=0.5, weight_decay=0.0).step()
    assert float((matrix.detach() - before).square().mean().sqrt()) == pytest.approx(0.5 * 0.2, rel=0.2)


def test_no_gradient_no_change():
    still, moved = parameters((8, 8), (8, 8))
    moved.grad = torch.zeros(8, 8)
    Muon([still, moved], lr=0.1, weight_decay=0.5).step()
    start, _ = parameters((8, 8), (8, 8))
    assert torch.equal(still, start)
    assert torch.isfinite(moved).all()  # a gradient of zeros is no division by zero
