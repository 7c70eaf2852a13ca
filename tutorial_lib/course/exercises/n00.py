"""Checks of the exercises of notebook 00: the whole idea."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import (
    Exercise,
    Wrong,
    between,
    returned,
    same,
    some_images,
    true,
)
from tutorial_lib.schedule import NoiseSchedule, from_betas

CLOSE = 0.04  # to a weight that a fit of noisy steps finds: about five standard errors, or more


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


def whole_walk(answer, generator):
    """(network, beta, x, generator) -> points: Algorithm 2, looked at step by step."""
    low, high = between(0.1, 0.2, generator, 3), between(0.5, 0.7, generator, 3)
    beta = torch.stack([low, high], dim=1).flatten()  # uneven: a table read one step off shows
    beta = torch.cat([beta.new_zeros(1), beta])
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    x_T = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    x_0 = answer(_some_network(generator, seen), beta.clone(), x_T.clone(), generator)
    returned(x_0)
    true(
        isinstance(x_0, Tensor) and x_0.shape == x_T.shape,
        "It should return the points at t = 0, a tensor like x.",
    )
    T = len(beta) - 1
    true(
        list(seen) == list(range(T, 0, -1)),
        f"The network should be asked at t = {T}, {T - 1}, ..., 1, and was asked at {[*seen]}.",
    )
    true(torch.allclose(seen[T][0], x_T, atol=1e-5), "The first question should be about x itself.")
    places = [seen[t][0] for t in range(T, 0, -1)] + [x_0.detach().double()]
    true(all(x.isfinite().all() for x in places), "Some coordinates are no finite numbers.")
    _steps_as_algorithm_2(places, [seen[t][1] for t in range(T, 0, -1)], beta)


def _some_network(
    generator: torch.Generator, seen: dict[int, tuple[Tensor, Tensor]]
) -> Callable[[Tensor, Tensor], Tensor]:
    """In the place of a network: waves of x and t.  seen: gets x_t and eps_hat of each t."""
    pace = float(between(1.5, 2.5, generator))

    def network(x: Tensor, t: Tensor) -> Tensor:
        true(
            isinstance(t, Tensor) and t.shape == (len(x), 1) and bool((t == t[0]).all()),
            f"The network takes t as a tensor of shape ({len(x)}, 1), the same for all points.",
        )
        eps_hat = torch.sin(pace * x + t)
        seen[int(t[0])] = x.detach().double().clone(), eps_hat.detach().double().clone()
        return eps_hat

    return network


def _steps_as_algorithm_2(places: list[Tensor], eps_hats: list[Tensor], beta: Tensor) -> None:
    """Raise Wrong unless each step has the mean of Eq. 11 and fresh noise of variance beta_t.

    places: x_T, ..., x_0, each (N, 2).  eps_hats: the guesses at x_T, ..., x_1.
    beta: (T + 1,).
    """
    of_x, of_eps = _weights(beta)["right"]
    noises: list[Tensor] = []
    fits, beside = [], []
    for k, (x, eps_hat) in enumerate(zip(places, eps_hats, strict=False)):
        t, after = len(eps_hats) - k, places[k + 1]
        fits.append(_contained(after, [x, eps_hat]))
        beside.append(_contained(after, [x, eps_hat, *noises])[:2])
        noises.append(after - of_x[t] * x - of_eps[t] * eps_hat)
    _means_as(torch.stack(fits).flip(0), torch.stack(beside).flip(0), noises, beta)
    for k, noise in enumerate(noises[:-1]):
        _noise_of(noise, float(beta[len(noises) - k]))
    last = noises[-1]
    if last.abs().max() >= 1e-3:
        noisy = abs(float(last.std()) / float(beta[1]) ** 0.5 - 1) < 0.05
        raise Wrong(
            "The last step adds noise, and nothing later removes it."
            if noisy
            else "The last step is not right. Compare its parts with the text, one by one."
        )


def _contained(after: Tensor, parts: list[Tensor]) -> Tensor:
    """How much of each part is in `after`, by least squares; all are (N, 2).

    Parts may be 0, or multiples of each other.
    """
    centred = [(part - part.mean(dim=0)).flatten() for part in (*parts, after)]
    table = torch.stack(centred, dim=1)  # (2 N, parts + 1)
    fit = torch.linalg.lstsq(table[:, :-1], table[:, -1:], rcond=1e-6, driver="gelsd")
    return fit.solution[:, 0]


def _means_as(found: Tensor, beside: Tensor, noises: list[Tensor], beta: Tensor) -> None:
    """Raise Wrong unless each x_{t-1} contains as much of x_t and of eps_hat as Eq. 11 says.

    found: (T, 2), how much it contains.  beside: the same beside the noises of the steps before;
    this is right whenever the mean is, even where the noise of a step depends on that of another.
    noises: what else there is, from t = T to t = 1.
    """
    weights = {said: torch.stack(both, dim=1)[1:] for said, both in _weights(beta).items()}
    far = {said: (found - both).abs().amax(dim=1) for said, both in weights.items()}  # (T,) each
    right = far.pop("right")
    nearest = min(far, key=lambda said: float(far[said].max()))
    before_noise = "A step is not right, before its noise is added."
    if right.max() > CLOSE and far[nearest].max() < CLOSE:
        raise Wrong(f"{before_noise} {nearest}")
    if right.max() < CLOSE or (beside - weights["right"]).abs().max() < CLOSE:
        for one, next_one in pairwise(noises[:-1]):
            alike = abs(_correlation(one, next_one))
            true(alike < 0.99, "The same noise comes at each step, not fresh.")
            true(alike < 6 / one.numel() ** 0.5, "The noise of a step depends on that of another.")
    true(right.max() < CLOSE, f"{before_noise} Compare its parts with the text, one by one.")


def _weights(beta: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """How much of x_t and of eps_hat is in x_{t-1}, (T + 1,) each: "right", and by known slips."""
    alpha = 1 - beta
    alpha_bar = alpha.cumprod(0)
    grow, root = 1 / alpha.sqrt(), (1 - alpha_bar).sqrt()
    share, leap = beta / root, 1 / alpha_bar.sqrt()
    return {
        "right": (grow, -grow * share),
        "The shrinking is not undone.": (grow / grow, -share),
        "The shrinking is undone by 1 - beta_t, which is no root.": (grow**2, -(grow**2) * share),
        "The shrinking of all steps is undone, not that of one.": (leap, -leap * share),
        "It shrinks once more, where the shrinking should be undone.": (1 / grow, -share / grow),
        "Only x is divided by the root of 1 - beta_t. Look at your brackets.": (grow, -share),
        "The guessed noise is added.": (grow, grow * share),
        "All of the guessed noise is taken away, not a part.": (grow, -grow),
        "A root below beta_t is missing.": (grow, -grow * beta / root**2),
        "The share of the noise is too large: beta_t has no root there.": (
            grow,
            -grow * beta.sqrt() / root,
        ),
        "The share of the guessed noise lacks its denominator.": (grow, -grow * beta),
        "Below beta_t stands what is left of the data.": (grow, -grow * beta * leap),
        "Below beta_t stands the noise of this step, not that of all steps so far.": (
            grow,
            -grow * beta.sqrt(),
        ),
        "That goes to the guess of x_0 in one leap.": (leap, -leap * root),
        "beta is read one step off.": (grow, -grow * beta.roll(1) / root),
        "alpha is read one step off.": (grow.roll(1), -grow.roll(1) * share),
    }


def _noise_of(noise: Tensor, beta: float) -> None:
    """Raise Wrong unless these are (N, 2) independent numbers of mean 0 and variance beta."""
    n = noise.numel()
    spread = float(noise.std(dim=0).mean())
    said = {
        0.0: "The fresh noise is missing.",
        beta: "The fresh noise has standard deviation beta_t, not variance beta_t.",
        1.0: "The fresh noise is not scaled.",
        (beta / (1 - beta)) ** 0.5: "The fresh noise is stretched as well; it comes last.",
    }
    wanted = beta**0.5
    if abs(spread / wanted - 1) > 6 / (2 * n) ** 0.5:
        alike = float(noise[0].abs().max()) > 1e-3 and spread < 1e-6
        near = [words for size, words in said.items() if abs(spread - size) < 0.05 * wanted]
        raise Wrong(
            "All points get the same noise: each needs its own."
            if alike
            else (near or ["The fresh noise of a step has not the variance beta_t."])[0]
        )
    true(
        abs(float(noise.mean())) < 6 * wanted / n**0.5,
        "The fresh noise has not the mean 0.",
    )
    true(
        abs(_correlation(noise[:, 0], noise[:, 1])) < 6 / len(noise) ** 0.5,
        "The two coordinates of a point move together: each needs noise of its own.",
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    """Of two tensors of points or numbers, (N, ...) each; 0 where one of them hardly varies."""
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    spreads = float(a.std() * b.std())
    return float((a * b).mean()) / spreads if spreads > 1e-9 else 0.0


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
    x_T = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
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
        test=whole_walk,
        praise=(
            "That is all of Algorithm 2. In fifty such steps noise has become a spiral; with "
            "another network, in a thousand, a garment."
        ),
        hints=(
            (
                "Before the loop make the tables alpha and alpha_bar, as in section 0.2. In the "
                "loop: ask, take the share away, divide by the root, add the noise, in this order."
            ),
            (
                "A variance of beta_t means that the noise is multiplied by the root of beta_t. "
                "Draw it anew at each step, but not at t = 1."
            ),
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
