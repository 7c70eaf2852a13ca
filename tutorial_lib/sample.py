"""From noise to images: samplers as generators of frames, so that the caller may watch, plot or stop.

A sampler asks a network at each step and adds the noise itself; the network takes none.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tutorial_lib.diffusion import q_posterior, reverse_variance, x_0_from
from tutorial_lib.schedule import NoiseSchedule, even_tau
from tutorial_lib.schedule import steps as same_t


class Frame(NamedTuple):
    """A moment of the reverse process.  t: the step reached, T first, 0 last.  x: (B, C, H, W), the state x_t.
    x_0_hat: the network's estimate of where it will end, made on the way to this frame (of the noise itself: zeros).
    """

    t: int
    x: Tensor
    x_0_hat: Tensor


@torch.no_grad()
def ddpm(
    network: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_T: Tensor,
    generator: torch.Generator,
    target: str = "eps",
    steps: int | None = None,
    variance: str = "beta_tilde",
    clip: bool = True,
) -> Iterator[Frame]:
    r"""Ancestral sampling (Eq. 1; Algorithm 2): yields x_T and then each x_t down to x_0.

    network: maps (x_t, t) to its prediction of `target` ("eps", "x_0", "v" or "mu").
    x_T: (B, C, H, W) standard normal; its device is where the work happens.
    steps: how many of the T steps to visit, evenly strided; all of them by default.
    variance: $\sigma_t^2$ = "beta" or "beta_tilde" (section 3.2).  clip: clamp every x_0_hat to [-1, 1].
    Raises ValueError for an unknown target or variance, or for steps outside 1..T.
    """
    tau = even_tau(schedule.T, schedule.T if steps is None else steps)
    visited = schedule.strided(tau)
    sigma = reverse_variance(visited, variance).sqrt()
    x = x_T
    yield Frame(schedule.T, x, torch.zeros_like(x))
    for i in range(visited.T, 0, -1):
        t = same_t(int(tau[i]), len(x))
        output = network(x, t.to(x.device)).to(x.dtype)
        x_0_hat = x_0_from(schedule, target, output, x, t)
        if clip:
            x_0_hat = x_0_hat.clamp(-1, 1)
        x, _ = q_posterior(visited, x_0_hat, x, same_t(i, len(x)))
        if i > 1:  # the last step shows its mean
            x = x + float(sigma[i]) * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        yield Frame(int(tau[i - 1]), x, x_0_hat)


SAMPLERS = {"ddpm": ddpm}


def final(frames: Iterator[Frame]) -> Tensor:
    """Run a sampler to its end and return x_0, (B, C, H, W)."""
    *_, frame = frames
    return frame.x


def start(count: int, shape: tuple[int, int, int], generator: torch.Generator, device: str = "cpu") -> Tensor:
    """`count` images of pure noise, (count, C, H, W): where every sampler begins (Eq. 1; Algorithm 2, line 1)."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    return torch.randn(count, *shape, generator=generator).to(device)
