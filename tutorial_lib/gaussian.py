"""Gaussians in closed form: log-density, entropy, KL divergence, product, density on a grid.

Everything is elementwise and in nats; means and variances broadcast against each other.
"""

import math

import torch
from torch import Tensor


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, the dtype and the device of x.

    It is drawn on the CPU, so that a seed gives the same noise on every machine.
    """
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def log_density(x: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    r"""The logarithm of the density of $N(\mu, \sigma^2)$ at x, in nats.

    $\log N(x; \mu, \sigma^2) = -\frac{(x - \mu)^2}{2 \sigma^2} - \frac12 \log 2 \pi \sigma^2$
    """
    variance = _positive(variance, like=x)
    squared_distance = (x - mean) ** 2 / variance  # in standard deviations
    log_norm = (2 * math.pi * variance).log()
    return -0.5 * (squared_distance + log_norm)


def entropy(variance: Tensor) -> Tensor:
    r"""$\frac12 \log 2 \pi e \sigma^2$, in nats; 1.419 for the standard normal."""
    variance = _positive(variance)
    return 0.5 * (2 * math.pi * math.e * variance).log()


def kl(mean_q: Tensor, variance_q: Tensor, mean_p: Tensor, variance_p: Tensor) -> Tensor:
    r"""$KL(q \| p)$ between two Gaussians, elementwise, in nats.

    $\frac12 \left( \log\frac{\sigma_p^2}{\sigma_q^2}
    + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{\sigma_p^2} - 1 \right)$
    """
    variance_q = _positive(variance_q)
    variance_p = _positive(variance_p)
    log_ratio = (variance_p / variance_q).log()
    spread = variance_q + (mean_q - mean_p) ** 2  # of q, measured from the mean of p
    return 0.5 * (log_ratio + spread / variance_p - 1)


def product(
    mean_a: Tensor,
    variance_a: Tensor,
    mean_b: Tensor,
    variance_b: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean and variance of the Gaussian proportional to the product of two densities.

    Precisions add up, means are weighted by precision; this is how Bayes' rule joins two Gaussian
    facts (Eq. 7).
    """
    variance_a = _positive(variance_a)
    variance_b = _positive(variance_b)
    variance = 1 / (1 / variance_a + 1 / variance_b)
    mean = variance * (mean_a / variance_a + mean_b / variance_b)
    return mean, variance


def grid_density(grid: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    """The density at every point of an evenly spaced grid, normalised so that its Riemann sum is 1.

    grid: (G,).  Returns (G,).  The grid should reach some six standard deviations to each side.
    """
    density = log_density(grid, mean, variance).exp()
    spacing = grid[1] - grid[0]
    return density / (density.sum() * spacing)


def _positive(variance: Tensor | float, like: Tensor | None = None) -> Tensor:
    """The variance as a tensor, in the dtype and on the device of `like`."""
    if like is None:
        variance = torch.as_tensor(variance)
    else:
        variance = torch.as_tensor(variance, dtype=like.dtype, device=like.device)
    if not (variance > 0).all():
        raise ValueError(f"a variance must be positive, got {float(variance.min()):g}")
    return variance
