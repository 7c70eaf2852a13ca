"""Checks of the exercises of notebook 02: forward noising."""

import torch

from tutorial_lib import diffusion, gaussian, schedule
from tutorial_lib.course.exercises.checks import (
    between,
    exercise,
    same,
    some_images,
    some_schedule,
    some_t,
    true,
)


@exercise(
    "02.1",
    "After 69 steps with beta = 0.02 half of the image is left: halving, like radioactive decay.",
    "Each step multiplies the image by the same number. Which?",
    "By sqrt(1 - beta). Not by 1 - beta: that is what becomes of its variance.",
)
def left_of_it(answer, z):
    """(beta, t) -> the factor in front of x_0 after t steps of the same beta."""
    for beta, t in ((0.02, 69), (float(between(0.001, 0.3, z)), 7)):
        same(
            answer(beta, t),
            (1 - beta) ** (t / 2),
            f"What is left for beta = {beta:.3f} after {t} steps",
            {"That is alpha_bar; the factor is its root.": (1 - beta) ** t},
        )


@exercise(
    "02.2",
    "beta is a variance; the dice must be multiplied by its root.",
    "Start from x_prev of variance 1. Which variance does x_t have, in the code as it is?",
    "The variance of a * x is a^2 times that of x. Here (1 - beta) + beta^2 comes out, and not 1.",
    forbidden=(diffusion.q_step, diffusion.q_sample, diffusion.q_walk),
)
def one_step(answer, z):
    """(x_prev, beta, eps) -> x_t, with the slip mended."""
    x_prev, eps = some_images(z)
    beta = between(0.05, 0.5, z)
    right = (1 - beta) ** 0.5 * x_prev + beta**0.5 * eps
    same(
        answer(x_prev, beta, eps),
        right,
        "x_t",
        {
            "Its variance shrinks with every step. Look at what multiplies eps.": (1 - beta) ** 0.5
            * x_prev
            + beta * eps,
            "Now the image is multiplied by the wrong number.": (1 - beta) * x_prev
            + beta**0.5 * eps,
        },
    )


@exercise(
    "02.3",
    "A loop of t steps in one line: the whole of diffusion training rests on it.",
    "Eq. 4 has two factors, one for x_0 and one for eps. Both come from alpha_bar at t.",
    "tables.alpha_bar[t] has shape (B,); an image has (B, C, H, W). `.view(-1, 1, 1, 1)` makes them fit.",
    forbidden=(
        diffusion.q_sample,
        diffusion.q_walk,
        diffusion.q_step,
        schedule.NoiseSchedule.signal_and_noise,
    ),
)
def jump(answer, z):
    """(tables, x_0, t, eps) -> x_t."""
    tables, (x_0, eps), t = some_schedule(z), some_images(z), some_t(z)
    kept, before = (tables.alpha_bar[i].view(-1, 1, 1, 1) for i in (t, t - 1))
    same(
        answer(tables, x_0, t, eps),
        diffusion.q_sample(tables, x_0, t, eps),
        "x_t",
        {
            "A square root is missing.": kept * x_0 + (1 - kept) * eps,
            "The image lacks its root.": kept * x_0 + (1 - kept).sqrt() * eps,
            "The noise lacks its root.": kept.sqrt() * x_0 + (1 - kept) * eps,
            "It is one step behind: tables have T + 1 entries, alpha_bar[t] belongs to t.": before.sqrt()
            * x_0
            + (1 - before).sqrt() * eps,
        },
    )


@exercise(
    "02.4",
    "Once noise prevails, each tenfold loss of signal takes the same number of steps: the time grows with the "
    "logarithm of 1 / s.",
    "alpha_bar = (1 - beta)^t, and the signal-to-noise ratio is alpha_bar / (1 - alpha_bar). Solve for t.",
    "snr < s means alpha_bar < s / (1 + s). Take logarithms, divide, round up; beware of an exact hit.",
)
def steps_to_noise(answer, z):
    """(beta, s) -> the first t at which the signal-to-noise ratio is below s, for a constant beta."""
    for beta, s in (
        (0.01, 1.0),
        (float(between(0.005, 0.2, z)), float(between(0.001, 0.5, z))),
        (0.5, 1.0),
    ):
        t, kept = 1, 1 - beta
        while kept / (1 - kept) >= s:
            t, kept = t + 1, kept * (1 - beta)
        same(
            answer(beta, s),
            t,
            f"The first step for beta = {beta:.3f}, s = {s:.3f}",
            {
                "One step too early: the ratio must already be below s.": t - 1,
                "One step too late.": t + 1,
            },
        )


@exercise(
    "02.5",
    "It may be a schedule that nobody has tried yet. To train with it, give it a name: schedule.NAMED['mine'] = "
    "lambda T: schedule.from_betas(own_schedule(T)), and then TrainConfig(schedule='mine') in notebook 05.",
    "Any T numbers between 0 and 1 make a schedule; the question is whether they destroy the image, and not too fast.",
    "Think of alpha_bar first, a curve from nearly 1 to nearly 0. Then beta_t = 1 - alpha_bar_t / alpha_bar_(t-1).",
    "For example alpha_bar_t = (1 - t / T)^2, where the last one, which would be 0, becomes a tenth of the one before; "
    "then the betas as above.",
    forbidden=(*schedule.NAMED.values(), schedule.named),
)
def own_schedule(answer, z):
    """(T) -> the betas of a schedule of one's own, T numbers."""
    for T in (100, 1000):
        beta = answer(T)
        true(beta is not None, "Nothing came back. Is a `return` missing?")
        true(
            not isinstance(beta, schedule.NoiseSchedule),
            "It should return the betas alone, not a whole schedule.",
        )
        beta = torch.as_tensor(beta, dtype=torch.float64)
        true(
            beta.shape == (T,),
            f"For T = {T} it should return {T} numbers, beta_1 to beta_T; got shape {tuple(beta.shape)}.",
        )
        true(((beta > 0) & (beta < 1)).all(), "Each beta must lie between 0 and 1, both excluded.")
        kept = (1 - beta).cumprod(0)
        true(
            kept[-1] <= 1e-3,
            f"It does not end in noise: for T = {T}, alpha_bar is {float(kept[-1]):.2g} at the end.",
        )
        true(
            kept[0].sqrt() > 0.9,
            "The very first step destroys more than a tenth of the image; the network gets no easy task.",
        )
        middle = kept[T // 2].sqrt()
        true(
            middle > 0.1,
            f"Half of the steps are wasted: in the middle only {float(middle):.3f} of the image is left.",
        )


@exercise(
    "02.6",
    "This is what a denoising network learns, for every pixel at once, and without a grid.",
    "Bayes on a grid: posterior(x_0) is proportional to prior(x_0) times the likelihood of x_1 given x_0.",
    "The likelihood is the Gaussian of Eq. 2: mean sqrt(1 - beta) * x_0, variance beta, at x_1. Divide by the sum "
    "times the grid's spacing.",
)
def way_back(answer, z):
    """(grid, density, x_1, beta) -> the density of x_0 given x_1, on the grid."""
    grid = torch.linspace(-4, 4, 801, dtype=torch.float64)
    density = 0.3 * gaussian.grid_density(grid, -1.0, 0.05) + 0.7 * gaussian.grid_density(
        grid, 1.2, 0.1
    )
    x_1, beta = float(between(-1.5, 1.5, z)), float(between(0.1, 0.8, z))
    weight = (
        density
        * gaussian.log_density(torch.tensor(x_1).double(), (1 - beta) ** 0.5 * grid, beta).exp()
    )
    spacing = grid[1] - grid[0]
    flat = gaussian.log_density(torch.tensor(x_1).double(), (1 - beta) ** 0.5 * grid, beta).exp()
    same(
        answer(grid, density, x_1, beta),
        weight / (weight.sum() * spacing),
        "The posterior",
        {
            "It sums to 1, but a density times the spacing must.": weight / weight.sum(),
            "It is not normalised.": weight,
            "Where is the prior?": flat / (flat.sum() * spacing),
        },
    )
