r"""Fast samplers: the deterministic walk as a differential equation, solved in few steps.

They take a denoiser and yield frames, as those of `sample` do.  Where the steps lie matters more
than which of them is asked: see `karras_tau`.  In each docstring
$a = \sqrt{\bar\alpha}$ is the signal and $b = \sqrt{1 - \bar\alpha}$ the noise at the step where
the walk stands; dashes mark the next one.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tutorial_lib.denoise import Denoiser
from tutorial_lib.sample import Frame, ddim, ddpm
from tutorial_lib.schedule import NoiseSchedule, how_many, same_t

# Where the steps of `dpm_solver` lie: of the shipped weights' samples two judges prefer these to
# others, such as the 7 and 80 of Karras et al. (tests/benchmarks/placement.py).
CHOSEN = {"root": 4, "largest": 120.0}
STEPS = 15  # as many as samples are drawn by, unless somebody asks for another number


@torch.no_grad()
def dpm_solver(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    steps: int | Tensor | None = None,
) -> Iterator[Frame]:
    r"""DPM-Solver++(2M): `ddim` that looks ahead along its estimates (Lu et al. 2022, Algorithm 2).

    $x' = \frac{b'}{b} x + (a' - \frac{b'}{b} a) D$, where D extends the line through the last two
    estimates of x_0, as a function of $\lambda = \log(a / b)$, to the middle of the step.
    The first step and the last are those of the deterministic `ddim`: D is the estimate itself.
    One call of the denoiser a step.
    steps: how many, placed by `karras_tau` with `CHOSEN` (all of them by default); or which, rising
    from 0.
    Other arguments and errors as for `ddpm`.  (arXiv 2211.01095)
    """
    tau = steps if isinstance(steps, Tensor) else karras_tau(schedule, steps, **CHOSEN)
    schedule.check_tau(tau)
    tau = tau.tolist()
    alpha_bar = schedule.alpha_bar[tau]
    signal, noise = alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()
    lam = (alpha_bar / (1 - alpha_bar)).sqrt().log().tolist()
    x = x_T
    x_0_hat_before = None
    yield Frame(tau[-1], x, torch.zeros_like(x))
    for i in range(len(tau) - 1, 0, -1):
        x_0_hat = denoise(x, same_t(tau[i], len(x)))
        ahead = x_0_hat
        if x_0_hat_before is not None and i > 1:
            step, step_before = lam[i - 1] - lam[i], lam[i] - lam[i + 1]
            ahead = x_0_hat + step / step_before / 2 * (x_0_hat - x_0_hat_before)
        shrink = noise[i - 1] / noise[i]
        x = shrink * x + (signal[i - 1] - shrink * signal[i]) * ahead
        x_0_hat_before = x_0_hat
        yield Frame(tau[i - 1], x, x_0_hat)


@torch.no_grad()
def heun(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    steps: int | Tensor | None = None,
) -> Iterator[Frame]:
    r"""Heun's rule for $d(x / a) = \hat\epsilon\, d(b / a)$ (Karras et al. 2022, Algorithm 1).

    Each step is that of the deterministic `ddim`, then a second call of the denoiser at its end,
    and the mean of both slopes; only the last step, into x_0, makes do with one call: S steps call
    it 2 S - 1 times.  The rule needs steps that are even in a root of b / a instead of in t: by
    default they are those of Karras et al.
    Arguments and errors as for `dpm_solver`.  (arXiv 2206.00364)
    """
    tau = steps if isinstance(steps, Tensor) else karras_tau(schedule, steps)
    schedule.check_tau(tau)
    tau = tau.tolist()
    alpha_bar = schedule.alpha_bar[tau]
    signal, noise = alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()
    x = x_T
    yield Frame(tau[-1], x, torch.zeros_like(x))
    for i in range(len(tau) - 1, 0, -1):
        x_0_hat = denoise(x, same_t(tau[i], len(x)))
        eps_hat = (x - signal[i] * x_0_hat) / noise[i]
        x = signal[i - 1] * x_0_hat + noise[i - 1] * eps_hat
        if i > 1 and signal[i] > 0:  # x / a has no value at a = 0
            x_0_hat_there = denoise(x, same_t(tau[i - 1], len(x)))
            eps_hat_there = (x - signal[i - 1] * x_0_hat_there) / noise[i - 1]
            length = noise[i - 1] - signal[i - 1] * noise[i] / signal[i]
            x = x + length * (eps_hat_there - eps_hat) / 2
        yield Frame(tau[i - 1], x, x_0_hat)


def karras_tau(
    schedule: NoiseSchedule,
    S: int | None = None,
    *,
    root: float = 7,
    largest: float = 80,
) -> Tensor:
    r"""S of the steps 1..T, spaced as evenly in a root of noise / signal as they can be.

    noise / signal $= \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}$.  The walk begins where that is
    nearest to `largest`, or at T where the schedule does not reach it, unless S leaves no choice.
    The higher the root, the more of the steps lie near the data; a logarithm is the limit.
    An int64 tensor of length S + 1 with 0 in front; all steps by default.
    (Karras et al. 2022, Eq. 5; arXiv 2206.00364.)  Raises ValueError unless 1 <= S <= T.
    """
    S = how_many(schedule.T, S)
    ratio = schedule.snr[1:] ** -0.5  # (T,), rising
    low, high = ratio[[0, -1]].clamp(max=largest).tolist()
    roots = torch.linspace(high ** (1 / root), low ** (1 / root), S, dtype=torch.float64)
    wanted = roots.flip(0) ** root  # (S,), rising
    between = (ratio[1:] * ratio[:-1]).sqrt()  # a ratio below it is nearer to the earlier step
    nearest = torch.searchsorted(between, wanted) + 1  # (S,), never falling, maybe with repeats
    tau = [0]
    for i, t in enumerate(nearest.tolist(), 1):
        t = max(t, tau[-1] + 1)  # no step twice
        tau.append(min(t, schedule.T - S + i))  # S - i steps are still to come
    return torch.tensor(tau)


SAMPLERS: dict[str, Callable[..., Iterator[Frame]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm++": dpm_solver,
    "heun": heun,
}
