"""Checks of the exercises of notebook 06: sampling."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tutorial_lib import sample
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    returned,
    same,
    some_images,
    some_t,
    true,
)
from tutorial_lib.schedule import NoiseSchedule, from_betas


def leap(answer, generator):
    """(alpha_bar_t, alpha_bar_prev) -> the beta of the one step between them."""
    alpha_bar = between(0.05, 0.4, generator)
    alpha_bar_prev = between(0.5, 0.95, generator)
    alpha = alpha_bar / alpha_bar_prev
    slips = {
        "That is alpha of the step.": alpha,
        "A difference of alpha_bars is no beta.": alpha_bar_prev - alpha_bar,
        "That is the variance of all noise at t.": 1 - alpha_bar,
        "That is the variance of all noise before the step.": 1 - alpha_bar_prev,
        "It is the earlier one that divides.": 1 - alpha_bar_prev / alpha_bar,
        "alpha_bars multiply along the way: which quotient leads from one to the other?": (
            1 - alpha_bar * alpha_bar_prev
        ),
        "beta is a variance: the root of alpha is the factor of the image.": 1 - alpha**0.5,
        "That is its root.": (1 - alpha) ** 0.5,
        "A quotient of variances of noise is no beta.": (1 - alpha_bar) / (1 - alpha_bar_prev),
        "That is beta_tilde of the step, not beta.": (
            (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha)
        ),
        "The right number with the wrong sign.": alpha - 1,
    }
    same(answer(alpha_bar, alpha_bar_prev), 1 - alpha, "beta", slips)


def _slips_of_picture(
    x_t: Tensor, v: Tensor, alpha_bar_t: float, alpha_bar_prev: float
) -> dict[str, Tensor]:
    """What other pictures made of v would give, by what is said of them."""
    x_0 = alpha_bar_t**0.5 * x_t - (1 - alpha_bar_t) ** 0.5 * v
    alpha = alpha_bar_t / alpha_bar_prev
    of_x_t = alpha**0.5 * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    of_x_0 = alpha_bar_prev**0.5 * (1 - alpha) / (1 - alpha_bar_t)
    right = of_x_0 * x_0 + of_x_t * x_t
    return {
        "v is taken for the noise.": _mean_from_eps(x_t, v, alpha_bar_t, alpha_bar_prev),
        "v is taken for the picture.": of_x_0 * v + of_x_t * x_t,
        "v is turned into the picture with a wrong sign.": (
            right + of_x_0 * 2 * (1 - alpha_bar_t) ** 0.5 * v
        ),
        "v is turned into the picture with its two roots exchanged.": (
            of_x_0 * ((1 - alpha_bar_t) ** 0.5 * x_t - alpha_bar_t**0.5 * v) + of_x_t * x_t
        ),
        "v is turned into the picture without roots.": (
            of_x_0 * (alpha_bar_t * x_t - (1 - alpha_bar_t) * v) + of_x_t * x_t
        ),
    }


def _slips_of_leap(
    x_t: Tensor, v: Tensor, alpha_bar_t: float, alpha_bar_prev: float
) -> dict[str, Tensor]:
    """What known mistakes with the step would give, by what is said of them."""
    x_0 = alpha_bar_t**0.5 * x_t - (1 - alpha_bar_t) ** 0.5 * v
    eps = (1 - alpha_bar_t) ** 0.5 * x_t + alpha_bar_t**0.5 * v
    alpha = alpha_bar_t / alpha_bar_prev
    of_x_t = alpha**0.5 * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    of_x_0 = alpha_bar_prev**0.5 * (1 - alpha) / (1 - alpha_bar_t)
    all_off = (x_t - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5
    return {
        "That is the guess of x_0, and not one step.": all_off,
        "That is the deterministic step, which keeps all of the noise.": (
            alpha_bar_prev**0.5 * x_0 + (1 - alpha_bar_prev) ** 0.5 * eps
        ),
        "alpha of the step is alpha_bar_t / alpha_bar_prev.": _mean_from_eps(
            x_t, eps, alpha_bar_t, 1.0
        ),
        "That is the guess of the noise.": eps,
        "The two weights of Eq. 7 have changed places.": of_x_t * x_0 + of_x_0 * x_t,
        "The part of x_t is missing.": of_x_0 * x_0,
        "The part of x_0_hat is missing.": of_x_t * x_t,
        "A root is missing in Eq. 7: x_0_hat has sqrt(alpha_bar_prev).": (
            alpha_bar_prev**0.5 * of_x_0 * x_0 + of_x_t * x_t
        ),
        "A root is missing in Eq. 7: x_t has sqrt(alpha).": (
            of_x_0 * x_0 + alpha**0.5 * of_x_t * x_t
        ),
        "The picture at the earlier place is less shrunk.": (
            alpha_bar_t**0.5 * (1 - alpha) / (1 - alpha_bar_t) * x_0 + of_x_t * x_t
        ),
    }


def leap_mean(answer, generator):
    """(x_t, v, alpha_bar_t, alpha_bar_prev) -> the mean of the step between the two places."""
    x_t, v = some_images(generator)
    alpha_bar_t = float(between(0.05, 0.4, generator))
    alpha_bar_prev = float(between(0.5, 0.95, generator))
    eps = (1 - alpha_bar_t) ** 0.5 * x_t + alpha_bar_t**0.5 * v
    slips = _slips_of_picture(x_t, v, alpha_bar_t, alpha_bar_prev) | _slips_of_leap(
        x_t, v, alpha_bar_t, alpha_bar_prev
    )
    same(
        answer(x_t, v, alpha_bar_t, alpha_bar_prev),
        _mean_from_eps(x_t, eps, alpha_bar_t, alpha_bar_prev),
        "The mean",
        slips,
    )


def _mean_from_eps(x_t: Tensor, eps: Tensor, alpha_bar_t: float, alpha_bar_prev: float) -> Tensor:
    """The mean of a leap, by Eq. 11."""
    alpha = alpha_bar_t / alpha_bar_prev
    return (x_t - (1 - alpha) / (1 - alpha_bar_t) ** 0.5 * eps) / alpha**0.5


def own_sampler(answer, generator):
    """(network, schedule, x_T, generator) -> x_0: a whole sampler.

    network: predicts eps.
    """
    for _ in range(2):  # one case alone a wrong sampler may hit by chance
        _samples_rightly(answer, generator)


def _samples_rightly(answer, generator: torch.Generator) -> None:
    """Raise Wrong unless the sampler draws from the right distribution in a Gaussian case."""
    mean = float(between(-0.5, 0.5, generator))
    std = float(between(0.2, 0.6, generator))
    schedule = from_betas(between(0.05, 0.6, generator, 30))  # a neighbour's beta is another one
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
    seed = int(torch.randint(10_000, (), generator=generator))
    twice = [
        answer(network, schedule, x_T[:8], torch.Generator().manual_seed(seed)) for _ in range(2)
    ]
    true(
        torch.equal(*twice),
        "The same generator gave other pictures: the noise is not drawn from `generator`.",
    )


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
    error = max(std, float(x_0.std())) / math.sqrt(n)  # a wide sampler is told so below
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


def last_line(answer, generator):
    """(mean, variance, noise) -> x_{t-1}, with the slip repaired."""
    mean, noise = some_images(generator)
    variance = between(0.05, 0.5, generator)
    slips = {
        "In the Gaussian case it still ends too narrow.": mean + variance * noise,
        "Now every start ends at the same picture.": mean,
        "Now it ends too wide.": mean + variance**0.25 * noise,
        "Now it ends much too wide.": mean + noise,
        "Now the picture shrinks with the noise.": variance**0.5 * (mean + noise),
        "Now the picture shrinks.": variance**0.5 * mean + noise,
        "Now the picture is blended with the noise.": (
            (1 - variance) ** 0.5 * mean + variance**0.5 * noise
        ),
        "Now it ends narrower still.": mean + variance**2 * noise,
        "Noise has no sign, but a width: in the Gaussian case it still ends too narrow.": (
            mean - variance * noise
        ),
        "A logarithm of a variance is something else.": mean + (variance / 2).exp() * noise,
    }
    same(answer(mean, variance, noise), mean + variance**0.5 * noise, "x_{t-1}", slips)


def in_batches(answer, generator):
    """(sampler, x_T, size) -> the pictures of all starts, in their order."""
    for count, size in ((7, 3), (6, 2), (int(some_t(generator, 1)), 5)):
        x_T = torch.randn(count, 1, 4, 4, generator=generator, dtype=torch.float64)
        asked: list[int] = []
        got = answer(_counting(asked, size), x_T.clone(), size)
        returned(got)
        true(isinstance(got, Tensor), "It should return one tensor, all pictures together.")
        true(sum(asked) == count, f"The sampler was given {sum(asked)} of {count} starts.")
        enough = -(-count // size)
        true(
            len(asked) == enough,
            f"{count} starts, {size} at a time, are {enough} batches; it made {len(asked)}.",
        )
        right = x_T.sin()
        slips = {
            "The starts themselves came back.": x_T,
            "Their order changed.": right.flip(0),
            "Their order changed: that of the batches.": torch.cat(right.split(size)[::-1]),
            "Their order changed: neighbours belong to one batch.": (
                torch.cat([right[i::enough] for i in range(enough)])
            ),
        }
        lengths = isinstance(got, Tensor) and got.shape[1:] == x_T.shape[1:]
        true(
            not lengths or len(got) == count,
            f"{count} pictures should come back, got {len(got) if lengths else 0}.",
        )
        same(got, right, "What comes back", slips)


def _counting(asked: list[int], size: int) -> Callable[[Tensor], Tensor]:
    """A sampler for `in_batches`; it appends the size of each batch to `asked`."""

    def sampler(x_T: Tensor) -> Tensor:
        true(isinstance(x_T, Tensor) and x_T.ndim == 4, "The sampler takes x_T, (B, C, H, W).")
        true(
            1 <= len(x_T) <= size,
            f"A batch has 1 to {size} starts here; the sampler got {len(x_T)}.",
        )
        asked.append(len(x_T))
        return x_T.sin()

    return sampler


def _slips_of_fresh(
    x: Tensor,
    x_0_hat: Tensor,
    eps_hat: Tensor,
    alpha_bar_t: float,
    alpha_bar_prev: float,
    sigma: float,
    z: Tensor,
) -> dict[str, Tensor]:
    """What known mistakes would give, by what is said of them."""
    root = (1 - alpha_bar_prev - sigma**2) ** 0.5  # standard deviation of the old noise

    def step(old: float = root, picture: float = alpha_bar_prev**0.5, new: float = sigma) -> Tensor:
        return picture * x_0_hat + old * eps_hat + new * z

    all_old, of_t = (1 - alpha_bar_prev) ** 0.5, (1 - alpha_bar_t - sigma**2) ** 0.5
    minus, plus = 1 - alpha_bar_prev - sigma, 1 - alpha_bar_prev + sigma**2
    return {
        "The old noise is kept in full, so there is too much.": step(all_old),
        "Standard deviations do not add up; variances do.": step(all_old - sigma),
        "No fresh noise.": step(all_old, new=0),
        "sigma is a standard deviation.": step(new=sigma**2),
        "The old noise has no root: that is its variance.": step(root**2),
        "sigma is subtracted from a variance; it is a standard deviation.": step(minus**0.5),
        "The variances are added; the rest is left for the old noise.": step(plus**0.5),
        "The picture is still shrunk as at alpha_bar_t.": step(picture=alpha_bar_t**0.5),
        "The picture is not shrunk at all.": step(picture=1),
        "A root is missing in front of x_0_hat.": step(picture=alpha_bar_prev),
        "x is not the old noise: the picture is still in it.": step(0) + root * x,
        "The old noise is missing.": step(0),
        "All noise is fresh.": step(0, new=all_old),
        "Its noise is still that of alpha_bar_t.": step(of_t),
    }


def partly_fresh(answer, generator):
    """(x, x_0_hat, alpha_bar_t, alpha_bar_prev, sigma, z) -> x at alpha_bar_prev."""
    x, z = some_images(generator)
    x_0_hat, _ = some_images(generator)
    alpha_bar_t = float(between(0.1, 0.4, generator))
    alpha_bar_prev = float(between(0.5, 0.69, generator))  # more noise is left than sigma
    sigma = float(between(0.1, 0.3, generator))
    eps_hat = (x - alpha_bar_t**0.5 * x_0_hat) / (1 - alpha_bar_t) ** 0.5
    signal = alpha_bar_prev**0.5 * x_0_hat
    slips = _slips_of_fresh(x, x_0_hat, eps_hat, alpha_bar_t, alpha_bar_prev, sigma, z)
    for given in (sigma, 0.0):
        kept = (1 - alpha_bar_prev - given**2) ** 0.5
        right = signal + kept * eps_hat + given * z
        said = slips if given else {}
        same(
            answer(x, x_0_hat, alpha_bar_t, alpha_bar_prev, given, z),
            right,
            f"x for sigma = {given:.2g}",
            said,
        )


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
        test=leap_mean,
        praise=(
            "From v to x_0_hat, and Eq. 7 for a leap: the sampler can take any step with any "
            "prediction."
        ),
        hints=(
            (
                "Solve x_t and v for x_0, as section 6.6 does: "
                "sqrt(alpha_bar_t) * x_t - sqrt(1 - alpha_bar_t) * v."
            ),
            "In Eq. 7, alpha of the leap is alpha_bar_t / alpha_bar_prev, and beta is 1 - alpha.",
            (
                "mean = sqrt(alpha_bar_prev) * beta / (1 - alpha_bar_t) * x_0_hat "
                "+ sqrt(alpha) * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t."
            ),
        ),
        forbidden=("mu_from_eps", "q_posterior"),
    ),
    "06.3": Exercise(
        test=own_sampler,
        praise=(
            "Your sampler is right: for data whose best network is a formula, "
            "it draws from the exact distribution."
        ),
        hints=(
            (
                "Algorithm 2: from t = T down to 1, the mean of Eq. 11 plus sigma_t times "
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
        test=last_line,
        praise=(
            "A lost root: its pictures are pretty, only with too little texture, "
            "and few eyes would have caught it."
        ),
        hints=(
            "Compare the last term with line 4 of Algorithm 2, symbol by symbol.",
            "z is multiplied by sigma_t, a standard deviation. What is `variance`?",
        ),
    ),
    "06.5": Exercise(
        test=in_batches,
        praise="Memory holds one batch at a time, and no picture depends on its size.",
        hints=(
            "`x_T.split(size)` cuts a tensor into pieces; the last may be smaller.",
            "torch.cat puts a list of pictures, (B, C, H, W) each, together again.",
        ),
    ),
    "06.6": Exercise(
        test=partly_fresh,
        praise=(
            "One line, a whole family: sigma = 0 is DDIM, and with the root of beta_tilde it is "
            "Algorithm 2."
        ),
        hints=(
            (
                "eps_hat = (x - sqrt(alpha_bar_t) * x_0_hat) / sqrt(1 - alpha_bar_t) is the noise "
                "that goes with the guess."
            ),
            (
                "Two independent noises: the variance of the old one and sigma^2 have to add up "
                "to 1 - alpha_bar_prev."
            ),
        ),
        forbidden=("ddim", "ddpm"),
    ),
}
