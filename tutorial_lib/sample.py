"""From noise to images: samplers as generators of frames, so that the caller may watch, plot or
stop.

A sampler asks a network at each step and adds the noise itself; the network takes none.  `ddpm`
follows the chain that the network was trained for, at random; `dpm_solver` and `heun` solve the
same problem as an ordinary differential equation, and `ddim` stands between the two.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tutorial_lib.diffusion import q_posterior, reverse_variance, x_0_from
from tutorial_lib.schedule import NoiseSchedule, even_tau, karras_tau, same_t

Network = Callable[[Tensor, Tensor], Tensor]


class Frame(NamedTuple):
    """A moment of the reverse process.  t: the step reached, 0 at last.  x: (B, C, H, W), the state
    x_t.
    x_0_hat: the network's estimate of where it will end, made on the way to this frame (of the
    noise itself: zeros).
    """

    t: int
    x: Tensor
    x_0_hat: Tensor


@torch.no_grad()
def estimate(
    network: Network, schedule: NoiseSchedule, x: Tensor, t: Tensor, target: str, clip: bool
) -> Tensor:
    """Ask the network, and say where it thinks x_t will end: x_0_hat, like x.  t: (B,) in 1..T."""
    output = network(x, t.to(x.device)).to(x.dtype)
    x_0_hat = x_0_from(schedule, target, output, x, t)
    return x_0_hat.clamp(-1, 1) if clip else x_0_hat


def ddpm(
    network: Network,
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
    variance: $\sigma_t^2$ = "beta" or "beta_tilde" (section 3.2).  clip: clamp every x_0_hat to
    [-1, 1].
    Raises ValueError, when the first frame is asked for: for an unknown target or variance, or for
    steps outside 1..T.
    """
    tau = even_tau(schedule.T, steps)
    visited = schedule.strided(tau)
    sigma = reverse_variance(visited, variance).sqrt()
    x = x_T
    yield Frame(schedule.T, x, torch.zeros_like(x))
    for i in range(visited.T, 0, -1):
        x_0_hat = estimate(network, schedule, x, same_t(int(tau[i]), len(x)), target, clip)
        x, _ = q_posterior(visited, x_0_hat, x, same_t(i, len(x)))
        if i > 1:  # the last step shows its mean
            x = x + float(sigma[i]) * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(
                x.device
            )
        yield Frame(int(tau[i - 1]), x, x_0_hat)


def ddim(
    network: Network,
    schedule: NoiseSchedule,
    x_T: Tensor,
    generator: torch.Generator | None = None,
    target: str = "eps",
    steps: int | None = None,
    eta: float = 0.0,
    clip: bool = True,
) -> Iterator[Frame]:
    r"""$x' = \sqrt{\bar\alpha'}\, \hat x_0 + \sqrt{1 - \bar\alpha' - \sigma^2}\, \hat\epsilon +
    \sigma z$.

    (Song, Meng & Ermon 2021, Eq. 12, 16; arXiv 2010.02502.)  Dashes mark the next of the evenly
    strided steps.
    eta: in [0, 1], scales sigma: 0 is deterministic and needs no generator, 1 is `ddpm` with
    beta_tilde. The rest as for `ddpm`.  Raises ValueError also for an eta outside [0, 1], or
    without its generator.
    """
    check_eta(eta)
    if eta and generator is None:
        raise ValueError(
            f"eta = {eta} adds noise, which has to come from a generator; give one, or eta=0"
        )
    tau = even_tau(schedule.T, steps)
    visited = schedule.strided(tau)
    signal, noise = visited.alpha_bar.sqrt(), (1 - visited.alpha_bar).sqrt()
    sigma = eta * visited.beta_tilde.sqrt()
    x = x_T
    yield Frame(schedule.T, x, torch.zeros_like(x))
    for i in range(visited.T, 0, -1):
        x_0_hat = estimate(network, schedule, x, same_t(int(tau[i]), len(x)), target, clip)
        eps_hat = (x - float(signal[i]) * x_0_hat) / float(noise[i])
        kept = (noise[i - 1] ** 2 - sigma[i] ** 2).clamp(min=0).sqrt()
        x = float(signal[i - 1]) * x_0_hat + float(kept) * eps_hat
        if sigma[i] > 0:
            x = x + float(sigma[i]) * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(
                x.device
            )
        yield Frame(int(tau[i - 1]), x, x_0_hat)


def dpm_solver(
    network: Network,
    schedule: NoiseSchedule,
    x_T: Tensor,
    target: str = "eps",
    steps: int | None = None,
    clip: bool = True,
) -> Iterator[Frame]:
    r"""DPM-Solver++(2M): the deterministic `ddim`, which trusts where x_0_hat is heading (Lu et al.
    2022, Algorithm 2).

    With a step from signal $a = \sqrt{\bar\alpha}$ and noise $b = \sqrt{1 - \bar\alpha}$ to $a'$
    and $b'$:
    $x' = \frac{b'}{b} x + (a' - \frac{b'}{b} a) D$, where $D$ extends the line through the last two
    x_0_hat, as a function of $\lambda = \log(a / b)$, half a step ahead.  One call of the network a
    step; the first step and the last are those of `ddim`.  Arguments and errors as for `ddpm`.
    (arXiv 2211.01095)
    """
    tau = even_tau(schedule.T, steps)
    signal, noise = schedule.alpha_bar[tau].sqrt(), (1 - schedule.alpha_bar[tau]).sqrt()
    lam = (signal / noise).log()  # (S + 1,)
    x, before = x_T, None
    yield Frame(schedule.T, x, torch.zeros_like(x))
    for i in range(len(tau) - 1, 0, -1):
        x_0_hat = estimate(network, schedule, x, same_t(int(tau[i]), len(x)), target, clip)
        ahead = x_0_hat
        if before is not None and i > 1:
            ahead = x_0_hat + float((lam[i - 1] - lam[i]) / (lam[i] - lam[i + 1]) / 2) * (
                x_0_hat - before
            )
        shrink = noise[i - 1] / noise[i]
        x, before = float(shrink) * x + float(signal[i - 1] - shrink * signal[i]) * ahead, x_0_hat
        yield Frame(int(tau[i - 1]), x, x_0_hat)


def heun(
    network: Network,
    schedule: NoiseSchedule,
    x_T: Tensor,
    target: str = "eps",
    steps: int | None = None,
    clip: bool = True,
) -> Iterator[Frame]:
    r"""Heun's rule for $d(x / a) = \hat\epsilon\, d(b / a)$, $a = \sqrt{\bar\alpha}$ and
    $b = \sqrt{1 - \bar\alpha}$.

    Each step is that of the deterministic `ddim`, then a second call of the network at its end, and
    the mean of both slopes; only the last step, into x_0, makes do with one: S steps ask 2 S - 1
    times.  The rule needs steps that are even in a root of b / a instead of in t, and begins below
    T where that ratio exceeds 80 (see `karras_tau`). Arguments and errors as for `ddpm`.  (Karras
    et al. 2022, Algorithm 1; arXiv 2206.00364)
    """
    tau = karras_tau(schedule, steps)
    signal, noise = schedule.alpha_bar[tau].sqrt(), (1 - schedule.alpha_bar[tau]).sqrt()

    def ask(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        x_0_hat = estimate(network, schedule, x, same_t(int(tau[i]), len(x)), target, clip)
        return x_0_hat, (x - float(signal[i]) * x_0_hat) / float(noise[i])

    x = x_T
    yield Frame(int(tau[-1]), x, torch.zeros_like(x))
    for i in range(len(tau) - 1, 0, -1):
        x_0_hat, slope = ask(x, i)
        x = float(signal[i - 1]) * x_0_hat + float(noise[i - 1]) * slope
        if i > 1 and signal[i] > 0:  # x / a has no value at a = 0
            _, slope_there = ask(x, i - 1)
            way = noise[i - 1] - signal[i - 1] * noise[i] / signal[i]
            x = x + float(way) * (slope_there - slope) / 2
        yield Frame(int(tau[i - 1]), x, x_0_hat)


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpm++": dpm_solver, "heun": heun}


def final(frames: Iterator[Frame]) -> Tensor:
    """Run a sampler to its end and return x_0, (B, C, H, W)."""
    *_, frame = frames
    return frame.x


def start(
    count: int, shape: tuple[int, int, int], generator: torch.Generator, device: str = "cpu"
) -> Tensor:
    """`count` images of pure noise, (count, C, H, W): where every sampler begins (Eq. 1; Algorithm
    2, line 1).

    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    return torch.randn(count, *shape, generator=generator).to(device)


def check_eta(eta: float) -> None:
    """Raise ValueError unless eta is one that `ddim` takes."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], from no noise to that of ddpm, got {eta}")
