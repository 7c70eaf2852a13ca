r"""Exact likelihood: the walk without noise changes variables, and its volume can be counted.

The probability-flow ODE leads every point of the data to one point of the noise.  Along it the
log-density changes by the divergence of the field, so that the density that a denoiser implies is
known without a bound.  (Song, Sohl-Dickstein et al. 2021, arXiv 2011.13456, appendix D.2;
notebook 08)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tutorial_lib.beyond.variational import Continuous, noised, signal_and_noise
from tutorial_lib.gaussian import noise_like

Trace = Callable[[Tensor, Tensor], Tensor]  # (output, input that it came from) -> (B,)


def exact_trace(output: Tensor, y: Tensor) -> Tensor:
    r"""The trace of the Jacobian $\partial\,$output$ / \partial y$ of each item, (B,), D calls.

    output, y: (B, ...), item by item: an output depends on its own y alone.
    """
    flat = output.flatten(1)  # (B, D)
    total = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for d in range(flat.shape[1]):
        (row,) = torch.autograd.grad(flat[:, d].sum(), y, retain_graph=True)
        total = total + row.flatten(1)[:, d]
    return total


def hutchinson(probe: Tensor) -> Trace:
    r"""An estimate of the trace by one call: $r^\top J r$, whose mean over random signs r is tr J.

    probe: r, like y, of entries -1 and 1.  (Hutchinson 1989)
    """

    def trace(output: Tensor, y: Tensor) -> Tensor:
        (row,) = torch.autograd.grad((output * probe).sum(), y)  # r^T J, like y
        return (row * probe).flatten(1).sum(1)

    return trace


def signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, -1 or 1, in the shape of `like`."""
    drawn = torch.randint(0, 2, like.shape, generator=generator)
    return (2.0 * drawn - 1).to(like)


def log_density(
    denoise: Continuous,
    z: Tensor,
    *,
    low: float,
    high: float,
    steps: int,
    trace: Trace,
) -> Tensor:
    r"""The log-density that the walk without noise gives to z at the noise level low, (B,), nats.

    With $y = z / a$ and $l = \gamma / 2 = \log(b / a)$ the walk is
    $dy / dl = y - \hat x_0$, whose divergence is $D - \mathrm{tr}\, \partial\hat x_0 / \partial y$,
    and $\log p(y_\text{low}) = \log p(y_\text{high}) + \int \mathrm{div}\; dl$.
    At the noisy end z is standard normal.

    steps: of Heun's rule, even in l.  trace: `exact_trace`, or `hutchinson(probe)`.
    The error of the rule falls with the square of the steps.
    """
    dimensions = z[0].numel()
    l_low, l_high = low / 2, high / 2
    length = (l_high - l_low) / steps
    signal, _ = signal_and_noise(torch.full((len(z),), low), like=z)
    y = z / signal
    total = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    field, divergence = _field(denoise, y, l_low, trace)
    for k in range(1, steps + 1):
        ahead, there = _field(denoise, y + length * field, l_low + k * length, trace)
        y = y + length * (field + ahead) / 2
        total = total + length * (divergence + there) / 2
        field, divergence = _field(denoise, y, l_low + k * length, trace)
    signal_high, _ = signal_and_noise(torch.full((len(z),), high), like=z)
    at_the_end = -0.5 * ((signal_high * y) ** 2 + math.log(2 * math.pi)).flatten(1).sum(1)
    ratio = (signal_high / signal).log().flatten()  # of the two scales, from y back to z
    return at_the_end + dimensions * ratio + total


def middle_nats(
    denoise: Continuous,
    x_0: Tensor,
    *,
    low: float,
    high: float,
    steps: int,
    generator: torch.Generator,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    r"""$\log q(z \mid x_0) - \log p(z)$ of each image at the clean end, (B,) nats; and its z.

    What z costs by the probability-flow ODE, less what its noise gives back: the part of the bits
    that notebook 08 calls the middle.  One draw of z by Gaussian noise, a dequantisation, and one
    probe for the trace.  With the nats of a decoder, $-\log p(x_0 \mid z)$, it is what the image
    costs; `variational.bits` has a bound of it, the prior and the integral together.
    x_0: (B, ...) on the CPU, like what is returned, and of the same dtype.
    low, high, steps: as for `log_density`.
    generator: of the noise and of the probe, on the CPU.  device: where the denoiser works.
    (Notebook 08)
    """
    gamma = torch.full((len(x_0),), low)
    eps = noise_like(x_0, generator)
    z = noised(x_0, gamma, eps)
    trace, there = hutchinson(signs(z, generator).to(device)), z.to(device)
    log_p = log_density(denoise, there, low=low, high=high, steps=steps, trace=trace).cpu()
    _, noise = signal_and_noise(gamma, like=x_0)
    log_q = -(0.5 * eps.square() + noise.log() + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
    return log_q - log_p, z


def _field(denoise: Continuous, y: Tensor, at: float, trace: Trace) -> tuple[Tensor, Tensor]:
    """dy / dl and its divergence at l = `at`, (B, ...) and (B,)."""
    y = y.detach().requires_grad_()
    gamma = torch.full((len(y),), 2 * at, dtype=torch.float64)
    with torch.enable_grad():
        signal, _ = signal_and_noise(gamma, like=y)
        x_0_hat = denoise(signal * y, gamma)
        of_estimate = trace(x_0_hat, y)
    return (y - x_0_hat).detach(), (y[0].numel() - of_estimate).detach()
