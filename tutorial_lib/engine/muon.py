r"""Muon, an optimiser for weights that are matrices: momentum, with all its directions made equally
long.

The gradient of a matrix of weights is mostly a few strong directions, and every optimiser that
scales its entries one by one follows these and neglects the rest.  Muon takes the momentum
$M = U S V^\top$ and steps along $U V^\top$.
(Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; notebook 05)
"""

import torch
from torch import Tensor, nn

A, B, C = 3.4445, -4.7750, 2.0315  # chosen by Jordan et al. to lift small singular values quickly


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    r"""About $U V^\top$ for each matrix $U S V^\top$, without its singular value decomposition.

    matrices: (N, rows, columns).  Scaled to singular values of at most 1, each then goes through
    the polynomial
    $a s + b s^3 + c s^5$ in every round: five of them bring all but the tiniest into 0.7 ... 1.2,
    which is near enough.
    dtype: in which to multiply; bfloat16 will do.  Returns float32, (N, rows, columns).
    """
    x = matrices.to(dtype)
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x  # the small square is quicker
    for _ in range(5):
        square = x @ x.mT
        x = A * x + (B * square + C * square @ square) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon for convolutions: each weight (out, in, height, width) counts as a matrix of out x (in
    height width).

    weights: parameters, or groups of them as PyTorch's optimisers take.  lr: the length of a step
    along each direction; times the root of rows / columns where there are more rows.
    momentum: what stays of the average of gradients at each step; it is Nesterov's, the newest
    counts once more.
    dtype: of the products in `orthogonalize`.
    """

    def __init__(
        self, weights: list, lr: float, momentum: float = 0.9, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "dtype": dtype})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move the weights that have a gradient, those of one shape together.  closure: of
        PyTorch's form, unused.
        """
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for shape, weights in alike.items():
                update = torch.stack(
                    [self._momentum(weight, group["momentum"]) for weight in weights]
                )
                update = orthogonalize(
                    update.flatten(2), dtype=group["dtype"]
                )  # (N, out, in height width)
                length = group["lr"] * max(1.0, update.shape[1] / update.shape[2]) ** 0.5
                for weight, one in zip(weights, update, strict=True):
                    weight.sub_(one.view(shape), alpha=length)

    def _momentum(self, weight: nn.Parameter, momentum: float) -> Tensor:
        average = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        average.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(average, momentum)
