"""How likely are images under a model: the variational bound, in bits per dimension."""

import math

import torch
from torch import Tensor

from tutorial_lib.data import to_model
from tutorial_lib.denoise import Denoiser
from tutorial_lib.diffusion import L_0, L_T, L_t_minus_1, q_sample
from tutorial_lib.gaussian import noise_like
from tutorial_lib.schedule import NoiseSchedule, same_t

PIECE = 250  # images looked at together


@torch.no_grad()
def bits_per_dimension(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    pixels: Tensor,
    *,
    generator: torch.Generator,
    variance: str = "beta",
    draws: int = 4,
    device: str = "cpu",
) -> dict[str, float]:
    r"""The variational bound on $-\log p$ of images, in bits per pixel and channel (Eq. 3, 5).

    denoise: as for `sample.ddpm`, with estimates clipped.  device: where its network is.
    pixels: (N, C, H, W) uint8.
    variance: of the reverse steps; at t = 1 it is beta_1 either way (Eq. 13).
    draws: steps t for each image, by which the sum of its L_{t-1} is estimated.

    L_T and L_0 are computed for each image, L_0 with one draw of x_1.  Steps t are drawn with
    chances that fall like 1 / t as the terms themselves do, and terms are divided by these chances;
    over all images they fall one into each of N x draws equally likely parts of 2..T.

    Returns the bound `bpd` and its standard `error` over the images, their `count`, and the shares
    of `L_T`, of all L_{t-1} (`L_t`) and of `L_0`.
    Raises ValueError for anything but two uint8 images or more, for draws below 1 and for T = 1.
    """
    count = len(pixels)
    if pixels.dtype != torch.uint8 or count < 2 or draws < 1 or schedule.T < 2:
        got = f"{count} images of {pixels.dtype}, draws = {draws}, T = {schedule.T}"
        raise ValueError(f"the bound needs at least 2 uint8 images, 1 draw and T = 2, got {got}")

    def estimate(x_t: Tensor, t: Tensor) -> Tensor:
        return denoise(x_t.to(device), t).cpu()

    t, chance = _drawn_steps(schedule.T, count * draws, generator)
    t, chance = t.view(count, draws).T, chance.view(count, draws).T  # (draws, N)
    nats = []
    for first in range(0, count, PIECE):
        here = slice(first, first + PIECE)
        x_0 = to_model(pixels[here])
        parts = _bound(estimate, schedule, x_0, t[:, here], chance[:, here], generator, variance)
        nats.append(parts)
    bits = torch.cat(nats, dim=1).double() / (pixels[0].numel() * math.log(2))  # (3, N)
    shares = dict(zip(("L_T", "L_t", "L_0"), bits.mean(1).tolist(), strict=True))
    error = float(bits.sum(0).std() / count**0.5)
    return {"bpd": sum(shares.values()), "error": error, "count": count} | shares


def _drawn_steps(T: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` steps of 2..T, stratified, in random order, and the chance of each: (count,) both."""
    chance = 1 / torch.arange(2, T + 1, dtype=torch.float64)  # of each t = 2..T
    chance /= chance.sum()
    stratum = torch.randperm(count, generator=generator)
    place = stratum + torch.rand(count, generator=generator)
    k = torch.searchsorted(chance.cumsum(0), place.double() / count).clamp(max=T - 2)
    return k + 2, chance[k]


def _bound(
    estimate: Denoiser,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    chance: Tensor,
    generator: torch.Generator,
    variance: str,
) -> Tensor:
    """Of each image (B, ...) in nats: L_T, all L_{t-1} together, and L_0; (3, B).

    t, chance: (draws, B), the steps at which the sum of the L_{t-1} is looked at.
    """
    terms = []
    for t_k, chance_k in zip(t, chance, strict=True):
        x_t = q_sample(schedule, x_0, t_k, noise_like(x_0, generator))
        term = L_t_minus_1(schedule, x_0, x_t, t_k, estimate(x_t, t_k), variance=variance)
        terms.append(term / chance_k.to(term))
    first = same_t(1, len(x_0))
    x_1 = q_sample(schedule, x_0, first, noise_like(x_0, generator))
    last_term = L_0(schedule, x_0, estimate(x_1, first))
    return torch.stack([L_T(schedule, x_0), torch.stack(terms).mean(0), last_term])
