r"""EDM's preconditioning: a network that always sees, and always answers, numbers of size one.

Everything here is in the scaling $x = x_0 + \sigma \epsilon$ (Karras et al. 2022).  (Notebook 09)
"""

import torch
from torch import Tensor

from tutorial_lib.denoise import Denoiser, Network


def coefficients(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""$c_{skip}$, $c_{out}$ and $c_{in}$ of each level (Karras et al. 2022, Eq. 7, Table 1).

    $c_{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}$,
    $c_{out} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}$,
    $c_{in} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}$.

    What the network sees has unit variance, what it should answer has unit variance, and its errors
    are enlarged as little as possible.
    sigma: any shape.  sigma_data: the standard deviation of the data.  Returns three like sigma.
    """
    variance = sigma**2 + sigma_data**2  # of x
    skip = sigma_data**2 / variance
    out = sigma * sigma_data / variance.sqrt()
    return skip, out, 1 / variance.sqrt()


def preconditioned(network: Network, sigma_data: float) -> Denoiser:
    r"""$D(x, \sigma) = c_{skip} x + c_{out} F(c_{in} x, c_{noise})$ (Karras et al. 2022, Eq. 7).

    network: F, maps (x, c_noise) to a tensor like x; $c_{noise} = \frac14 \ln \sigma$, (B,).
    The function takes x = x_0 + sigma eps, (B, ...), and sigma (B,), and returns x_0_hat.
    """

    def denoise(x: Tensor, sigma: Tensor, **given: Tensor) -> Tensor:
        each = sigma.view(-1, *[1] * (x.ndim - 1))  # (B, 1, ...)
        c_skip, c_out, c_in = coefficients(each, sigma_data)
        answer = network(c_in * x, sigma.log() / 4, **given)
        return c_skip * x + c_out * answer

    return denoise


def edm_loss(
    network: Network, x_0: Tensor, sigma: Tensor, eps: Tensor, *, sigma_data: float
) -> Tensor:
    r"""$\lambda(\sigma) \lVert D(x, \sigma) - x_0 \rVert^2$, averaged over an item's numbers (B,).

    The weight $\lambda = 1 / c_{out}^2$ makes it a plain squared error of what F answers (Eq. 8 of
    Karras et al. 2022).
    x_0, eps: (B, ...).  sigma: (B,), log-normal for example.
    """
    each = sigma.view(-1, *[1] * (x_0.ndim - 1))  # (B, 1, ...)
    _, c_out, _ = coefficients(each, sigma_data)
    x_0_hat = preconditioned(network, sigma_data)(x_0 + each * eps, sigma)
    return ((x_0_hat - x_0) / c_out).square().flatten(1).mean(1)


def log_normal(z: Tensor, mean: float = -1.2, std: float = 1.2) -> Tensor:
    r"""Levels of noise for training, $\ln \sigma = m + s z$ (Karras et al. 2022, Table 1).

    z: standard normal, any shape.  Returns sigma, like z.
    """
    return torch.exp(mean + std * z)
