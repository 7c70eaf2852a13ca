"""Checks of the exercises of notebook 06: sampling."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tutorial_lib import diffusion, sample
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
from tutorial_lib.schedule import NoiseSchedule, same_t


def leap(answer, generator):
    """(alpha_bar_t, alpha_bar_prev) -> the beta of the one step between them."""
    alpha_bar = between(0.05, 0.4, generator)
    alpha_bar_prev = between(0.5, 0.95, generator)
    alpha = alpha_bar / alpha_bar_prev
    slips = {
        "That is alpha of the step.": alpha,
        "A difference of alpha_bars is no beta.": alpha_bar_prev - alpha_bar,
    }
    same(answer(alpha_bar, alpha_bar_prev), 1 - alpha, "beta", slips)


def reverse_mean(answer, generator):
    """(schedule, x_t, eps_hat, t) -> the mean of the reverse step, t a whole number."""
    schedule = some_schedule(generator)
    x_t, eps_hat = some_images(generator)
    for t in (1, 2, int(some_t(generator, 1, 6))):
        beta, alpha, alpha_bar = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
        root = (1 - alpha_bar).sqrt()
        slips = {
            "Divided by alpha, not by its root.": (x_t - beta / root * eps_hat) / alpha,
            "The root in front of eps_hat is missing.": (
                (x_t - beta / (1 - alpha_bar) * eps_hat) / alpha.sqrt()
            ),
            "The noise is added.": (x_t + beta / root * eps_hat) / alpha.sqrt(),
        }
        if t > 1:  # at t = 1 x_0_hat is right
            x_0_hat = (x_t - root * eps_hat) / alpha_bar.sqrt()
            slips["All of the noise is taken off at once: that is x_0_hat."] = x_0_hat
        right = diffusion.mu_from_eps(schedule, eps_hat, x_t, same_t(t, 3))
        same(answer(schedule, x_t, eps_hat, t), right, f"The mean at t = {t}", slips)


def own_sampler(answer, generator):
    """(network, schedule, x_T, generator) -> x_0: a whole sampler.

    network: predicts eps.
    """
    mean = float(between(-0.5, 0.5, generator))
    std = float(between(0.2, 0.6, generator))
    schedule = some_schedule(generator, 30)
    asked: list[int] = []
    network = _perfect_network(schedule, mean, std, asked)
    x_T = sample.start(4000, (1, 2, 2), generator=generator).double()
    x_0 = answer(network, schedule, x_T, generator)
    returned(x_0)
    true(isinstance(x_0, Tensor), "It should return the images x_0, a tensor.")
    true(
        x_0.shape == x_T.shape,
        f"x_0 should have the shape of x_T, {tuple(x_T.shape)}, got {tuple(x_0.shape)}.",
    )
    true(asked[:1] == [schedule.T], "The first question should be about t = T.")
    true(asked == sorted(asked, reverse=True), "The steps should go down from T to 1.")
    true(asked[-1] == 1, "The last question should be about t = 1.")
    true(x_0.isfinite().all(), "Some pixels are no finite numbers.")
    _has_the_law(x_0, *_ancestral(schedule, mean, std))


def _perfect_network(
    schedule: NoiseSchedule, mean: float, std: float, asked: list[int]
) -> Callable[[Tensor, Tensor], Tensor]:
    """The best network for data N(mean, std^2), E[eps | x_t].  It appends each t to `asked`."""

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        whole = isinstance(t, Tensor) and not t.is_floating_point() and t.shape == x_t.shape[:1]
        true(
            whole,
            f"The network takes one whole t for each image, a tensor of shape ({len(x_t)},).",
        )
        true(
            int(t.min()) >= 1 and int(t.max()) <= schedule.T,
            f"The network was asked about t = {int(t.min())}; steps are 1 to T = {schedule.T}.",
        )
        asked.append(int(t[0]))
        alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1).to(x_t)  # (B, 1, 1, 1)
        variance = alpha_bar * std**2 + 1 - alpha_bar  # of x_t
        return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * mean) / variance

    return network


def _ancestral(schedule: NoiseSchedule, mean: float, std: float) -> tuple[float, float]:
    """Mean and standard deviation that Algorithm 2 reaches for data N(mean, std^2), exactly.

    The variance of its steps is beta_tilde.  The perfect network's eps_hat is affine in x_t, hence
    so is each step's mean: slope x_t + shift.
    """
    reached_mean, reached_variance = 0.0, 1.0
    for t in range(schedule.T, 0, -1):
        beta, alpha = float(schedule.beta[t]), float(schedule.alpha[t])
        alpha_bar = float(schedule.alpha_bar[t])
        share = beta / (alpha_bar * std**2 + 1 - alpha_bar)
        slope = (1 - share) / alpha**0.5
        shift = share * alpha_bar**0.5 * mean / alpha**0.5
        reached_mean = slope * reached_mean + shift
        reached_variance = slope**2 * reached_variance + float(schedule.beta_tilde[t])
    return reached_mean, reached_variance**0.5


def _has_the_law(x_0: Tensor, mean: float, std: float) -> None:
    """Raise Wrong unless the pixels have this mean and standard deviation, up to chance."""
    n = x_0.numel()
    error = std / math.sqrt(n)
    gap = abs(float(x_0.mean()) - mean)
    true(
        gap < 6 * error,
        f"The pixels' mean is off by {gap:.3f}, where chance explains {error:.3f}.",
    )
    ratio = float(x_0.std()) / std
    said = "too wide: is there noise at the last step, or beta_t in place of beta_tilde_t?"
    if ratio < 1:
        said = "too narrow: is noise missing, or its root, or is something clipped?"
    true(
        abs(ratio - 1) < 6 / math.sqrt(2 * n),
        f"The pixels' standard deviation is {ratio:.3f} times that of a right sampler, {said}",
    )


def too_smooth(answer, generator):
    """(mean, variance, noise) -> x_{t-1}, with the slip mended."""
    mean, noise = some_images(generator)
    variance = between(0.05, 0.5, generator)
    slips = {
        "The noise is still multiplied by a variance.": mean + variance * noise,
        "No noise at all: that is the average of everything.": mean,
    }
    same(answer(mean, variance, noise), mean + variance**0.5 * noise, "x_{t-1}", slips)


def frechet(answer, generator):
    """(a, b), clouds of numbers, (N,) each -> their (squared) Frechet distance.

    Standard deviations are those of `.std()`.
    """
    a = torch.randn(200, generator=generator, dtype=torch.float64)
    b = 1 + 2 * torch.randn(300, generator=generator, dtype=torch.float64)
    means = (a.mean() - b.mean()) ** 2
    stds = (a.std() - b.std()) ** 2
    variances = (a.var() - b.var()) ** 2
    slips = {
        "Only the means are compared.": means,
        "Its root; by custom the square is reported.": (means + stds).sqrt(),
        "Variances are compared; standard deviations are asked for.": means + variances,
    }
    same(answer(a, b), means + stds, "The distance", slips)


def ddim_step(answer, generator):
    """(x, eps_hat, alpha_bar_t, alpha_bar_prev) -> x at alpha_bar_prev, by one step of DDIM."""
    x, eps_hat = some_images(generator)
    alpha_bar = between(0.1, 0.4, generator)
    alpha_bar_prev = between(0.5, 0.95, generator)
    x_0_hat = (x - (1 - alpha_bar) ** 0.5 * eps_hat) / alpha_bar**0.5
    signal = alpha_bar_prev**0.5 * x_0_hat
    right = signal + (1 - alpha_bar_prev) ** 0.5 * eps_hat
    still_noisy = signal + (1 - alpha_bar) ** 0.5 * eps_hat
    slips = {
        "That is x_0_hat: noise it again, to `alpha_bar_prev`.": x_0_hat,
        "Its noise is still that of `alpha_bar_t`, and it has left that place.": still_noisy,
    }
    same(answer(x, eps_hat, alpha_bar, alpha_bar_prev), right, "x", slips)


EXERCISES = {
    "06.1": Exercise(
        test=leap,
        praise=(
            "Only alpha_bar at the places we visit matters; the betas follow. "
            "Ten small steps in one: less than ten times as large, 1 - (1 - beta)^10."
        ),
        hints=(
            (
                "Going from `alpha_bar_prev` to `alpha_bar_t` in one step multiplies the image by "
                "sqrt(alpha_bar_t / alpha_bar_prev)."
            ),
            "And sqrt(1 - beta) is that factor.",
        ),
    ),
    "06.2": Exercise(
        test=reverse_mean,
        praise=(
            "Eq. 11: take off a little of the noise that the network sees, "
            "and stretch what is left."
        ),
        hints=(
            "`schedule.beta[t]` for a whole t is one number, so nothing need be reshaped.",
            (
                "alpha_t and alpha_bar_t are two tables, schedule.alpha and schedule.alpha_bar: "
                "which root goes where?"
            ),
        ),
        forbidden=("mu_from_eps", "q_posterior"),
    ),
    "06.3": Exercise(
        test=own_sampler,
        praise=(
            "Your sampler is right: for data whose best network is a formula, "
            "it draws from the exact law."
        ),
        hints=(
            (
                "Algorithm 2: from t = T down to 1, the mean of exercise 06.2 plus sigma_t times "
                "fresh noise; none at t = 1."
            ),
            (
                "sigma_t^2 = beta_tilde_t; x_T comes in as an argument, "
                "noise from torch.randn(x.shape, generator=generator)."
            ),
            (
                "for t in range(schedule.T, 0, -1): "
                "eps_hat = network(x, torch.full((len(x),), t)); x = mean(...); "
                "if t > 1: x = x + sigma * noise. At the end return x."
            ),
        ),
        forbidden=("ddpm", "ddim", "dpm_solver", "heun"),
    ),
    "06.4": Exercise(
        test=too_smooth,
        praise=(
            "It drew pretty pictures, only with too little texture: no eye would have caught it."
        ),
        hints=(
            "Compare the noise that is added with Algorithm 2, symbol by symbol.",
            "z is multiplied by sigma_t, a standard deviation. What is `variance`?",
        ),
    ),
    "06.5": Exercise(
        test=frechet,
        praise=(
            "Two numbers for a cloud, its mean and its spread, and the distance in each. "
            "In 128 dimensions, matrices."
        ),
        hints=(
            (
                "In one dimension the formula has numbers for matrices: "
                "(m_a - m_b)^2 + s_a^2 + s_b^2 - 2 * sqrt(s_a^2 * s_b^2)."
            ),
            "That is (m_a - m_b)^2 + (s_a - s_b)^2.",
        ),
        forbidden=("frechet_distance",),
    ),
    "06.6": Exercise(
        test=ddim_step,
        praise=(
            "No dice: the same noise now always gives the same picture, and few steps are enough."
        ),
        hints=(
            (
                "First the estimate of x_0 from eps_hat (Eq. 15). Then Eq. 4 once more, with that "
                "estimate, the same eps_hat, and alpha_bar of the place to go to."
            ),
            (
                "x_0_hat = (x - sqrt(1 - alpha_bar_t) * eps_hat) / sqrt(alpha_bar_t); then "
                "sqrt(alpha_bar_prev) * x_0_hat + sqrt(1 - alpha_bar_prev) * eps_hat."
            ),
        ),
        forbidden=("ddim", "x_0_from", "denoiser"),
    ),
}
