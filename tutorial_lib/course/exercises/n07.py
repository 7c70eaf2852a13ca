"""Checks of the exercises of notebook 07: fast samplers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import (
    Exercise,
    Wrong,
    between,
    returned,
    same,
    some_images,
    some_schedule,
    true,
)
from tutorial_lib.schedule import NoiseSchedule


def _levels(generator: torch.Generator) -> tuple[float, float]:
    """alpha_bar at a step and, larger, at the one before."""
    return float(between(0.1, 0.4, generator)), float(between(0.5, 0.9, generator))


def sigma(answer, generator):
    """(eta, alpha_bar_t, alpha_bar_prev) -> the standard deviation of a step's fresh noise."""
    alpha_bar_t, alpha_bar_prev = _levels(generator)
    eta = float(between(0.2, 0.9, generator))
    ratio = (1 - alpha_bar_prev) / (1 - alpha_bar_t)  # of the two noises
    right = eta * (ratio * (1 - alpha_bar_t / alpha_bar_prev)) ** 0.5
    slips = {
        "That is the variance; is a root missing?": right**2,
        "That is for eta = 1.": right / eta,
        "The ratio of the two noises is upside down.": right / ratio,
        "The second root is of 1 - alpha_bar_t / alpha_bar_prev.": (
            eta * (ratio * (1 - alpha_bar_t)) ** 0.5
        ),
        "eta stands outside the roots.": right * eta**-0.5,
    }
    same(answer(eta, alpha_bar_t, alpha_bar_prev), right, "sigma", slips)


def end_of_path(answer, generator):
    """(x_t, alpha_bar_t, m, s) -> where the path without noise ends, for data N(m, s^2)."""
    x_t, _ = some_images(generator)
    alpha_bar_t, _ = _levels(generator)
    m, s = float(between(0.2, 0.8, generator)), float(between(0.2, 0.6, generator))
    a = alpha_bar_t**0.5
    r = ((1 - alpha_bar_t) / alpha_bar_t) ** 0.5
    from_m = x_t / a - m  # y - m, which grows as the root of s^2 + r^2
    right = m + s / (s**2 + r**2) ** 0.5 * from_m
    slips = {
        "That is one step of Euler's rule; the slope changes on the way.": (
            m + s**2 / (s**2 + r**2) * from_m
        ),
        "The path is that of y = x / a, not of x.": m + s / (s**2 + r**2) ** 0.5 * (x_t - m),
        "It went the other way, from the data to the noise.": m + (s**2 + r**2) ** 0.5 / s * from_m,
        "That is its distance from m; where does it end?": right - m,
        "Of s^2 + r^2 a root is to be taken.": m + s / (s**2 + r**2) * from_m,
    }
    same(answer(x_t, alpha_bar_t, m, s), right, "The end", slips)


def ahead(answer, generator):
    """(x_0_hat, before, lam_next, lam, lam_before) -> D, on the line, in the middle of the step."""
    x_0_hat, before = some_images(generator)
    lam_before = float(between(-2, -1, generator))
    lam = lam_before + float(between(0.3, 1, generator))
    lam_next = lam + float(between(0.3, 1, generator))
    slope = (x_0_hat - before) / (lam - lam_before)
    slips = {
        "That is the line at the end of the step; its middle is wanted.": (
            x_0_hat + (lam_next - lam) * slope
        ),
        "The line goes through the two estimates; yours is too steep or too flat by the ratio of "
        "the two steps.": x_0_hat + (x_0_hat - before) / 2,
        "It looks back: the line is to be followed to what comes.": (
            x_0_hat - (lam_next - lam) / 2 * slope
        ),
        "The line begins at the present estimate.": before + (lam_next - lam) / 2 * slope,
        "The two steps have changed places.": (
            x_0_hat + (lam - lam_before) / (lam_next - lam) / 2 * (x_0_hat - before)
        ),
    }
    right = x_0_hat + (lam_next - lam) / 2 * slope
    same(answer(x_0_hat, before, lam_next, lam, lam_before), right, "D", slips)


def grainy(answer, generator):
    """(x_0_hat, eps_hat, alpha_bar_prev, sigma, z) -> the state at the step before, repaired."""
    x_0_hat, eps_hat = some_images(generator)
    z = torch.randn(x_0_hat.shape, dtype=torch.float64, generator=generator)
    # below 0.66 two of the slips can be one number
    alpha_bar_prev = float(between(0.7, 0.9, generator))
    sigma = float(between(0.3, 0.9, generator)) * (1 - alpha_bar_prev) ** 0.5
    of_eps = (1 - alpha_bar_prev - sigma**2) ** 0.5
    right = alpha_bar_prev**0.5 * x_0_hat + of_eps * eps_hat + sigma * z
    slips = {
        "The pictures are still grainy.": (
            alpha_bar_prev**0.5 * x_0_hat + (1 - alpha_bar_prev) ** 0.5 * eps_hat + sigma * z
        ),
        "Without fresh noise the grain is gone, but so is the walk with eta > 0.": (
            alpha_bar_prev**0.5 * x_0_hat + (1 - alpha_bar_prev) ** 0.5 * eps_hat
        ),
        "Standard deviations do not add; variances do.": (
            alpha_bar_prev**0.5 * x_0_hat
            + ((1 - alpha_bar_prev) ** 0.5 - sigma) * eps_hat
            + sigma * z
        ),
        "sigma is a standard deviation already.": (
            alpha_bar_prev**0.5 * x_0_hat + of_eps * eps_hat + sigma**0.5 * z
        ),
        "sigma is a standard deviation: its square is taken away.": (
            alpha_bar_prev**0.5 * x_0_hat
            + max(1 - alpha_bar_prev - sigma, 0.0) ** 0.5 * eps_hat
            + sigma * z
        ),
    }
    same(answer(x_0_hat, eps_hat, alpha_bar_prev, sigma, z), right, "The state", slips)


def arc(answer, generator):
    """(z_1, z_2, s) -> the point of the arc from z_1 to z_2 at the share s of the way."""
    z_1, z_2 = (torch.randn(30, dtype=torch.float64, generator=generator) for _ in range(2))
    z_2 += z_1 / 2  # no right angle, whose sine hides a power
    s = float(between(0.1, 0.4, generator))
    theta = torch.acos(z_1 @ z_2 / (z_1.norm() * z_2.norm()))
    right = (torch.sin((1 - s) * theta) * z_1 + torch.sin(s * theta) * z_2) / theta.sin()
    line = (1 - s) * z_1 + s * z_2
    slips = {
        "That is the straight line, which leaves the sphere.": line,
        "The two ends have changed places.": (
            torch.sin(s * theta) * z_1 + torch.sin((1 - s) * theta) * z_2
        )
        / theta.sin(),
        "The division by sin theta is missing.": right * theta.sin(),
        "That has the right length, but the angle does not grow evenly.": (
            line / line.norm() * right.norm()
        ),
        "cos theta is the product over both lengths.": _arc_with(z_1, z_2, s, z_1 @ z_2),
    }
    same(answer(z_1, z_2, s), right, "The point", slips)


def _arc_with(z_1: Tensor, z_2: Tensor, s: float, cosine: Tensor) -> Tensor:
    theta = cosine.clamp(-1, 1).acos() + 1e-9
    return (torch.sin((1 - s) * theta) * z_1 + torch.sin(s * theta) * z_2) / theta.sin()


def upwards(answer, generator):
    """(denoise, x, t, t_next, schedule) -> one step of encoding, from t up to t_next."""
    schedule = some_schedule(generator)
    x, _ = some_images(generator)
    slope = float(between(0.3, 0.8, generator))
    asked: list[int] = []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        true(
            isinstance(t, Tensor) and t.shape == x_t.shape[:1],
            f"The denoiser takes one whole t for each picture, a tensor of shape ({len(x_t)},).",
        )
        asked.append(int(t[0]))
        return slope * x_t + t.view(-1, 1, 1, 1) / 40

    now, then = schedule.alpha_bar[6], schedule.alpha_bar[11]
    x_0_hat = slope * x + 6 / 40
    eps_hat = (x - now**0.5 * x_0_hat) / (1 - now) ** 0.5
    got = answer(denoise, x, 6, 11, schedule)
    returned(got)
    true(bool(asked), "The denoiser was never asked.")
    true(
        asked == [6],
        f"The denoiser was asked at t = {asked}; the walk stands at t = 6, and one call will do.",
    )
    noise = (1 - then) ** 0.5 * eps_hat
    slips = {
        "That is the forward process: the noise is to be the one that is in x already.": (
            then**0.5 * x + noise
        ),
        "That is where the walk stands already.": x,
        "The noise should have the size that belongs to t_next.": (
            then**0.5 * x_0_hat + (1 - now) ** 0.5 * eps_hat
        ),
        "The picture should be shrunk as at t_next.": now**0.5 * x_0_hat + noise,
    }
    same(got, then**0.5 * x_0_hat + noise, "x'", slips)


def own_solver(answer, generator):
    """(denoise, schedule, x, tau) -> x_0: DPM-Solver++(2M) whole."""
    for steps in ((0, 3, 8, 13, 20), (0, 9, 20), (0, 17)):
        schedule = some_schedule(generator)
        x = torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64)
        slope = float(between(0.3, 0.8, generator))
        asked: list[int] = []

        def denoise(x_t: Tensor, t: Tensor, slope=slope, asked=asked) -> Tensor:
            whole = isinstance(t, Tensor) and not t.is_floating_point() and t.shape == x_t.shape[:1]
            true(whole, "The denoiser takes one whole t for each picture, a tensor of shape (3,).")
            asked.append(int(t[0]))
            return slope * x_t + t.view(-1, 1, 1, 1) / 40

        got = answer(denoise, schedule, x.clone(), list(steps))
        returned(got)
        wanted = list(steps[:0:-1])
        true(
            asked == wanted,
            f"For tau = {list(steps)} the denoiser should be asked at t = {wanted}, each once; "
            f"it was asked at {asked}.",
        )
        asked.clear()
        two_m = partial(_two_m, denoise, schedule, x, list(steps))
        slips = {
            "That is DDIM: no step looks ahead.": two_m(first_order=True),
            "The last step should be DDIM's.": two_m(last=True),
            "The ratio of the two steps in lambda is upside down.": two_m(inverted=True),
            "It looks to the end of each step; the middle is wanted.": two_m(half=1.0),
        }
        same(got, two_m(), f"x_0 for tau = {list(steps)}", slips)


def _two_m(
    denoise: Callable[..., Tensor],
    schedule: NoiseSchedule,
    x: Tensor,
    tau: list[int],
    first_order: bool = False,
    last: bool = False,
    inverted: bool = False,
    half: float = 0.5,
) -> Tensor:
    """The solver, by its formula in lambda and exponentials, with a slip if asked for."""
    alpha_bar = schedule.alpha_bar[tau]
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    lam = (a / b).log().clamp(max=40)
    before = None
    for i in range(len(tau) - 1, 0, -1):
        now = denoise(x, torch.full((len(x),), tau[i]))
        D = now
        if before is not None and (i > 1 or last) and not first_order:
            ratio = (lam[i - 1] - lam[i]) / (lam[i] - lam[i + 1])
            D = now + half * (1 / ratio if inverted else ratio) * (now - before)
        h = lam[i - 1] - lam[i]
        x = b[i - 1] / b[i] * x - a[i - 1] * torch.expm1(-h) * D
        before = now
    return x


def again(answer, generator):
    """(student, schedule, x_T, tau, generator) -> x_0: answer, add noise, answer."""
    schedule = some_schedule(generator)
    x_T = torch.randn(4, 1, 4, 4, generator=generator, dtype=torch.float64)
    tau, seed = [0, 5, 12, 20], int(torch.randint(1000, (), generator=generator))
    asked: list[tuple[int, Tensor]] = []

    def student(x_t: Tensor, t: Tensor) -> Tensor:
        true(
            isinstance(t, Tensor) and t.shape == x_t.shape[:1],
            "The student takes one whole t for each picture, a tensor of shape (4,).",
        )
        asked.append((int(t[0]), x_t))
        return 0.5 * x_t.tanh() + t.view(-1, 1, 1, 1) / 50

    def walked(noise: bool = True, old: bool = False) -> Tensor:
        draws, x = torch.Generator().manual_seed(seed), x_T
        for i in (3, 2, 1):
            x_0 = student(x, torch.full((4,), tau[i]))
            alpha_bar, now = schedule.alpha_bar[tau[i - 1]], schedule.alpha_bar[tau[i]]
            z = torch.randn(x.shape, generator=draws, dtype=x.dtype) if i > 1 else 0
            if old:
                z = (x - now.sqrt() * x_0) / (1 - now).sqrt()
            x = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * z * noise
        return x

    got = answer(student, schedule, x_T.clone(), tau, torch.Generator().manual_seed(seed))
    returned(got)
    times = [t for t, _ in asked]
    if times != [20, 12, 5]:
        raise Wrong(f"The student should be asked at t = 20, 12 and 5; it was asked at {times}.")
    slips = {
        "Without fresh noise the student sees what it never saw in training.": walked(noise=False),
        "The noise should be fresh; the old one is DDIM's way.": walked(old=True),
    }
    same(got, walked(), "x_0", slips)


def _grainy(x_0_hat: Any, eps_hat: Any, alpha_bar_prev: float, sigma: float, z: Any) -> Any:
    """A step with eta > 0 that keeps all of the old noise besides the new."""
    return alpha_bar_prev**0.5 * x_0_hat + (1 - alpha_bar_prev) ** 0.5 * eps_hat + sigma * z


EXERCISES = {
    "07.1": Exercise(
        test=sigma,
        praise="With eta = 1 it is the root of beta_tilde; the family lies between.",
        hints=(
            "Two roots: one of a ratio of noises, one of what the step adds.",
            "The first: (1 - alpha_bar_prev) over (1 - alpha_bar_t). The second: 1 - "
            "alpha_bar_t / alpha_bar_prev.",
        ),
    ),
    "07.2": Exercise(
        test=end_of_path,
        praise="Each path keeps its place among the data, and no solver was needed.",
        hints=(
            "Bring y - m to one side and r to the other: dy / (y - m) = r dr / (s^2 + r^2).",
            "Both sides are logarithms: log(y - m) = log(s^2 + r^2) / 2 + constant. So (y - m) / "
            "sqrt(s^2 + r^2) stays the same along the path.",
            "Begin with y = x_t / a and r^2 = (1 - alpha_bar_t) / alpha_bar_t; at the end r = 0.",
        ),
        forbidden=("ddim", "dpm_solver", "heun"),
    ),
    "07.3": Exercise(
        test=ahead,
        praise="A straight line through two estimates costs nothing, and gains an order.",
        hints=(
            "The line through (lam_before, before) and (lam, x_0_hat): what is its slope?",
            "The middle of the step lies (lam_next - lam) / 2 behind lam.",
        ),
        forbidden=("dpm_solver",),
    ),
    "07.4": Exercise(
        test=grainy,
        praise="Old and fresh noise share the variance that belongs to the step. With both in "
        "full every state is noisier than the network expects, and the end is grainy.",
        hints=(
            "How large is the variance of the noise that the suspect leaves in x?",
            "It should be 1 - alpha_bar_prev in all, and sigma^2 of it is fresh.",
        ),
        forbidden=("SUSPECTS", "_grainy", "ddim"),
    ),
    "07.5": Exercise(
        test=arc,
        praise="Of two noises all points between are as long as noise.",
        hints=(
            "First the angle: its cosine is the product of the two, over both lengths.",
            "The weights are sin((1 - s) theta) and sin(s theta), both over sin theta.",
        ),
        forbidden=("slerp",),
    ),
    "07.6": Exercise(
        test=upwards,
        praise="The same line as on the way down; only the next step is a noisier one.",
        hints=(
            "Ask the denoiser where you stand: same_t(t, len(x)).",
            "Which noise is in x, if x_0_hat is the picture behind it?",
            "Put both together in the proportions of t_next.",
        ),
        forbidden=("encode",),
    ),
    "07.7": Exercise(
        test=own_solver,
        praise="Fifteen lines, and the sampler behind most pictures of this course.",
        hints=(
            "Tables first: a, b and lam = log(a / b) at all of tau; at 0 lam is infinite.",
            "Loop i from the last place down to 1. Which steps have no line to look along?",
            "D of section 7.4, then x = b'/b x + (a' - b'/b a) D; remember the estimate.",
        ),
        forbidden=("dpm_solver",),
    ),
    "07.8": Exercise(
        test=again,
        praise="Each answer forgets what was wrong at its level of noise. After the last there is "
        "none to add.",
        hints=(
            "From the last place of tau down: ask the student, and noise its answer to the next.",
            "The noise of t' has standard deviation sqrt(1 - alpha_bar'), the picture sqrt("
            "alpha_bar') of its size; at t' = 0 that is no noise at all.",
            "Draw noise only where t' > 0, with torch.randn(x.shape, generator=generator, "
            "dtype=x.dtype).",
        ),
        forbidden=("multistep",),
    ),
}

SUSPECTS: dict[str, Callable[..., Any]] = {"07.4": _grainy}
