"""Checks of the exercises of notebook 00: the whole idea."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    returned,
    same,
    some_images,
    true,
)
from tutorial_lib.schedule import NoiseSchedule, from_betas


def guess_of_x_0(answer, generator):
    """(x_t, eps_hat, alpha_bar_t) -> the estimate of x_0 that this guess of the noise stands for.

    (Eq. 15)
    """
    x_0, eps = some_images(generator)
    alpha_bar = between(0.2, 0.8, generator)
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t = a * x_0 + b * eps
    for guess, what in ((eps, "x_0_hat"), (some_images(generator)[1], "x_0_hat of a wrong guess")):
        slips = {
            "Both roots are missing.": (x_t - b**2 * guess) / a**2,
            "The noise is taken away, but the shrinking is not undone.": x_t - b * guess,
            "Of the noise all is taken away, more than was added.": (x_t - guess) / a,
            "Nothing is scaled: less than all of eps_hat was added, and x_0 was shrunk.": x_t
            - guess,
            "That is the jump itself: the noise is added once more.": a * x_t + b * guess,
            "The noise is added, and not taken away.": (x_t + b * guess) / a,
            "The shrinking is undone by a number that is no root.": (x_t - b * guess) / a**2,
            "Is the noise multiplied by the right root?": (x_t - b**2 * guess) / a,
            "The two roots have changed places.": (x_t - a * guess) / b,
            "Only x_t is divided. Look at your brackets.": x_t / a - b * guess,
            "The sign is wrong.": (b * guess - x_t) / a,
            "It is cut off at -1 and 1. The formula does not do that.": (
                ((x_t - b * guess) / a).clamp(-1, 1)
            ),
        }
        same(answer(x_t, guess, alpha_bar), (x_t - b * guess) / a, what, slips)


def one_step(answer, generator):
    """(x, eps_hat, z, beta_t, alpha_bar_t) -> x_{t-1}, by one step of Algorithm 2."""
    x, eps_hat = some_images(generator)
    z = some_images(generator)[1]
    beta, alpha_bar = between(0.1, 0.5, generator), between(0.1, 0.4, generator)
    root, shrunk, spread = (1 - alpha_bar).sqrt(), (1 - beta).sqrt(), beta.sqrt()
    share = beta / root

    def step(share: Tensor = share, shrunk: Tensor = shrunk, spread: Any = spread) -> Tensor:
        return (x - share * eps_hat) / shrunk + spread * z

    slips = {
        "The fresh noise is missing.": step(spread=0),
        "The fresh noise has standard deviation beta_t, not variance beta_t.": step(spread=beta),
        "The fresh noise is not scaled.": step(spread=1),
        "The fresh noise is stretched as well; it comes last.": step(spread=spread / shrunk),
        "The shrinking is not undone.": step(shrunk=torch.ones_like(root)),
        "The shrinking is undone by 1 - beta_t, which is no root.": step(shrunk=1 - beta),
        "The shrinking of all steps is undone, not that of one.": step(shrunk=alpha_bar.sqrt()),
        "It shrinks once more, where the shrinking should be undone.": step(shrunk=1 / shrunk),
        "Only x is divided by the root of 1 - beta_t. Look at your brackets.": step(share * shrunk),
        "The guessed noise is added.": step(-share),
        "All of the guessed noise is taken away, not a part.": step(torch.ones_like(root)),
        "A root below beta_t is missing.": step(beta / root**2),
        "The share of the noise is too large: beta_t has no root there.": step(spread / root),
        "The share of the guessed noise lacks its denominator.": step(beta),
        "Below beta_t stands what is left of the picture.": step(beta / alpha_bar.sqrt()),
        "That goes to the guess of x_0 in one leap.": step(root, alpha_bar.sqrt()),
    }
    same(answer(x, eps_hat, z, beta, alpha_bar), step(), "x_{t-1}", slips)


def strange_walk(answer, generator):
    """(network, schedule, x, generator) -> points: the walk, with its bug repaired."""
    for _ in range(2):  # what is right once by chance is not right twice
        _draws_the_data(answer, generator)


def _draws_the_data(answer: Callable, generator: torch.Generator) -> None:
    """Raise Wrong unless a walk draws some Gaussian's points when its network is perfect.

    The schedule is short and uneven, so that a table that is read one step off shows.
    """
    mean, std = (float(between(0.3, 0.6, generator)) for _ in range(2))
    low, high = between(0.1, 0.2, generator, 3), between(0.5, 0.7, generator, 3)
    schedule = from_betas(torch.stack([low, high], dim=1).flatten())
    x_T = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    x_0 = answer(_perfect_network(schedule, mean, std), schedule, x_T, generator)
    returned(x_0)
    true(
        isinstance(x_0, Tensor) and x_0.shape == x_T.shape,
        "It should return the points, a tensor like x.",
    )
    true(x_0.isfinite().all(), "Some coordinates are no finite numbers.")
    _spread_as(x_0.double(), x_T, *_reached(schedule, mean, std))


def _spread_as(x_0: Tensor, x_T: Tensor, shift: float, slope: float, variance: float) -> None:
    """Raise Wrong unless x_0 is shift + slope x_T + noise of that variance."""
    std, root_n = (slope**2 + variance) ** 0.5, x_0.numel() ** 0.5
    said = "The points are spread too {}, compared with those of a right walk."
    ratio = float(x_0.std()) / std
    true(ratio < 1 + 6 / (2**0.5 * root_n), said.format("widely"))
    true(ratio > 1 - 6 / (2**0.5 * root_n), said.format("narrowly"))
    true(
        abs(float(x_0.mean()) - shift) < 6 * std / root_n,
        "The points gather around another mean than that of the data.",
    )
    true(
        abs(float(torch.corrcoef(x_0.T)[0, 1])) < 6 / len(x_0) ** 0.5,
        "The two coordinates of a point move together: each needs noise of its own.",
    )
    left = float(((x_0 - shift) * x_T).mean() / (x_T**2).mean())
    true(
        abs(left - slope) < 6 * variance**0.5 / root_n,
        "The points are spread as they should be, but each remembers too much or too little of "
        "the noise from which it began.",
    )


def _perfect_network(
    schedule: NoiseSchedule, mean: float, std: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """The best network for data N(mean, std^2) in each coordinate, E[eps | x_t]."""

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        true(
            isinstance(t, Tensor) and t.shape == (len(x_t), 1),
            f"The network takes t as a tensor of shape ({len(x_t)}, 1).",
        )
        alpha_bar = schedule.alpha_bar[t]  # (B, 1)
        variance = alpha_bar * std**2 + 1 - alpha_bar  # of x_t
        return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * mean) / variance

    return network


def _reached(schedule: NoiseSchedule, mean: float, std: float) -> tuple[float, float, float]:
    """What Algorithm 2 makes of x_T with that network, exactly: shift + slope x_T + noise.

    Returns shift, slope and the variance of the noise.
    """
    shift, slope, variance = 0.0, 1.0, 0.0
    for t in range(schedule.T, 0, -1):
        beta, alpha_bar = float(schedule.beta[t]), float(schedule.alpha_bar[t])
        share = beta / (alpha_bar * std**2 + 1 - alpha_bar)
        kept = (1 - share) / (1 - beta) ** 0.5
        shift = kept * shift + share * alpha_bar**0.5 * mean / (1 - beta) ** 0.5
        slope = kept * slope
        variance = kept**2 * variance + (beta if t > 1 else 0.0)
    return shift, slope, variance


EXERCISES = {
    "00.1": Exercise(
        test=guess_of_x_0,
        praise=(
            "Guessing the noise is guessing the data. From pure noise that guess is worth little: "
            "alpha_bar is then nearly 0, and you divide by its root."
        ),
        hints=(
            "First bring the noise to the other side of the equation, with its root.",
            "Then divide what is left by the root that stands before x_0.",
        ),
        forbidden=("x_0_from", "denoiser"),
    ),
    "00.2": Exercise(
        test=one_step,
        praise="Fifty times this line, and noise has become a spiral; a thousand times, a garment.",
        hints=(
            (
                "Three moves in this order: take the share of eps_hat away, divide by the root of "
                "1 - beta_t, add the scaled z."
            ),
            "A variance of beta_t means that z is multiplied by the root of beta_t.",
        ),
        forbidden=("mu_from_eps", "ddpm"),
    ),
    "00.3": Exercise(
        test=strange_walk,
        praise=(
            "Every point it drew lay on the spiral, and yet it drew from another distribution: "
            "looking at single samples would never have told."
        ),
        hints=(
            "Compare the loop with `walk_back`, line by line. What happens once, and what T times?",
            (
                "The same noise at each step pushes a point the same way fifty times; "
                "what section 0.4 adds is fresh."
            ),
        ),
        forbidden=("ddpm", "ddim", "dpm_solver", "heun"),
    ),
}
