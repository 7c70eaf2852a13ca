"""Checks of the exercises of notebook 09: score and Langevin."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    pair,
    returned,
    same,
    some_images,
    true,
)

SOUND = "That is the sound one, and it has no slip in it."


def bell_score(answer, generator):
    """(x_t, mean, variance, alpha_bar) -> the score of the noised bell."""
    x_t, _ = some_images(generator)
    mean = float(between(0.2, 0.8, generator))
    V = float(between(0.1, 0.5, generator))
    ab = float(between(0.3, 0.8, generator))
    variance = ab * V + 1 - ab
    apart = x_t - ab**0.5 * mean
    slips = {
        "It points away from the mean.": apart / variance,
        "The mean has shrunk, too: by the root of alpha_bar.": -(x_t - mean) / variance,
        "That is the score of the clean data.": -(x_t - mean) / V,
        "The data have a variance of their own, beside that of the noise.": -apart / (1 - ab),
        "The data's variance has shrunk, by alpha_bar.": -apart / (V + 1 - ab),
        "It divides by the standard deviation, not by the variance.": -apart / variance**0.5,
    }
    same(answer(x_t, mean, V, ab), -apart / variance, "The score", slips)


def other_names(answer, generator):
    """(score, x_t, alpha_bar) -> eps_hat and x_0_hat."""
    score, x_t = some_images(generator)
    ab = float(between(0.2, 0.8, generator))
    got_eps, got_x_0 = pair(answer(score, x_t, ab), "eps_hat and x_0_hat")
    eps_hat = -((1 - ab) ** 0.5) * score
    x_0_hat = (x_t + (1 - ab) * score) / ab**0.5
    slips = {
        "The score points away from the noise: a sign.": -eps_hat,
        "The score is divided where it should be multiplied.": -score / (1 - ab) ** 0.5,
        "A root is lost.": -(1 - ab) * score,
        "The two came in the other order.": x_0_hat,
    }
    same(got_eps, eps_hat, "eps_hat", slips)
    slips = {
        "It went downhill.": (x_t - (1 - ab) * score) / ab**0.5,
        "It is not scaled back: divide by the root of alpha_bar.": x_t + (1 - ab) * score,
        "A root too much: the variance of the noise stands before the score.": (
            (x_t + (1 - ab) ** 0.5 * score) / ab**0.5
        ),
        "It divides by alpha_bar, not by its root.": (x_t + (1 - ab) * score) / ab,
    }
    same(got_x_0, x_0_hat, "x_0_hat", slips)


def fitted(answer, generator):
    """x -> k and m of the line -k (x - m) with the least implicit loss."""
    centre = float(between(-2, 2, generator))
    std = float(between(0.5, 2, generator))
    x = centre + std * torch.randn(200, generator=generator, dtype=torch.float64)
    got_k, got_m = pair(answer(x), "k and m")
    m, variance = x.mean(), x.var(correction=0)
    slips = {
        "The two came in the other order.": m,
        "That is the variance itself; how steep is the score of a wide bell?": variance,
        "A score divides by the variance, not by the standard deviation.": 1 / variance**0.5,
        "The score of a bell is steeper or less steep than that, but falls: k is positive.": (
            -1 / variance
        ),
        "Near: the loss averages over all N, not over N - 1.": 1 / x.var(),
        "A half is lost in the loss: the trace is whole and the square is halved.": 0.5 / variance,
        "The square is not halved: look at the loss again.": 2 / variance,
        "That is measured from 0; m moves, too.": 1 / x.square().mean(),
    }
    same(got_k, 1 / variance, "k", slips)
    same(got_m, m, "m", {"That is the median.": x.median(), "m is a place: a sign.": -m})


def own_loss(answer, generator):
    """(network, x_0, sigma, eps) -> the denoising loss of each image, unweighted, (B,)."""
    x_0, eps = some_images(generator)
    sigma = between(0.2, 3, generator, 3)
    slope = float(between(0.2, 0.8, generator))

    def network(x: Tensor, level: Tensor) -> Tensor:
        whole = isinstance(level, Tensor) and level.shape == x.shape[:1]
        true(whole, f"The network takes one sigma for each image, a tensor ({len(x)},).")
        return slope * x.sin() / level.view(-1, 1, 1, 1)

    each = sigma.view(-1, 1, 1, 1)

    def half(x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1) / 2

    guess = network(x_0 + each * eps, sigma)
    right = half(guess + eps / each)
    slips = {
        "The half is missing.": 2 * right,
        "It is the mean over the pixels, not the sum.": right / 16,
        "That is the mean, without the half.": right / 8,
        "That is weighted with sigma^2, as in section 9.2; here nothing is.": half(
            each * guess + eps
        ),
        "The target is multiplied by sigma; look at its denominator.": half(guess + each * eps),
        "The target is the noise over sigma.": half(guess + eps),
        "The score points against the noise: a sign.": half(guess - eps / each),
        "The network was shown the clean images.": half(network(x_0, sigma) + eps / each),
        "The noise was added without its sigma.": half(network(x_0 + eps, sigma) + eps / each),
    }
    same(answer(network, x_0, sigma, eps), right, "The loss", slips)


def own_walk(answer, generator):
    """(score, x, sigmas, steps, eta, generator) -> the last x of an annealed walk."""
    for steps in (1, 3):
        _walks_rightly(answer, generator, steps)


def _walks_rightly(answer, generator: torch.Generator, steps: int) -> None:
    """Raise Wrong unless the walk draws from the right distribution in a Gaussian case."""
    m = float(between(-1, 1, generator))
    V = float(between(0.1, 0.4, generator))
    eta = float(between(0.3, 0.8, generator))
    sigmas = 4.0 * 0.55 ** torch.arange(6, dtype=torch.float64)
    asked: list[float] = []

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        whole = isinstance(sigma, Tensor) and sigma.shape == x.shape[:1]
        true(whole, f"The score takes one sigma for each item, a tensor of shape ({len(x)},).")
        asked.append(float(sigma[0]))
        return (m - x) / (V + sigma.view(-1, *[1] * (x.ndim - 1)) ** 2)

    x = 4 * torch.randn(4000, 1, 2, 2, generator=generator, dtype=torch.float64)
    got = answer(score, x.clone(), sigmas, steps, eta, generator)
    returned(got)
    true(isinstance(got, Tensor), "It should return the last x, a tensor.")
    true(
        got.shape == x.shape, f"x should keep its shape, {tuple(x.shape)}; got {tuple(got.shape)}."
    )
    true(got.isfinite().all(), "Some numbers are not finite.")
    wanted = [sigma for sigma in sigmas.tolist() for _ in range(steps)]
    true(len(asked) >= len(wanted), f"The score was asked {len(asked)} times, not {len(wanted)}.")
    true(
        asked == sorted(asked, reverse=True), "The levels should fall, from the first to the last."
    )
    true(
        asked == wanted,
        f"With {steps} steps at each of 6 levels the score is asked {len(wanted)} times.",
    )
    mean, variance = _recursion(sigmas, steps, m, V, lambda s: eta * s**2)
    _has(got, mean, variance)


def _recursion(
    sigmas: Tensor, steps: int, m: float, V: float, size: Callable[[float], float]
) -> tuple[float, float]:
    """Mean and variance after the walk, for data N(m, V) and a start N(0, 16)."""
    mean, variance = 0.0, 16.0
    for sigma in sigmas.tolist():
        h = size(sigma)
        keep = 1 - h / 2 / (V + sigma**2)
        for _ in range(steps):
            mean = m + keep * (mean - m)
            variance = keep**2 * variance + h
    return mean, variance


def _has(x: Tensor, mean: float, variance: float) -> None:
    """Raise Wrong unless the numbers have this mean and variance, up to chance."""
    n = x.numel()
    ratio = float(x.var()) / variance
    error = 6 * math.sqrt(2 / n)
    said = "too wide: is the step h_i = eta sigma_i^2, and its noise the root of that?"
    if ratio < 1:
        said = "too narrow: is noise missing, or is the climb more than half of h?"
    true(
        abs(ratio - 1) < error,
        f"The variance at the end is {ratio:.3f} times that of a right walk, {said}",
    )
    gap = abs(float(x.mean()) - mean)
    true(
        gap < 6 * math.sqrt(variance / n),
        f"The mean at the end is off by {gap:.3f}: are all levels visited, uphill?",
    )


def _step(x: Tensor, score: Tensor, h: float, z: Tensor) -> Tensor:
    return x + h * score + h**0.5 * z


def suspect_step(answer, generator):
    """(x, score, h, z) -> x after the suspect's step."""
    x, score, z = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    h = float(between(0.05, 0.5, generator))
    slips = {
        SOUND: x + h / 2 * score + h**0.5 * z,
        "With noise of that size the cloud would be narrower still.": x + h / 2 * score + h * z,
        "Then nothing would be left but a point.": x + h * score,
        "That would climb less, and end too wide.": x + h / 4 * score + h**0.5 * z,
        "Less noise would do it, too; but what is it with the climb here?": (
            x + h / 2 * score + (h / 2) ** 0.5 * z
        ),
        "Downhill it would run away.": x - h * score + h**0.5 * z,
    }
    same(answer(x, score, h, z), _step(x, score, h, z), "The step", slips)


def from_velocity(answer, generator):
    """(x, u, t) -> x_0_hat, eps_hat and v."""
    x, u = some_images(generator)
    t = float(between(0.15, 0.85, generator))
    got = answer(x, u, t)
    returned(got)
    three = isinstance(got, (tuple, list, Tensor)) and len(got) == 3
    true(three, "It should return three things: x_0_hat, eps_hat and v.")
    x_0, eps = x - t * u, x + (1 - t) * u
    length = math.hypot(1 - t, t)
    slips = {
        "It went the wrong way along the line.": x + t * u,
        "The time to go is t, not 1 - t.": x - (1 - t) * u,
        "u is taken for the noise.": (x - t * u) / (1 - t),
    }
    same(got[0], x_0, "x_0_hat", slips)
    slips = {
        "It went the wrong way along the line.": x - (1 - t) * u,
        "The time to go is 1 - t, not t.": x + t * u,
    }
    same(got[1], eps, "eps_hat", slips)
    v = ((1 - t) * eps - t * x_0) / length
    slips = {
        "That is u. The straight path is no circle.": u,
        "Rescale: alpha_bar and 1 - alpha_bar add up to 1.": v * length,
        "Signal belongs to the noise here.": (t * eps - (1 - t) * x_0) / length,
        "That is x, rescaled: v turns by a right angle.": ((1 - t) * x_0 + t * eps) / length,
        "A sign: v points to the noise.": -v,
    }
    same(got[2], v, "v", slips)


def sde_step(answer, generator):
    """(x, x_0_hat, a, b, a_slope, b_slope, dt, z) -> x at t - dt."""
    x, z = some_images(generator)
    x_0_hat, _ = some_images(generator)
    a, b = float(between(0.4, 0.9, generator)), float(between(0.4, 0.9, generator))
    of_a, of_b = -float(between(0.2, 0.8, generator)), float(between(0.3, 0.9, generator))
    dt = float(between(0.01, 0.2, generator))
    f = of_a / a
    g_square = 2 * b * of_b - 2 * f * b**2
    s = (a * x_0_hat - x) / b**2
    climb, noise = dt * g_square * s, (g_square * dt) ** 0.5 * z
    back = x - f * x * dt
    slips = {
        "That goes on towards noise; back, dt counts down.": x + f * x * dt - climb + noise,
        "Half of the climb is missing; that much is the ODE's.": back + climb / 2 + noise,
        "It goes downhill.": back - climb + noise,
        "No fresh noise.": back + climb,
        "The noise has the variance g^2 dt.": back + climb + dt * g_square**0.5 * z,
        "The root of g^2 is lost in the noise.": back + climb + g_square * dt**0.5 * z,
        "f x is left out.": x + climb + noise,
        "g^2 is not only 2 b b': the shrink makes room, too.": (
            back + dt * 2 * b * of_b * s + (2 * b * of_b * dt) ** 0.5 * z
        ),
        "The score divides by b^2.": back + climb * b + noise,
        "That is the step of the ODE.": x - dt * (f * x - g_square / 2 * s),
    }
    got = answer(x, x_0_hat, a, b, of_a, of_b, dt, z)
    same(got, back + climb + noise, "x at t - dt", slips)


def _euler(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, S: int) -> Tensor:
    for k in range(S, 0, -1):
        x = x - network(x, torch.full((len(x),), (k - 1) / S)) / S
    return x


def suspect_flow(answer, generator):
    """(network, x, S) -> x_0 after the suspect's S steps."""
    slope = float(between(0.3, 0.9, generator))

    def network(x: Tensor, t: Tensor) -> Tensor:
        whole = isinstance(t, Tensor) and t.shape == x.shape[:1]
        true(whole, f"The network takes one t for each point, a tensor of shape ({len(x)},).")
        return slope * x * (1 + t.to(x)[:, None] ** 2) + t.to(x)[:, None].sin()

    def walked(times: list[float], length: float) -> Tensor:
        y = x
        for t in times:
            y = y - length * network(y, torch.full((len(y),), t))
        return y

    for S in (3, 5):
        x = torch.randn(4, 2, generator=generator, dtype=torch.float64)
        times = [k / S for k in range(S, 0, -1)]
        slips = {
            SOUND: walked(times, 1 / S),
            "Half-way would be better than the sound one, not worse.": (
                walked([t - 0.5 / S for t in times], 1 / S)
            ),
            "Then the time would run the other way, and fifty steps would not help.": (
                walked([1 - t for t in times], 1 / S)
            ),
            "Its steps are as long as they should be.": walked(times, 1 / (S + 1)),
            "It makes all of its steps.": walked(times[1:], 1 / S),
        }
        got = answer(network, x.clone(), S)
        same(got, _euler(network, x, S), f"x_0 after {S} steps", slips)


SUSPECTS: dict[str, Callable[..., Any]] = {"09.6": _step, "09.9": _euler}

EXERCISES = {
    "09.1": Exercise(
        test=bell_score,
        praise="An arrow to the shrunken mean, the longer the farther away, the shorter the wider.",
        hints=(
            "x_t is a sum of two independent Gaussians. Which mean and variance has it?",
            "Its variance is alpha_bar V + 1 - alpha_bar; the score is (mean - x_t) / variance.",
        ),
    ),
    "09.2": Exercise(
        test=other_names,
        praise="Three names for one piece of knowledge: any of them gives the other two.",
        hints=(
            "Section 9.3 has the score from eps_hat; solve for eps_hat.",
            "Then x_0_hat as always, (x_t - sqrt(1 - alpha_bar) eps_hat) / sqrt(alpha_bar).",
        ),
        forbidden=("score_from", "x_0_from_score", "x_0_from", "eps_from"),
    ),
    "09.3": Exercise(
        test=fitted,
        praise="Mean and one over variance, from a loss that has never seen the true score.",
        hints=(
            "s' = -k everywhere, so the loss is -k + k^2 / 2 times the mean of (x - m)^2.",
            "First the best m for any k; then set the derivative with respect to k to 0.",
        ),
    ),
    "09.4": Exercise(
        test=own_loss,
        praise=(
            "With s = -eps_hat / sigma it is half of Algorithm 1's squared error, over sigma^2: "
            "without a weight the smallest levels outvote all others."
        ),
        hints=(
            "sigma.view(-1, 1, 1, 1) multiplies each image with its own number.",
            "((network(x_0 + sigma * eps, sigma) + eps / sigma) ** 2).flatten(1).sum(1) / 2.",
        ),
        forbidden=("denoising_loss",),
    ),
    "09.5": Exercise(
        test=own_walk,
        praise="Algorithm 1 of Song & Ermon 2019, and your walk has its exact mean and variance.",
        hints=(
            "Two loops: over the levels, and over the steps at each.",
            "The score wants one sigma for each item: torch.full((len(x),), level).",
            "x = x + h / 2 * score(x, sigma) + h ** 0.5 * noise, with h = eta * level ** 2.",
        ),
        forbidden=("annealed", "langevin"),
    ),
    "09.6": Exercise(
        test=suspect_step,
        praise=("A lost half. The walk settles, at the square of the density: half the variance."),
        hints=(
            "The cloud is half as wide (in variance). Is it the climb or the noise?",
            "Call the suspect with z = 0, then with score = 0.",
        ),
        forbidden=("SUSPECTS", "_step"),
    ),
    "09.7": Exercise(
        test=from_velocity,
        praise="A flow network answers every question that a diffusion network answers.",
        hints=(
            "Walk along the line with the velocity u: back for the time t, on for the time 1 - t.",
            "sqrt(alpha_bar) is (1 - t) over sqrt((1 - t)^2 + t^2).",
        ),
        forbidden=("ends_of",),
    ),
    "09.8": Exercise(
        test=sde_step,
        praise="One line for VP, VE and every other path.",
        hints=(
            "f = a' / a, g^2 = 2 b b' - 2 f b^2, and s = (a x_0_hat - x) / b^2.",
            "Back in time: x - (f x - g^2 s) dt, and the noise g sqrt(dt) z.",
        ),
        forbidden=("reverse_sde", "velocity"),
    ),
    "09.9": Exercise(
        test=suspect_flow,
        praise=(
            "It asks about the time at which the step ends, and stands where it begins. The error "
            "is of the size of a step, so many steps hide it."
        ),
        hints=(
            "Give it a network that answers with the time it was asked about.",
            "In which order does the sound walk ask for the times 1, 0.8, ..., 0.2?",
        ),
        forbidden=("SUSPECTS", "_euler"),
    ),
}
