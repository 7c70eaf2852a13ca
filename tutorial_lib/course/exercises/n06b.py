"""Checks of the exercises of notebook 06b: judging samples, copies, and which bug it was."""

import torch
from torch import Tensor

from tutorial_lib import checkpoint
from tutorial_lib.course.exercises.checks import Exercise, between, returned, same, true


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
        brighter = (known[right].double() * 0.8 + 51).round().to(torch.uint8)
        pictures = {"": known[right], ", made a little darker": darker}
        pictures[", made a little brighter"] = brighter
        for how, picture in pictures.items():
            got = answer(picture.clone(), known.clone())
            returned(got)
            whole = isinstance(got, int) or (isinstance(got, Tensor) and got.numel() == 1)
            true(whole, "It should return one whole number.")
            true(int(got) == right, f"For a known image{how}, it names another one.")


def copier(answer, generator):
    """(x_t, known, counts, alpha_bar_t) -> E[x_0 | x_t], if picture i occurs counts[i] times."""
    known = between(-1, 1, generator, 5, 1, 3, 3)
    alpha_bar = float(between(0.1, 0.6, generator))
    counts = between(1, 9, generator, 5).long()
    counts[0] = counts[1] + 3  # never all the same
    eps = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=generator)
    x_t = alpha_bar**0.5 * known[:4] + (1 - alpha_bar) ** 0.5 * eps
    away = (x_t[:, None] - alpha_bar**0.5 * known).square().flatten(2).sum(2)  # (4, 5)
    unscaled = (x_t[:, None] - known).square().flatten(2).sum(2)

    def mean(logits: Tensor) -> Tensor:
        weights = (logits + counts.log()).softmax(1)
        return torch.einsum("bn,nchw->bchw", weights, known)

    slips = {
        "That is the nearest picture alone; the others count as well.": known[away.argmin(1)],
        "Only the counts matter here, and x_t does not.": mean(torch.zeros_like(away)),
        "Each picture counts once here, however often it occurs.": torch.einsum(
            "bn,nchw->bchw", (-away / (2 * (1 - alpha_bar))).softmax(1), known
        ),
        "x_t lies around sqrt(alpha_bar_t) times a picture, not around the picture.": (
            mean(-unscaled / (2 * (1 - alpha_bar)))
        ),
        "A 2 is missing in the exponent of the Gaussian.": mean(-away / (1 - alpha_bar)),
        "1 - alpha_bar_t is the variance already.": mean(-away / (2 * (1 - alpha_bar) ** 2)),
        "Standard deviation in the place of the variance.": (
            mean(-away / (2 * (1 - alpha_bar) ** 0.5))
        ),
        "Distances are squared in a Gaussian.": mean(-away.sqrt() / (2 * (1 - alpha_bar))),
    }
    right = mean(-away / (2 * (1 - alpha_bar)))
    same(answer(x_t, known, counts, alpha_bar), right, "The mean", slips)


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
