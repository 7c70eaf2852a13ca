"""Checks of the exercises of notebook 06: sampling."""

import math

import torch
from torch import Tensor

from tutorial_lib import diffusion, evaluate, sample, schedule
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
    "06.1",
    "Only alpha_bar at the places we visit matters; the betas follow. Ten small steps in one: less than ten times as "
    "large, 1 - (1 - beta)^10.",
    "Going from `before` to `now` in one step multiplies the image by sqrt(now / before).",
    "And sqrt(1 - beta) is that factor.",
)
def leap(answer, z):
    """(now, before) -> the beta of one step between two values of alpha_bar, before > now."""
    now, before = between(0.05, 0.4, z), between(0.5, 0.95, z)
    same(
        answer(now, before),
        1 - now / before,
        "beta",
        {
            "That is alpha of the step.": now / before,
            "A difference of alpha_bars is no beta.": before - now,
        },
    )


@exercise(
    "06.2",
    "Eq. 11: take off a little of the noise that the network sees, and stretch what is left.",
    "`tables.beta[t]` for a whole t is one number, so nothing need be reshaped.",
    "alpha_t and alpha_bar_t are two tables, tables.alpha and tables.alpha_bar: which root goes where?",
    forbidden=(diffusion.mu_from_eps, diffusion.q_posterior),
)
def reverse_mean(answer, z):
    """(tables, x_t, eps_hat, t) -> the mean of the reverse step, t a whole number."""
    tables, (x_t, eps) = some_schedule(z), some_images(z)
    for t in (1, 2, int(some_t(z, 1, 6))):
        beta, alpha, kept = tables.beta[t], tables.alpha[t], tables.alpha_bar[t]
        slips = {
            "Divided by alpha, not by its root.": (x_t - beta / (1 - kept).sqrt() * eps) / alpha,
            "All of the noise is taken off at once: that is x_0_hat.": (
                x_t - (1 - kept).sqrt() * eps
            )
            / kept.sqrt(),
            "The root in front of eps_hat is missing.": (x_t - beta / (1 - kept) * eps)
            / alpha.sqrt(),
            "The noise is added.": (x_t + beta / (1 - kept).sqrt() * eps) / alpha.sqrt(),
        }
        if t == 1:  # here x_0_hat is right
            del slips["All of the noise is taken off at once: that is x_0_hat."]
        right = diffusion.mu_from_eps(tables, eps, x_t, schedule.same_t(t, 3))
        same(answer(tables, x_t, eps, t), right, f"The mean at t = {t}", slips)


@exercise(
    "06.3",
    "Your sampler is right: for data whose best network is a formula, it draws from the exact law.",
    "Algorithm 2: from t = T down to 1, the mean of exercise 06.2 plus sigma_t times fresh noise; none at t = 1.",
    "sigma_t^2 = beta_tilde_t; x_T comes in as an argument, noise from torch.randn(x.shape, generator=generator).",
    "for t in range(tables.T, 0, -1): eps_hat = network(x, torch.full((len(x),), t)); x = mean(...); "
    "if t > 1: x = x + sigma * noise. At the end return x.",
    forbidden=(sample.ddpm, sample.ddim, sample.dpm_solver, sample.heun),
)
def own_sampler(answer, z):
    """(network, tables, x_T, generator) -> x_0: a whole sampler, for a network that predicts eps."""
    m, s = float(between(-0.5, 0.5, z)), float(between(0.2, 0.6, z))
    tables, asked = some_schedule(z, 30), []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        """The best one for data N(m, s^2): E[eps | x_t]."""
        whole = isinstance(t, Tensor) and not t.is_floating_point() and t.shape == x_t.shape[:1]
        true(
            whole, f"The network takes one whole t for each image, a tensor of shape ({len(x_t)},)."
        )
        true(
            int(t.min()) >= 1 and int(t.max()) <= 30,
            f"The network was asked about t = {int(t.min())}; steps are 1 to T = 30.",
        )
        asked.append(int(t[0]))
        kept = tables.alpha_bar[t].view(-1, 1, 1, 1).to(x_t)
        return (1 - kept).sqrt() * (x_t - kept.sqrt() * m) / (kept * s**2 + 1 - kept)

    x_T = sample.start(4000, (1, 2, 2), z).double()
    x_0 = answer(network, tables, x_T, z)
    true(
        isinstance(x_0, Tensor),
        "It should return the images x_0, a tensor."
        if x_0 is not None
        else "Nothing came back. Is a `return` missing?",
    )
    true(
        x_0.shape == x_T.shape,
        f"x_0 should have the shape of x_T, {tuple(x_T.shape)}, got {tuple(x_0.shape)}.",
    )
    true(asked[:1] == [30], "The first question should be about t = T.")
    true(asked == sorted(asked, reverse=True), "The steps should go down from T to 1.")
    true(asked[-1] == 1, "The last question should be about t = 1.")
    true(x_0.isfinite().all(), "Some pixels are no finite numbers.")
    exact_mean, exact_std = _ancestral(tables, m, s)
    mean, std = float(x_0.mean()), float(x_0.std())
    error = exact_std / math.sqrt(x_0.numel())
    true(
        abs(mean - exact_mean) < 6 * error,
        f"The pixels' mean is off by {abs(mean - exact_mean):.3f}, where chance explains {error:.3f}.",
    )
    ratio = std / exact_std
    said = (
        "too narrow: is noise missing, or its root, or is something clipped?"
        if ratio < 1
        else "too wide: is there noise at the last step, or beta_t in place of beta_tilde_t?"
    )
    true(
        abs(ratio - 1) < 6 / math.sqrt(2 * x_0.numel()),
        f"The pixels' standard deviation is {ratio:.3f} times that of a right sampler, {said}",
    )


def _ancestral(tables: schedule.NoiseSchedule, m: float, s: float) -> tuple[float, float]:
    """Mean and standard deviation that Algorithm 2 with beta_tilde reaches for data N(m, s^2),
    exactly.
    """
    mean, variance = 0.0, 1.0
    for t in range(tables.T, 0, -1):
        kept, alpha, beta = (float(x[t]) for x in (tables.alpha_bar, tables.alpha, tables.beta))
        pull = (1 - kept) ** 0.5 / (kept * s**2 + 1 - kept)  # of eps_hat on x_t
        slope = (1 - beta / (1 - kept) ** 0.5 * pull) / alpha**0.5
        mean = slope * mean + beta / (1 - kept) ** 0.5 * pull * kept**0.5 * m / alpha**0.5
        variance = slope**2 * variance + float(tables.beta_tilde[t])
    return mean, variance**0.5


@exercise(
    "06.4",
    "It drew pretty pictures, only with too little texture: no eye would have caught it.",
    "Compare the noise that is added with Algorithm 2, symbol by symbol.",
    "z is multiplied by sigma_t, a standard deviation. What is `variance`?",
)
def too_smooth(answer, z):
    """(mean, variance, noise) -> x_{t-1}, with the slip mended."""
    (mean, noise), v = some_images(z), between(0.05, 0.5, z)
    same(
        answer(mean, v, noise),
        mean + v**0.5 * noise,
        "x_{t-1}",
        {
            "The noise is still multiplied by a variance.": mean + v * noise,
            "No noise at all: that is the average of everything.": mean,
        },
    )


@exercise(
    "06.5",
    "Two numbers for a cloud, its mean and its spread, and the distance in each. In 128 dimensions, matrices.",
    "In one dimension the formula has numbers for matrices: (m_a - m_b)^2 + s_a^2 + s_b^2 - 2 * sqrt(s_a^2 * s_b^2).",
    "That is (m_a - m_b)^2 + (s_a - s_b)^2.",
    forbidden=(evaluate.frechet_distance,),
)
def frechet(answer, z):
    """(a, b), clouds of numbers, (N,) each -> their (squared) Frechet distance; standard deviations
    as `.std()`.
    """
    a, b = (
        torch.randn(200, generator=z, dtype=torch.float64),
        1 + 2 * torch.randn(300, generator=z, dtype=torch.float64),
    )
    means, stds = (a.mean() - b.mean()) ** 2, (a.std() - b.std()) ** 2
    same(
        answer(a, b),
        means + stds,
        "The distance",
        {
            "Only the means are compared.": means,
            "Its root; by custom the square is reported.": (means + stds).sqrt(),
            "Variances are compared; standard deviations are asked for.": means
            + (a.var() - b.var()) ** 2,
        },
    )


@exercise(
    "06.6",
    "No dice: the same noise now always gives the same picture, and few steps are enough.",
    "First the estimate of x_0 from eps_hat (Eq. 15). Then Eq. 4 once more, with that estimate, the same eps_hat, and "
    "alpha_bar of the place to go to.",
    "x_0_hat = (x - sqrt(1 - now) * eps_hat) / sqrt(now); then sqrt(before) * x_0_hat + sqrt(1 - before) * eps_hat.",
    forbidden=(sample.ddim, diffusion.x_0_from),
)
def ddim_step(answer, z):
    """(x, eps_hat, now, before) -> x at `before`: one step of DDIM between two values of alpha_bar."""
    (x, eps), now, before = some_images(z), between(0.1, 0.4, z), between(0.5, 0.95, z)
    x_0_hat = (x - (1 - now) ** 0.5 * eps) / now**0.5
    right = before**0.5 * x_0_hat + (1 - before) ** 0.5 * eps
    same(
        answer(x, eps, now, before),
        right,
        "x",
        {
            "That is x_0_hat: noise it again, to `before`.": x_0_hat,
            "Its noise is still that of `now`; the picture is at `before` by then.": before**0.5
            * x_0_hat
            + (1 - now) ** 0.5 * eps,
        },
    )
