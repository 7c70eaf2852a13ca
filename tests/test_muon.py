"""Muon against the singular value decomposition and PyTorch's own, which takes matrices only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from tutorial_lib.engine.muon import Muon, orthogonalize


def matrices(count: int, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.equation("Jordan")
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_each_direction_stays_and_becomes_about_equally_long(count, rows, columns, seed):
    """Diagonal between the old singular vectors: what the polynomial makes of the old values."""
    x = matrices(count, rows, columns, seed).double()
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    for _ in range(5):
        norm = s.square().sum(1, keepdim=True).sqrt() if _ == 0 else 1.0
        s = s / norm
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = u @ s.diag_embed() @ v
    assert_close(orthogonalize(x, dtype=torch.float64), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(16, 64), (64, 16), (32, 48)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_end_near_one_whatever_they_were(rows, columns, dtype):
    x = matrices(3, rows, columns) * torch.logspace(0, -1, columns)  # strong and weak directions
    before, after = torch.linalg.svdvals(x), torch.linalg.svdvals(orthogonalize(x, dtype=dtype))
    assert float((before[:, 0] / before[:, -1]).min()) > 3
    assert float(after.min()) > 0.6 and float(after.max()) < 1.3


def test_length_does_not_matter_and_zero_stays_zero():
    x = matrices(2, 5, 8)
    assert_close(orthogonalize(1e6 * x), orthogonalize(x), rtol=1e-4, atol=1e-5)
    assert not orthogonalize(torch.zeros(1, 3, 4)).any()


@pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="PyTorch has a Muon of its own from 2.9 on"
)
@pytest.mark.parametrize(("rows", "columns"), [(6, 20), (20, 6)])
def test_steps_of_pytorchs_muon(rows, columns):
    ours, theirs = (nn.Parameter(matrices(1, rows, columns)[0].clone()) for _ in range(2))
    convolution = nn.Parameter(ours.detach().view(rows, columns, 1, 1).clone())
    a = Muon([convolution], lr=0.1, momentum=0.95, dtype=torch.bfloat16)
    b = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, momentum=0.95, nesterov=True)
    for step in range(4):
        gradient = matrices(1, rows, columns, seed=step)[0]
        convolution.grad, theirs.grad = gradient.view_as(convolution), gradient
        a.step()
        b.step()
    moved = convolution.detach().view(rows, columns)
    assert_close(moved, theirs.detach(), rtol=0, atol=0.02)  # bfloat16
    assert float((theirs - ours).abs().mean()) > 0.05  # it went somewhere


def test_the_order_of_memory_does_not_matter():
    """Weights in channels_last move like the same weights in the plain order, and stay in it."""
    start = matrices(1, 6, 36)[0].view(6, 4, 3, 3)
    gradient = matrices(1, 6, 36, 1)[0].view(6, 4, 3, 3)
    moved = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone(memory_format=layout))
        weight.grad = gradient.clone(memory_format=layout)
        Muon([weight], lr=0.1).step()
        assert weight.is_contiguous(memory_format=layout)
        moved.append(weight.detach())
    assert_close(moved[0], moved[1].contiguous(), rtol=0, atol=1e-6)


def test_weights_of_one_shape_move_as_if_alone():
    start = [matrices(1, 4, 9, seed)[0].view(4, 1, 3, 3) for seed in range(3)]
    together = [nn.Parameter(w.clone()) for w in start]
    for weight in together:
        weight.grad = weight.detach() ** 2
    together.append(nn.Parameter(torch.ones(2, 2, 1, 1)))  # without a gradient
    Muon(together, lr=0.1).step()
    for weight, moved in zip(start, together, strict=False):
        alone = nn.Parameter(weight.clone())
        alone.grad = weight**2
        Muon([alone], lr=0.1).step()
        assert_close(moved.detach(), alone.detach(), rtol=0, atol=1e-6)
    assert torch.equal(together[-1].detach(), torch.ones(2, 2, 1, 1))
