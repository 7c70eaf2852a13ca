r"""Data simple enough for everything about them to be known exactly: mixtures of Gaussians, and a
Swiss roll.

For them the best possible network, $E[x_0 | x_t]$, is a formula, and samplers can be checked
against the truth.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tutorial_lib import gaussian


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of K round Gaussians of one variance in D dimensions.

    weights: (K,) summing to 1.  means: (K, D).  variance: of each component in each coordinate.
    """

    weights: Tensor
    means: Tensor
    variance: float

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` points, (count, D)."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[chosen] + self.variance**0.5 * noise

    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density at the points x, (N, D) -> (N,), in nats."""
        return torch.logsumexp(self._joint(x, self.means, self.variance), dim=1)

    def x_0_hat(self, x_t: Tensor, alpha_bar: float) -> Tensor:
        r"""$E[x_0 | x_t]$ for points x_t, (N, D), that `q_sample` has noised to $\bar\alpha_t$: the
        perfect network.

        Each component answers for itself, as for a single Gaussian; Bayes says how likely each one
        is.
        """
        signal, spread = math.sqrt(alpha_bar), alpha_bar * self.variance + 1 - alpha_bar
        share = self._joint(x_t, signal * self.means, spread).softmax(dim=1)  # (N, K)
        gain = signal * self.variance / spread
        return share @ self.means * (1 - gain * signal) + gain * x_t

    def _joint(self, x: Tensor, means: Tensor, variance: float) -> Tensor:
        """log of weight times density, of each point and component, (N, K)."""
        distances = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist")
        normal = gaussian.log_density(distances, 0.0, variance)
        others = (means.shape[1] - 1) * 0.5 * math.log(2 * math.pi * variance)
        return self.weights.log() + normal - others


def swiss_roll(count: int, generator: torch.Generator) -> Tensor:
    """Points along a spiral in the plane, (count, 2), of about unit variance."""
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(count, generator=generator).sort().values)
    points = torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1)
    return points / 7.2
