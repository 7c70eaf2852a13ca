r"""Data of which everything can be known exactly: mixtures of Gaussians; and shapes in the plane.

For a mixture the best possible network, $E[x_0 | x_t]$, is a formula, so samplers can be checked
against the truth.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tutorial_lib import gaussian


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of K round Gaussians of one variance in D dimensions.

    weights: (K,) summing to 1.
    means: (K, D).
    variance: of each component in each coordinate.
    """

    weights: Tensor
    means: Tensor
    variance: float

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` points, (count, D)."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        means = self.means[chosen]  # (count, D)
        noise = torch.randn(means.shape, generator=generator, dtype=means.dtype)
        return means + self.variance**0.5 * noise

    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density at the points x, (N, D) -> (N,), in nats."""
        log_joint = self._log_joint(x, self.means, self.variance)  # (N, K)
        return log_joint.logsumexp(dim=1)

    def score(self, x: Tensor) -> Tensor:
        r"""The gradient of the log-density at the points x, (N, D) -> (N, D).

        Towards each mean, $(\mu_k - x) / \sigma^2$, weighted by the component's probability at x.
        """
        posterior = self._log_joint(x, self.means, self.variance).softmax(dim=1)  # (N, K)
        return (posterior @ self.means - x) / self.variance

    def blurred(self, sigma: float) -> "Mixture":
        r"""The mixture that $x_0 + \sigma \epsilon$ has: the same, of a larger variance."""
        return Mixture(self.weights, self.means, self.variance + sigma**2)

    def x_0_hat(self, x_t: Tensor, alpha_bar: float) -> Tensor:
        r"""The best possible network: $E[x_0 | x_t]$ for points x_t that `q_sample` has noised.

        x_t: (N, D).  alpha_bar: $\bar\alpha_t$ of their step.  Returns (N, D).
        For a single Gaussian of mean $\mu$ it is $\mu + g (x_t - \sqrt{\bar\alpha_t} \mu)$, with
        one gain g for all points.  Here each component gives such an estimate, and Bayes' rule says
        how much each of them counts.
        """
        signal = math.sqrt(alpha_bar)
        variance_t = alpha_bar * self.variance + 1 - alpha_bar  # of a component, once noised
        log_joint = self._log_joint(x_t, signal * self.means, variance_t)
        posterior = log_joint.softmax(dim=1)  # (N, K): the probability of each component
        mean = posterior @ self.means  # (N, D)
        gain = signal * self.variance / variance_t
        return mean * (1 - gain * signal) + gain * x_t

    def _log_joint(self, x: Tensor, means: Tensor, variance: float) -> Tensor:
        """The logarithm of weight times density, of each point and component, (N, K)."""
        distances = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist")
        along = gaussian.log_density(distances, 0.0, variance)  # in the direction of the mean
        log_norm = 0.5 * math.log(2 * math.pi * variance)
        across = (means.shape[1] - 1) * log_norm  # the other D - 1 directions, where x is at 0
        return self.weights.log() + along - across


def swiss_roll(count: int, generator: torch.Generator) -> Tensor:
    """Points along a spiral in the plane, (count, 2), of about unit variance."""
    position = torch.rand(count, generator=generator).sort().values  # (count,) along the spiral
    angle = 1.5 * math.pi * (1 + 2 * position)  # from 3/4 of a turn to 9/4 turns
    x = angle * angle.cos()  # the radius is the angle
    y = angle * angle.sin()
    return torch.stack([x, y], dim=1) / 7.2


def two_moons(count: int, generator: torch.Generator) -> Tensor:
    """Points on two half circles that reach into each other, (count, 2), of about unit variance."""
    angle = math.pi * torch.rand(count, generator=generator)
    side = 2.0 * torch.randint(2, (count,), generator=generator) - 1  # -1 or 1
    x = side * (angle.cos() - 0.5)
    y = side * (angle.sin() - 0.25)
    return 1.4 * torch.stack([x, y], dim=1)


def two_rings(count: int, generator: torch.Generator) -> Tensor:
    """Points on two circles around the origin, (count, 2), of about unit variance."""
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = 0.8 + torch.randint(2, (count,), generator=generator)  # 0.8 or 1.8
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def checkerboard(count: int, generator: torch.Generator) -> Tensor:
    """Points in every other square of a board of 4 by 4, (count, 2), of about unit variance."""
    column = torch.randint(4, (count,), generator=generator)
    row = 2 * torch.randint(2, (count,), generator=generator) + column % 2
    inside = torch.rand(count, 2, generator=generator)
    return 0.85 * (torch.stack([column, row], dim=1) + inside - 2)


SHAPES: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "spiral": swiss_roll,
    "two moons": two_moons,
    "two rings": two_rings,
    "checkerboard": checkerboard,
}
