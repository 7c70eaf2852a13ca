r"""Muon, an optimiser for weights that are matrices: every direction of a step is equally long.

The gradient of a matrix of weights is mostly a few strong directions, and every optimiser that
scales its entries one by one follows these and neglects the rest.  Muon takes the momentum
$M = U S V^\top$ and steps along $U V^\top$.
(Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; notebook 05b)
"""

from typing import Any

import torch
from torch import Tensor, nn


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    r"""About $U V^\top$ for each matrix $U S V^\top$, without its singular value decomposition.

    Each matrix is first scaled, so that its singular values are at most 1.  Then every round sends
    them through the polynomial $a s + b s^3 + c s^5$; five rounds bring all but the tiniest into
    0.7 ... 1.2, which is near enough.
    matrices: (N, rows, columns).  dtype: in which to multiply; bfloat16 will do.
    Returns (N, rows, columns) float32.
    """
    a, b, c = 3.4445, -4.7750, 2.0315  # found by search: small values are lifted quickly
    x = matrices.to(dtype)
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT  # lying on its side, its x x^T is the smaller square, and quicker to multiply
    for _ in range(5):
        square = x @ x.mT  # (N, n, n), n the smaller of rows and columns
        x = a * x + (b * square + c * square @ square) @ x
    if tall:
        x = x.mT
    return x.float()


class Muon(torch.optim.Optimizer):
    """Muon for convolutions.

    A weight of shape (out, in, height, width) counts as a matrix of out rows and
    in x height x width columns.
    weights: parameters, or groups of them as PyTorch's optimisers take.
    lr: the length of a step along each direction; times the root of rows / columns where there are
    more rows.
    momentum: the share of the average of past gradients that stays at each step; in the step itself
    the newest gradient counts once more (Nesterov's momentum).
    dtype: of the products in `orthogonalize`.
    """

    def __init__(
        self,
        weights: list,
        lr: float,
        momentum: float = 0.9,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "dtype": dtype})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes no closure
        """Move the weights that have a gradient.  closure: PyTorch passes one; it is not used."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for weights in alike.values():
                self._move(weights, group)

    def _move(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        """One step for N weights of the same shape, all at once."""
        momenta = [self._momentum(weight, group["momentum"]) for weight in weights]
        matrices = torch.stack(momenta).flatten(2)  # (N, rows, columns)
        directions = orthogonalize(matrices, dtype=group["dtype"])
        _, rows, columns = matrices.shape
        length = group["lr"] * max(1.0, rows / columns) ** 0.5
        for weight, direction in zip(weights, directions, strict=True):
            weight.sub_(direction.view(weight.shape), alpha=length)

    def _momentum(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """Take the gradient into the weight's average; return what its step is to follow."""
        assert weight.grad is not None  # as `step` has seen
        average = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        average.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(average, momentum)
