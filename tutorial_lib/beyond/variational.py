r"""Variational diffusion: the bound in continuous time, which knows only the ends of the noise.

Noise is named here by $\gamma = -\log \mathrm{SNR}$ instead of a step: the signal is
$a = \sqrt{\mathrm{sigmoid}(-\gamma)}$ and the noise $b = \sqrt{\mathrm{sigmoid}(\gamma)}$, so that
$a^2 + b^2 = 1$.  As the steps become smaller and more, the sum of all L_{t-1} becomes an integral
over $\gamma$, and three terms are left: the prior at the noisy end, the integral, and the decoder
at the clean end.  (Kingma et al. 2021, arXiv 2107.00630; notebook 08)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import gaussian
from tutorial_lib.data import to_model
from tutorial_lib.denoise import Network
from tutorial_lib.diffusion import TARGETS
from tutorial_lib.gaussian import noise_like
from tutorial_lib.schedule import NoiseSchedule, check_name

Continuous = Callable[[Tensor, Tensor], Tensor]  # (z, gamma) -> x_0_hat, like z
Decoder = Callable[[Tensor, Tensor], Tensor]  # (x_0, z at the clean end) -> nats of each, (B,)
LEVELS = 256  # of a pixel
LOW, HIGH = -10.0, 8.0  # gamma at the clean end and at the noisy one
PIECE = 100  # images looked at together


def signal_and_noise(gamma: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    r"""The weights a and b of data and noise, $a^2 + b^2 = 1$ and $b^2 / a^2 = e^\gamma$.

    gamma: (B,).  like: (B, ...).  Returns (B, 1, ...) each, in the dtype and on the device of like.
    """
    gamma = gamma.cpu().double().view(-1, *[1] * (like.ndim - 1))  # (B, 1, ...)
    return (-gamma).sigmoid().sqrt().to(like), gamma.sigmoid().sqrt().to(like)


def noised(x_0: Tensor, gamma: Tensor, eps: Tensor) -> Tensor:
    r"""The data at the noise level $\gamma$, $z = a x_0 + b \epsilon$, like x_0."""
    signal, noise = signal_and_noise(gamma, like=x_0)
    return signal * x_0 + noise * eps


def spread(count: int, generator: torch.Generator) -> Tensor:
    """`count` times in [0, 1), each uniform, together nearly even: (count,), in random order.

    One random shift for all, and then equal distances.  (Kingma et al. 2021, appendix I.1)
    """
    shift = torch.rand((), generator=generator, dtype=torch.float64)
    order = torch.randperm(count, generator=generator)
    return (shift + order / count) % 1


class Monotone(nn.Module):
    r"""A learned schedule: a small network from t to $\gamma$ that can only rise.

    All its weights are positive, and its ends are brought to `low` and `high`.
    t: (B,) in [0, 1].  Returns (B,).
    (Kingma et al. 2021, appendix H; the ends, appendix I.2)
    """

    def __init__(self, low: float, high: float, width: int = 64) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.straight = nn.Parameter(torch.zeros(()))
        places = torch.linspace(-8.0, 0.0, width)  # where each of the steps bends
        self.scale, self.shift = nn.Parameter(torch.full((width,), 8.0)), nn.Parameter(places)
        self.height = nn.Parameter(torch.full((width,), -5.0))

    def forward(self, t: Tensor) -> Tensor:
        first, last = self._rise(torch.tensor([0.0, 1.0], dtype=t.dtype, device=t.device))
        share = (self._rise(t) - first) / (last - first)  # 0 at t = 0, 1 at t = 1
        return self.low + (self.high - self.low) * share

    def _rise(self, t: Tensor) -> Tensor:
        steps = (F.softplus(self.scale) * t[:, None] + self.shift).sigmoid()  # (B, width)
        return F.softplus(self.straight) * t + steps @ F.softplus(self.height)


def continuous(network: Network, schedule: NoiseSchedule, *, target: str, clip: bool) -> Continuous:
    r"""A trained network of steps, asked at any noise level: (z, gamma) -> x_0_hat.

    The network is shown the t, with a fraction, at which the schedule's own $\gamma$ is this one,
    on straight lines between its steps; levels below that of t = 1 lie between 0 and 1.
    target: "eps", "x_0" or "v".  clip: clamp every estimate to [-1, 1].
    Raises ValueError for another target.
    """
    check_name("target", target, [name for name in TARGETS if name != "mu"])

    def denoise(z: Tensor, gamma: Tensor) -> Tensor:
        signal, noise = signal_and_noise(gamma, like=z)
        output = network(z, t_of(schedule, gamma).to(z)).to(z.dtype)
        if target == "v":
            output = signal * z - noise * output
        elif target == "eps":
            output = (z - noise * output) / signal
        return output.clamp(-1, 1) if clip else output

    return denoise


def t_of(schedule: NoiseSchedule, gamma: Tensor) -> Tensor:
    r"""The time t, with a fraction, at which $\log((1 - \bar\alpha) / \bar\alpha)$ is gamma.

    Between whole steps on a straight line; below t = 1 the noise $b / a$ is proportional to t.
    gamma: (B,).  Returns (B,) float64; T at most.
    """
    table = -schedule.snr[1:].clamp(min=1e-30).log()  # (T,) rising, of t = 1..T
    gamma = gamma.cpu().double()
    above = torch.searchsorted(table, gamma).clamp(1, schedule.T - 1)
    low, high = table[above - 1], table[above]
    t = above + (gamma - low) / (high - low)
    below = ((gamma - table[0]) / 2).exp()  # at t = 1 it is 1
    return torch.where(gamma < table[0], below, t).clamp(max=schedule.T)


def prior_nats(x_0: Tensor, high: float) -> Tensor:
    r"""$KL(q(z | x_0) \| N(0, I))$ at the noisy end, in nats of each image: (B,)."""
    signal, noise = signal_and_noise(torch.full((len(x_0),), high), like=x_0)
    zero, one = x_0.new_zeros(()), x_0.new_ones(())
    return gaussian.kl(signal * x_0, noise**2, zero, one).flatten(1).sum(1)


def diffusion_nats(x_0: Tensor, x_0_hat: Tensor, gamma: Tensor) -> Tensor:
    r"""What a noise level costs: $\frac12 e^{-\gamma} \|x_0 - \hat x_0\|^2$ nats a unit of gamma.

    The integral over $\gamma$ from one end to the other is what all L_{t-1} together become when
    there are infinitely many; a schedule only says how often each $\gamma$ is looked at.
    gamma: (B,).  Returns (B,).  (Kingma et al. 2021, section 5)
    """
    snr = (-gamma.cpu().double()).exp().to(x_0)  # (B,)
    return 0.5 * snr * (x_0 - x_0_hat).square().flatten(1).sum(1)


def decoder_nats(x_0: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    r"""$-\log p(x_0)$ of each image in nats, (B,), for independent pixels of 256 levels.

    The probability of a level is the density of $N(\mu, \sigma^2)$ there, over the sum of all 256.
    x_0: (B, ...) pixel values k / 127.5 - 1.  mean: like x_0.  sigma: a number, or like x_0.
    (Kingma et al. 2021, section 3.3: there mean and sigma are z / a and b / a.)
    """
    levels = torch.arange(LEVELS, dtype=x_0.dtype, device=x_0.device) / 127.5 - 1
    distance = (levels - mean[..., None]) / sigma[..., None]  # (B, ..., 256)
    log_total = (-0.5 * distance.square()).logsumexp(-1)  # (B, ...)
    own = -0.5 * ((x_0 - mean) / sigma).square()
    return (log_total - own).flatten(1).sum(1)


def plain_decoder(low: float) -> Decoder:
    r"""The decoder that looks at each pixel alone: $p(x_0 | z) \propto q(z | x_0)$."""

    def nats(x_0: Tensor, z: Tensor) -> Tensor:
        signal, noise = signal_and_noise(torch.full((len(z),), low), like=z)
        return decoder_nats(x_0, z / signal, noise / signal)

    return nats


@torch.no_grad()
def bits(
    denoise: Continuous,
    pixels: Tensor,
    *,
    generator: torch.Generator,
    low: float,
    high: float,
    decoder: Decoder,
    draws: int = 4,
) -> dict[str, float]:
    r"""The bound on $-\log p$ of images in continuous time, in bits per pixel and channel.

    denoise: its estimates of pixels (N, C, H, W) uint8.
    low, high: $\gamma$ at the clean and at the noisy end.
    decoder: what tells the pixels from z at the clean end: (x_0, z) -> nats of each image.
    draws: noise levels for each image; all N x draws of them are spread evenly.
    Returns the bound `bpd` and its standard `error` over images, their `count`, and the shares of
    `prior`, `diffusion` and `decoder`.  Raises ValueError for anything but uint8 images, two or
    more, and for ends that are not in order.
    """
    count = len(pixels)
    if pixels.dtype != torch.uint8 or count < 2 or draws < 1 or not low < high:
        got = f"{count} images of {pixels.dtype}, draws = {draws}, gamma from {low} to {high}"
        raise ValueError(
            f"the bound needs at least 2 uint8 images, 1 draw and low < high, got {got}"
        )
    gamma = low + (high - low) * spread(count * draws, generator).view(count, draws)
    nats = []
    for first in range(0, count, PIECE):
        here = slice(first, first + PIECE)
        x_0 = to_model(pixels[here])
        middle = torch.stack(
            [_at(denoise, x_0, one, generator) for one in gamma[here].unbind(1)]
        ).mean(0)
        z = noised(x_0, torch.full((len(x_0),), low), noise_like(x_0, generator))
        ends = prior_nats(x_0, high), (high - low) * middle, decoder(x_0, z)
        nats.append(torch.stack(ends))
    each = torch.cat(nats, dim=1).double() / (pixels[0].numel() * math.log(2))  # (3, N)
    shares = dict(zip(("prior", "diffusion", "decoder"), each.mean(1).tolist(), strict=True))
    error = float(each.sum(0).std() / count**0.5)
    return {"bpd": sum(shares.values()), "error": error, "count": count} | shares


def _at(denoise: Continuous, x_0: Tensor, gamma: Tensor, generator: torch.Generator) -> Tensor:
    """What the noise levels gamma, one for each image, cost in nats a unit: (B,)."""
    z = noised(x_0, gamma, noise_like(x_0, generator))
    return diffusion_nats(x_0, denoise(z, gamma), gamma)


# --- a decoder that asks the network

NEAR = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.04, 0.1)  # distances from black or white
ENOUGH = 1500  # pixels of a bin
SHARES = tuple(0.05 * 1.2**k for k in range(20))  # of the noise, that a sigma may be: up to 1.6


def asking_decoder(denoise: Continuous, low: float, sigma: Tensor) -> Decoder:
    r"""The decoder with the network's estimate as its mean, and a sigma that depends on it.

    sigma: (2 len(NEAR) + 1,), of `fitted_sigma`.
    """

    def nats(x_0: Tensor, z: Tensor) -> Tensor:
        x_0_hat = denoise(z, torch.full((len(z),), low))
        return decoder_nats(x_0, x_0_hat, sigma.to(x_0)[_bin(x_0_hat)])

    return nats


@torch.no_grad()
def fitted_decoder(
    denoise: Continuous, x_0: Tensor, low: float, generator: torch.Generator
) -> Decoder:
    """The decoder that asks the network, its sigmas fitted on training images x_0, (N, C, H, W).

    denoise: is asked for all N at once, and works where they are; so does the decoder.  Both it and
    `decoder` get gamma, (N,), on the CPU.  low: gamma at the clean end.  generator: on the CPU.
    """
    gamma = torch.full((len(x_0),), low)
    z = noised(x_0, gamma, noise_like(x_0, generator))
    return asking_decoder(denoise, low, fitted_sigma(x_0, denoise(z, gamma), math.exp(low / 2)))


def fitted_sigma(x_0: Tensor, x_0_hat: Tensor, noise: float) -> Tensor:
    """How sure an estimate is, by how near it lies to black or to white: (2 len(NEAR) + 1,).

    Of each bin the sigma, among SHARES of the noise b / a, under which these data cost least.
    """
    bins, candidates = _bin(x_0_hat).flatten(), noise * torch.tensor(SHARES).to(x_0)
    chosen = []
    for k in range(2 * len(NEAR) + 1):
        here = (bins == k).nonzero()[:ENOUGH, 0]
        x, mean = x_0.flatten()[here, None], x_0_hat.flatten()[here, None]  # pixels as images
        cost = [float(decoder_nats(x, mean, one.expand_as(x)).sum()) for one in candidates]
        chosen.append(candidates[min(range(len(cost)), key=cost.__getitem__)])
    return torch.stack(chosen)


def _bin(x_0_hat: Tensor) -> Tensor:
    near = torch.tensor(NEAR)
    edges = torch.cat([near - 1, 1 - near.flip(0)]).to(x_0_hat)
    return torch.bucketize(x_0_hat, edges)
