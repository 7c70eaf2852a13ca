"""Checks of the exercises of notebook 02: forward noising."""

import torch

from tutorial_lib import diffusion, gaussian
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    returned,
    same,
    some_images,
    some_schedule,
    some_t,
    true,
)
from tutorial_lib.schedule import NoiseSchedule

# `sigmoid` is not among them, because torch has one too; the library's does not end in noise at
# T = 100, and so does not pass the check.
SCHEDULES = ("constant", "linear", "quadratic", "cosine", "geometric", "named", "NAMED")


def left_of_it(answer, generator):
    """(beta, t) -> the factor in front of x_0 after t steps of the same beta."""
    some_beta = float(between(0.001, 0.3, generator))
    for beta, t in ((0.02, 69), (some_beta, 7)):
        alpha_bar = (1 - beta) ** t
        slips = {"That is alpha_bar; the factor is its root.": alpha_bar}
        what = f"What is left for beta = {beta:.3f} after {t} steps"
        same(answer(beta, t), alpha_bar**0.5, what, slips)


def one_step(answer, generator):
    """(x_prev, beta, eps) -> x_t, with the slip mended."""
    x_prev, eps = some_images(generator)
    beta = between(0.05, 0.5, generator)
    alpha = 1 - beta
    x_t = alpha**0.5 * x_prev + beta**0.5 * eps
    dull = alpha**0.5 * x_prev + beta * eps
    dark = alpha * x_prev + beta**0.5 * eps
    slips = {
        "Its variance shrinks with every step. Look at what multiplies eps.": dull,
        "Now the image is multiplied by the wrong number.": dark,
    }
    same(answer(x_prev, beta, eps), x_t, "x_t", slips)


def jump(answer, generator):
    """(schedule, x_0, t, eps) -> x_t."""
    schedule = some_schedule(generator)
    x_0, eps = some_images(generator)
    t = some_t(generator)
    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    one_behind = diffusion.q_sample(schedule, x_0, t - 1, eps)
    alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    signal = alpha_bar.sqrt() * x_0
    noise = (1 - alpha_bar).sqrt() * eps
    slips = {
        "A square root is missing.": alpha_bar * x_0 + (1 - alpha_bar) * eps,
        "The image lacks its root.": alpha_bar * x_0 + noise,
        "The noise lacks its root.": signal + (1 - alpha_bar) * eps,
        "It is one step behind: tables have T + 1 entries, alpha_bar[t] belongs to t.": one_behind,
    }
    same(answer(schedule, x_0, t, eps), x_t, "x_t", slips)


def steps_to_noise(answer, generator):
    """(beta, s) -> the first t with a signal-to-noise ratio below s, for a constant beta."""
    some_beta = float(between(0.005, 0.2, generator))
    some_s = float(between(0.001, 0.5, generator))
    for beta, s in ((0.01, 1.0), (some_beta, some_s), (0.5, 1.0)):
        t = 1
        alpha_bar = 1 - beta
        while alpha_bar / (1 - alpha_bar) >= s:
            t += 1
            alpha_bar *= 1 - beta
        slips = {
            "One step too early: the ratio must already be below s.": t - 1,
            "One step too late.": t + 1,
        }
        same(answer(beta, s), t, f"The first step for beta = {beta:.3f}, s = {s:.3f}", slips)


def own_schedule(answer, generator):
    """(T) -> the betas of a schedule of one's own, T numbers."""
    for T in (100, 1000):
        beta = answer(T)
        returned(beta)
        true(
            not isinstance(beta, NoiseSchedule),
            "It should return the betas alone, not a whole schedule.",
        )
        beta = torch.as_tensor(beta, dtype=torch.float64)
        true(
            beta.shape == (T,),
            f"For T = {T} it should return {T} numbers, beta_1 to beta_T; "
            f"got shape {tuple(beta.shape)}.",
        )
        true(((beta > 0) & (beta < 1)).all(), "Each beta must lie between 0 and 1, both excluded.")
        alpha_bar = (1 - beta).cumprod(0)  # (T,), alpha_bar_1 to alpha_bar_T
        _destroys_well(alpha_bar)


def _destroys_well(alpha_bar: torch.Tensor) -> None:
    """Raise Wrong unless a schedule ends in noise, begins gently and does not waste its steps."""
    T = len(alpha_bar)
    end = float(alpha_bar[-1])
    true(
        end <= 1e-3,
        f"It does not end in noise: for T = {T}, alpha_bar is {end:.2g} at the end.",
    )
    true(
        alpha_bar[0].sqrt() > 0.9,
        "The very first step destroys more than a tenth of the image; "
        "the network gets no easy task.",
    )
    middle = float(alpha_bar[T // 2].sqrt())
    true(
        middle > 0.1,
        f"Half of the steps are wasted: in the middle only {middle:.3f} of the image is left.",
    )


def way_back(answer, generator):
    """(grid, density, x_1, beta) -> the density of x_0 given x_1, on the grid."""
    grid = torch.linspace(-4, 4, 801, dtype=torch.float64)
    spacing = grid[1] - grid[0]
    left = gaussian.grid_density(grid, -1.0, 0.05)
    right = gaussian.grid_density(grid, 1.2, 0.1)
    density = 0.3 * left + 0.7 * right
    x_1 = float(between(-1.5, 1.5, generator))
    beta = float(between(0.1, 0.8, generator))
    mean = (1 - beta) ** 0.5 * grid  # of x_1, for each x_0 of the grid
    seen = torch.tensor(x_1, dtype=torch.float64)
    likelihood = gaussian.log_density(seen, mean, beta).exp()
    weight = density * likelihood
    slips = {
        "It sums to 1, but a density times the spacing must.": weight / weight.sum(),
        "It is not normalised.": weight,
        "Where is the prior?": likelihood / (likelihood.sum() * spacing),
    }
    posterior = weight / (weight.sum() * spacing)
    same(answer(grid, density, x_1, beta), posterior, "The posterior", slips)


EXERCISES = {
    "02.1": Exercise(
        test=left_of_it,
        praise=(
            "After 69 steps with beta = 0.02 half of the image is left: "
            "halving, like radioactive decay."
        ),
        hints=(
            "Each step multiplies the image by the same number. Which?",
            "By sqrt(1 - beta). Not by 1 - beta: that is what becomes of its variance.",
        ),
    ),
    "02.2": Exercise(
        test=one_step,
        praise="beta is a variance; the dice must be multiplied by its root.",
        hints=(
            "Start from x_prev of variance 1. Which variance does x_t have, in the code as it is?",
            (
                "The variance of a * x is a^2 times that of x. "
                "Here (1 - beta) + beta^2 comes out, and not 1."
            ),
        ),
        forbidden=("q_step", "q_sample", "q_walk"),
    ),
    "02.3": Exercise(
        test=jump,
        praise="A loop of t steps in one line: the whole of diffusion training rests on it.",
        hints=(
            "Eq. 4 has two factors, one for x_0 and one for eps. Both come from alpha_bar at t.",
            (
                "schedule.alpha_bar[t] has shape (B,); an image has (B, C, H, W). "
                "`.view(-1, 1, 1, 1)` makes them fit."
            ),
        ),
        forbidden=("q_sample", "q_walk", "q_step", "signal_and_noise"),
    ),
    "02.4": Exercise(
        test=steps_to_noise,
        praise=(
            "Once noise prevails, each tenfold loss of signal takes the same number of steps: "
            "the time grows with the logarithm of 1 / s."
        ),
        hints=(
            (
                "alpha_bar = (1 - beta)^t, and the signal-to-noise ratio is "
                "alpha_bar / (1 - alpha_bar). Solve for t."
            ),
            (
                "snr < s means alpha_bar < s / (1 + s). "
                "Take logarithms, divide, round up; beware of an exact hit."
            ),
        ),
    ),
    "02.5": Exercise(
        test=own_schedule,
        praise=(
            "It may be a schedule that nobody has tried yet. To train with it, give it a name: "
            "schedule.NAMED['mine'] = lambda T: schedule.from_betas(own_schedule(T)), "
            "and then DiffusionConfig(schedule='mine') in notebook 05."
        ),
        hints=(
            (
                "Any T numbers between 0 and 1 make a schedule; "
                "the question is whether they destroy the image, and not too fast."
            ),
            (
                "Think of alpha_bar first, a curve from nearly 1 to nearly 0. "
                "Then beta_t = 1 - alpha_bar_t / alpha_bar_(t-1)."
            ),
            (
                "For example alpha_bar_t = (1 - t / T)^2, where the last one, which would be 0, "
                "becomes a tenth of the one before; then the betas as above."
            ),
        ),
        forbidden=SCHEDULES,
    ),
    "02.6": Exercise(
        test=way_back,
        praise=(
            "This is what a denoising network learns, for every pixel at once, and without a grid."
        ),
        hints=(
            (
                "Bayes on a grid: posterior(x_0) is proportional to prior(x_0) "
                "times the likelihood of x_1 given x_0."
            ),
            (
                "The likelihood is the Gaussian of Eq. 2: mean sqrt(1 - beta) * x_0, "
                "variance beta, at x_1. Divide by the sum times the grid's spacing."
            ),
        ),
    ),
}
