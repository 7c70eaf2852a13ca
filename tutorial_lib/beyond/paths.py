r"""Paths from data to noise in continuous time, and two ways back: an equation with noise, or none.

A path is two functions, $x_t = a(t) x_0 + b(t) \epsilon$ for t in [0, 1].  Everything else, the
SDE, its reverse and the ordinary differential equation with the same marginals, follows from a, b
and their slopes.  Here a denoiser takes x and t as a float tensor (B,).  (Notebook 09)
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tutorial_lib.denoise import Denoiser
from tutorial_lib.gaussian import noise_like
from tutorial_lib.sample import Frame
from tutorial_lib.schedule import NoiseSchedule


@dataclass(frozen=True)
class Path:
    """A path: how much signal and how much noise there is at each time.

    signal, noise: a and b, smooth functions of a float64 tensor of times in [0, 1].
    """

    signal: Callable[[Tensor], Tensor]
    noise: Callable[[Tensor], Tensor]

    def at(self, t: float) -> tuple[float, float]:
        """a and b at the time t."""
        time = torch.tensor(t, dtype=torch.float64)
        return float(self.signal(time)), float(self.noise(time))

    def slopes(self, t: float) -> tuple[float, float]:
        """The derivatives of a and b at the time t, by automatic differentiation."""
        time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            a, b = self.signal(time), self.noise(time)
        (of_a,), (of_b,) = torch.autograd.grad(a, time), torch.autograd.grad(b, time)
        return float(of_a), float(of_b)

    def rates(self, t: float) -> tuple[float, float]:
        r"""f and $g^2$ of the forward SDE, $dx = f x\, dt + g\, dw$.

        $f = a' / a$, $g^2 = 2 b b' - 2 f b^2$: then a and b are what becomes of signal and noise.
        (Song, Sohl-Dickstein et al. 2021, Eq. 5)
        Raises ValueError where a is 0.
        """
        (a, b), (of_a, of_b) = self.at(t), self.slopes(t)
        if a == 0:
            raise ValueError(f"no signal is left at t = {t:g}, and f = a' / a has no value there")
        f = of_a / a
        return f, 2 * b * of_b - 2 * f * b**2


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Path:
    r"""Variance preserving, the limit of DDPM's chain (Song, Sohl-Dickstein et al. 2021, Eq. 11).

    $\beta(t)$ rises in a line; $a = \exp(-\frac12 \int_0^t \beta)$, $b = \sqrt{1 - a^2}$.
    """

    def integral(t: Tensor) -> Tensor:
        return beta_min * t + (beta_max - beta_min) * t**2 / 2

    return Path(lambda t: (-integral(t) / 2).exp(), lambda t: (-torch.expm1(-integral(t))).sqrt())


def ve(sigma_min: float = 0.01, sigma_max: float = 80.0) -> Path:
    r"""Variance exploding, the limit of annealed Langevin's levels.

    a = 1, b grows by the same factor in equal times.  (Song, Sohl-Dickstein et al. 2021, Eq. 9)
    """
    return Path(lambda t: 1 + 0 * t, lambda t: sigma_min * (sigma_max / sigma_min) ** t)


STRAIGHT = Path(lambda t: 1 - t, lambda t: t + 0)  # flow matching, rectified flow
CIRCLE = Path(lambda t: (math.pi / 2 * t).cos(), lambda t: (math.pi / 2 * t).sin())  # v-prediction


def velocity(path: Path, x: Tensor, x_0_hat: Tensor, t: float) -> Tensor:
    r"""The velocity of a point that is at x at the time t: $a' \hat x_0 + b' \hat\epsilon$.

    With $\hat x_0 = E[x_0 | x]$ it is the slope of the probability-flow ODE,
    $f x - \frac12 g^2 \nabla \log q_t(x)$ (Song, Sohl-Dickstein et al. 2021, Eq. 13), and the
    marginal velocity of flow matching (Lipman et al. 2023).
    x, x_0_hat: (B, ...).  Returns a tensor like x.
    """
    (a, b), (of_a, of_b) = path.at(t), path.slopes(t)
    eps_hat = (x - a * x_0_hat) / b
    return of_a * x_0_hat + of_b * eps_hat


def probability_flow(
    denoise: Denoiser,
    path: Path,
    noise: Tensor,
    times: Tensor,
    *,
    heun: bool = False,
) -> Iterator[Frame]:
    """Follow the velocity back from noise to data, in straight steps from time to time.

    denoise: (x, t) -> x_0_hat, t: (B,) in (0, 1].
    noise: (B, ...) standard normal; the walk begins at b times it.
    times: (S + 1,) falling to 0.  The last step goes to the estimate of x_0 itself.
    heun: take the mean of the slopes at both ends of each step but the last: two calls each.
    Yields S + 1 frames; their t counts the steps that are left.
    Raises ValueError, at the first frame, for times that do not fall to 0.
    """

    def step(x: Tensor, x_0_hat: Tensor, now: float, then: float) -> Tensor:
        slope = velocity(path, x, x_0_hat, now)
        if heun:
            ahead = x + (then - now) * slope
            slope_there = velocity(path, ahead, denoise(ahead, _same(then, x)), then)
            slope = (slope + slope_there) / 2
        return x + (then - now) * slope

    return _walk(denoise, path, noise, times, step)


def reverse_sde(
    denoise: Denoiser,
    path: Path,
    noise: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator,
    heat: float = 1.0,
) -> Iterator[Frame]:
    r"""Each step is one of `probability_flow`, and then one of Langevin that keeps the marginal.

    With h = heat times $g^2 |dt|$: $x \leftarrow x + \frac h2 \nabla \log q_t(x) + \sqrt h z$.
    Both together are a step of the reverse SDE,
    $dx = (f x - g^2 \nabla \log q_t)\, dt + g\, d\bar w$.
    (Song, Sohl-Dickstein et al. 2021, Eq. 6; Anderson 1982)

    heat: 1 is that SDE, 0 the equation without noise; all have the same marginals.
    Other arguments as for `probability_flow`.
    Raises ValueError also where no signal is left, as at t = 1 of `STRAIGHT`: begin below.
    """

    def step(x: Tensor, x_0_hat: Tensor, now: float, then: float) -> Tensor:
        a, b = path.at(now)
        _, g_square = path.rates(now)
        h = heat * g_square * (now - then)
        score = (a * x_0_hat - x) / b**2
        x = x + (then - now) * velocity(path, x, x_0_hat, now)
        return x + h / 2 * score + h**0.5 * noise_like(x, generator)

    return _walk(denoise, path, noise, times, step)


def seen_by(denoise: Denoiser, schedule: NoiseSchedule, path: Path) -> Denoiser:
    r"""A denoiser that was trained on a schedule, for the points of a path.

    Rescaled to unit variance, x is an $x_t$ of the step whose ratio of noise to signal it has, or
    of the step with the nearest ratio.
    denoise: (x_t, t) -> x_0_hat, t: (B,) in 1..T.  The function takes t as a time, (B,) all equal.
    """
    ratio = schedule.snr[1:] ** -0.5  # (T,), rising
    between = (ratio[1:] * ratio[:-1]).sqrt()  # below it the earlier step is nearer

    def estimate(x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        a, b = path.at(float(t[0]))
        step = 1 + int(torch.searchsorted(between, b / a)) if a else schedule.T
        x_t = x / math.hypot(a, b)
        return denoise(x_t, torch.full((len(x),), step), **given)

    return estimate


@torch.no_grad()
def _walk(
    denoise: Denoiser,
    path: Path,
    noise: Tensor,
    times: Tensor,
    step: Callable[[Tensor, Tensor, float, float], Tensor],
) -> Iterator[Frame]:
    """From b times the noise back to data; the last step goes to the estimate of x_0 itself.

    step: (x, x_0_hat, now, then) -> x at the time then.
    """
    stops = _falling(times)
    left = len(stops) - 1  # steps
    x = path.at(stops[0])[1] * noise
    yield Frame(left, x, torch.zeros_like(x))
    for now, then in pairwise(stops):
        x_0_hat = denoise(x, _same(now, x))
        x = step(x, x_0_hat, now, then) if then > 0 else x_0_hat
        left -= 1
        yield Frame(left, x, x_0_hat)


def _falling(times: Tensor) -> list[float]:
    """The times as numbers.  Raises ValueError unless they fall, from at most 1 to 0."""
    stops = [float(t) for t in times]
    falling = all(later < earlier for earlier, later in pairwise(stops))
    if len(stops) < 2 or not falling or stops[0] > 1 or stops[-1] != 0:
        raise ValueError(
            f"times must fall from at most 1 to 0, got {len(stops)} of them, "
            f"{stops[:1]} to {stops[-1:]}; for example torch.linspace(1, 0, 21)"
        )
    return stops


def _same(t: float, like: Tensor) -> Tensor:
    """The same time for each item of a batch, (B,)."""
    return torch.full((len(like),), t, dtype=like.dtype, device=like.device)
