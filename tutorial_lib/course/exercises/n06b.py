"""Checks of the exercises of notebook 06b: judging samples, copies, and which bug it was."""

from typing import Any

import torch
from torch import Tensor

from tutorial_lib import checkpoint
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    numbers,
    returned,
    same,
    true,
)


def frechet(answer, generator):
    """(a, b), sets of numbers, (N,) each -> their (squared) Frechet distance.

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
        "Only the standard deviations are compared.": stds,
        "Only the variances are compared.": variances,
        "Differences are squared.": means.sqrt() + stds.sqrt(),
        "The difference of the means is squared, too.": means.sqrt() + stds,
        "The difference of the standard deviations is squared, too.": means + stds.sqrt(),
        "The difference of the standard deviations, not their sum.": (
            means + (a.std() + b.std()) ** 2
        ),
        "The third term of the formula is missing.": means + a.var() + b.var(),
        "The 2 of the third term is missing.": means + a.var() + b.var() - a.std() * b.std(),
        "A root in the third term is missing.": means + a.var() + b.var() - 2 * a.var() * b.var(),
        "The two parts are subtracted; both count.": means - stds,
        "Their mean; the sum is asked for.": (means + stds) / 2,
        "`.std()` divides by N - 1, by default.": (
            means + (a.std(correction=0) - b.std(correction=0)) ** 2
        ),
    }
    same(answer(a, b), means + stds, "The distance", slips)


def nearest_image(answer, generator):
    """(picture, known), uint8 -> the number of the nearest."""
    for count in (20, 50):
        known = between(0, 256, generator, count, 1, 6, 6).to(torch.uint8)
        order = torch.randperm(count, generator=generator)
        right, bright, dark = order[:3].tolist()
        known[bright] = (1.4 * known[right].double() + 40).clamp(max=255).to(torch.uint8)
        known[dark] = (0.3 * known[right].double()).to(torch.uint8)
        darker = (known[right].double() * 0.8).to(torch.uint8)
        brighter = (known[right].double() * 0.9 + 25).round().to(torch.uint8)
        pictures = {"": known[right], ", made a little darker": darker}
        pictures[", made a little brighter"] = brighter
        for how, picture in pictures.items():
            _names(right, answer(picture.clone(), known.clone()), how)
        # black next to white, as it is where bytes wrap around
        light = torch.rand(known[right].shape, generator=generator) < 0.5
        known[right] = torch.where(light, 235, 20)
        known[bright] = torch.where(light, 5, 250)
        picture = torch.where(light, 250, 5).to(torch.uint8)
        _names(right, answer(picture, known.clone()), ", with a little more contrast")


def _names(right: int, got: Any, how: str) -> None:
    """Raise Wrong unless the number of the right image came back."""
    returned(got)
    got = numbers(got, "The number")
    true(
        got.numel() == 1 and bool((got == got.round()).all()), "It should return one whole number."
    )
    true(int(got.reshape(())) == right, f"For a known image{how}, it names another one.")


def copier(answer, generator):
    """(x_t, known, counts, alpha_bar_t) -> E[x_0 | x_t], if picture i occurs counts[i] times."""
    known = between(-1, 1, generator, 5, 1, 3, 3)
    alpha_bar = float(between(0.1, 0.6, generator))
    counts = between(1, 9, generator, 5).long()
    counts[0] = counts[1] + 3  # never all the same
    eps = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=generator)
    x_t = alpha_bar**0.5 * known[:4] + (1 - alpha_bar) ** 0.5 * eps
    away = (x_t[:, None] - alpha_bar**0.5 * known).square().flatten(2).sum(2)  # (4, 5)
    slips = _slips_of_density(x_t, known, counts, alpha_bar)
    slips |= _slips_of_counts(-away / (2 * (1 - alpha_bar)), known, counts)
    right = _weighted(known, (-away / (2 * (1 - alpha_bar)) + counts.log()).softmax(1))
    slips["That is the mean picture as x_t would show it."] = alpha_bar**0.5 * right
    same(answer(x_t, known, counts, alpha_bar), right, "The mean", slips)


def _weighted(known: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("bn,nchw->bchw", weights, known)


def _slips_of_density(
    x_t: Tensor, known: Tensor, counts: Tensor, alpha_bar: float
) -> dict[str, Tensor]:
    """What other densities would give, by what is said of them."""
    away = (x_t[:, None] - alpha_bar**0.5 * known).square().flatten(2).sum(2)  # (B, N)
    unscaled = (x_t[:, None] - known).square().flatten(2).sum(2)
    noise = 1 - alpha_bar
    logs = {
        "Only the counts matter here, and x_t does not.": torch.zeros_like(away),
        "x_t lies around sqrt(alpha_bar_t) times a picture, not around the picture.": (
            -unscaled / (2 * noise)
        ),
        "A 2 is missing in the exponent of the Gaussian.": -away / noise,
        "1 - alpha_bar_t is the variance already.": -away / (2 * noise**2),
        "Standard deviation in the place of the variance.": -away / (2 * noise**0.5),
        "Distances are squared in a Gaussian.": -away.sqrt() / (2 * noise),
        "The nearest should count most, not least.": away / (2 * noise),
        "The squares of a picture's pixels add up; their mean is less.": (
            -away / x_t[0].numel() / (2 * noise)
        ),
        "The variance of x_t around its picture is 1 - alpha_bar_t.": -away / 2,
        "The variance is 1 - alpha_bar_t, not alpha_bar_t.": -away / (2 * alpha_bar),
        "x_t is divided by its root, and then its noise is larger, too.": (
            -away / alpha_bar / (2 * noise)
        ),
    }
    return {said: _weighted(known, (log + counts.log()).softmax(1)) for said, log in logs.items()}


def _slips_of_counts(logs: Tensor, known: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """What other weights would give, by what is said of them; logs: of the density, (B, N)."""
    weights = {
        "Each picture counts once here, however often it occurs.": logs.softmax(1),
        "A count is a factor of the density, not of its logarithm.": (logs * counts).softmax(1),
        "A count is a factor of the density, not a term in its logarithm.": (
            (logs + counts).softmax(1)
        ),
        "What occurs often should count more, not less.": (logs - counts.log()).softmax(1),
        "The weights of each x_t should sum to 1, counts included.": logs.softmax(1) * counts,
        "Over the pictures the weights should sum to 1, not over the batch.": (
            (logs + counts.log()).softmax(0)
        ),
    }
    slips = {said: _weighted(known, weight) for said, weight in weights.items()}
    nearest = known[logs.argmax(1)]
    return slips | {"That is the nearest picture alone; the others count as well.": nearest}


def diagnosis(answer, generator):
    """() -> the number of the bug of each letter of the gallery."""
    right = checkpoint.load("gallery")[1]["answers"]
    got = answer()
    returned(got)
    true(isinstance(got, dict), 'It should return a dictionary, such as {"A": 1, "B": 2}.')
    missing = [letter for letter in right if letter not in got]
    true(not missing, f"These letters are missing: {', '.join(missing)}.")
    hits = sum(got[letter] == right[letter] for letter in right)
    true(hits == len(right), f"{hits} of {len(right)} are right.")


EXERCISES = {
    "06b.1": Exercise(
        test=frechet,
        praise=(
            "Two numbers for a set, its mean and its spread, and the distance in each. "
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
    "06b.2": Exercise(
        test=nearest_image,
        praise=(
            "Bytes wrap around: 10 - 11 is 255 in uint8. A search like that finds copies where "
            "there are none, and misses real ones."
        ),
        hints=(
            "Try it on a picture of one pixel: how far is 10 from 11?",
            "In which type is the difference computed, and which numbers does that type hold?",
        ),
        forbidden=("nearest",),
    ),
    "06b.3": Exercise(
        test=copier,
        praise=(
            "The minimum of the training loss in five lines. A picture that occurs twice is copied "
            "twice as often: remove duplicates from your data."
        ),
        hints=(
            (
                "log of the density of x_t, given a picture: minus the squared distance of x_t "
                "from sqrt(alpha_bar_t) times the picture, over 2 (1 - alpha_bar_t)."
            ),
            (
                "`softmax(dim=1)` of logarithms, (B, N), makes weights that sum to 1. "
                "A factor in front of a density is a term in its logarithm."
            ),
            'torch.einsum("bn,nchw->bchw", weights, known) is the weighted average.',
        ),
    ),
    "06b.4": Exercise(
        test=diagnosis,
        praise="All ten. You will know them again when they are your own.",
        hints=(
            "Begin with what is the same in all six pictures of a row.",
            (
                "Noise: too little makes surfaces smooth, too much makes speckles; noise at the "
                "last step alone is fine grain, the same everywhere, on the black background too."
            ),
            "Then the background: is it black, grey, or full of white specks?",
        ),
    ),
}
