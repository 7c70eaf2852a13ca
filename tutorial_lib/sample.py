"""From noise to images: samplers yield frames, so that the caller may watch, plot or stop.

A sampler calls a denoiser at each step and adds the noise itself; the network takes none.  `ddpm`
follows the chain that the network was trained for, at random; `ddim` may do so without noise.  The
faster ones are in `beyond.solvers`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tutorial_lib.denoise import Denoiser
from tutorial_lib.gaussian import noise_like
from tutorial_lib.schedule import NoiseSchedule, even_tau, same_t


class Frame(NamedTuple):
    """A moment of the reverse process.

    t: the step reached, 0 at last.
    x: (B, ...), the state x_t.
    x_0_hat: like x, the estimate of x_0 made on the way to this frame (of the noise itself: zeros).
    """

    t: int
    x: Tensor
    x_0_hat: Tensor


@torch.no_grad()
def ddpm(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    generator: torch.Generator,
    steps: int | None = None,
    variance: str = "beta_tilde",
) -> Iterator[Frame]:
    r"""Ancestral sampling (Eq. 1; Algorithm 2): yields x_T and then each x_t down to x_0.

    denoise: maps (x_t, t) to $\hat x_0$; see `denoise.denoiser`.
    x_T: (B, ...) standard normal; its device is where the work happens.
    generator: of the noise that each step but the last adds.
    steps: how many of the T steps to visit, evenly strided; all of them by default.
    variance: $\sigma_t^2$ = "beta" or "beta_tilde" (section 3.2).
    Raises ValueError, when the first frame is asked for, for an unknown variance or for steps
    outside 1..T.
    """
    tau = even_tau(schedule.T, steps).tolist()
    visited = schedule.strided(tau)
    of_x_0, of_x_t = visited.mu_tilde_weights  # of the posterior mean, Eq. 7
    of_x_0, of_x_t = of_x_0.tolist(), of_x_t.tolist()  # plain numbers: x keeps its dtype
    sigma = visited.reverse_variance(variance).sqrt().tolist()
    x = x_T
    yield Frame(schedule.T, x, torch.zeros_like(x))
    for i in range(visited.T, 0, -1):
        x_0_hat = denoise(x, same_t(tau[i], len(x)))
        x = of_x_0[i] * x_0_hat + of_x_t[i] * x
        if i > 1:  # the last step shows its mean
            x = x + sigma[i] * noise_like(x, generator)
        yield Frame(tau[i - 1], x, x_0_hat)


@torch.no_grad()
def ddim(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    generator: torch.Generator | None = None,
    steps: int | Tensor | None = None,
    eta: float = 0.0,
) -> Iterator[Frame]:
    r"""Song, Meng & Ermon 2021, Eq. 12, 16 (arXiv 2010.02502), with dashes for the next step.

    $x' = \sqrt{\bar\alpha'} \hat x_0 + \sqrt{1 - \bar\alpha' - \sigma^2} \hat\epsilon + \sigma z$

    eta: in [0, 1], scales sigma: 0 is deterministic and needs no generator, 1 is `ddpm` with
    beta_tilde.
    steps: as for `ddpm`; or which, rising from 0, as `beyond.solvers.karras_tau` places them.
    The rest as for `ddpm`.
    Raises ValueError also for an eta outside [0, 1], or without its generator.
    """
    check_eta(eta)
    if eta and generator is None:
        raise ValueError(
            f"eta = {eta} adds noise, which has to come from a generator; give one, or eta=0"
        )
    tau = (steps if isinstance(steps, Tensor) else even_tau(schedule.T, steps)).tolist()
    visited = schedule.strided(tau)
    signal = visited.alpha_bar.sqrt().tolist()
    noise = (1 - visited.alpha_bar).sqrt().tolist()
    sigma = (eta * visited.beta_tilde.sqrt()).tolist()
    x = x_T
    yield Frame(tau[-1], x, torch.zeros_like(x))
    for i in range(visited.T, 0, -1):
        x_0_hat = denoise(x, same_t(tau[i], len(x)))
        eps_hat = (x - signal[i] * x_0_hat) / noise[i]
        direction = max(noise[i - 1] ** 2 - sigma[i] ** 2, 0.0) ** 0.5
        x = signal[i - 1] * x_0_hat + direction * eps_hat
        if sigma[i] > 0:
            # there is a generator where eta is not 0
            x = x + sigma[i] * noise_like(x, generator)  # type: ignore[arg-type]
        yield Frame(tau[i - 1], x, x_0_hat)


def final(frames: Iterator[Frame]) -> Tensor:
    """Run a sampler to its end and return x_0, (B, ...)."""
    for frame in frames:  # one at a time: a thousand frames would fill the memory
        pass
    return frame.x


def start(count: int, shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
    """`count` items of pure noise, (count, *shape): where every sampler begins.

    (Eq. 1; Algorithm 2, line 1.)  Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    return torch.randn(count, *shape, generator=generator)


def check_eta(eta: float) -> None:
    """Raise ValueError unless eta is one that `ddim` takes."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], from no noise to that of ddpm, got {eta}")
