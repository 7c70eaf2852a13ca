"""Checks of the exercises of the errata lab, notebook 19: which bug made this picture?

Each exercise has a suspect, a line of the library with one slip in it.  Readers call it, look at
what it draws, and write the line as it must stand there.  A check gives both the same fresh inputs
and compares what comes back.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from tutorial_lib import diffusion
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    hidden,
    same,
    some_chain,
    some_distribution,
    some_images,
    some_network,
    some_schedule,
    some_t,
)
from tutorial_lib.schedule import NoiseSchedule, same_t

SOUND = "That is the library's line, and it has no slip in it."


def suspect(number: str) -> Callable[..., Any]:
    """The line with a bug that exercise `number` is about, as a function; "19.1", for example.

    Raises ValueError for an exercise that has none.
    """
    return hidden(SUSPECTS, number)


def _an_hour(P: Tensor, p: Tensor) -> Tensor:
    return P @ p


def an_hour(answer, generator):
    """(P, p), p a row of probabilities -> what the suspect makes of p in one step."""
    P, p = some_chain(generator), some_distribution(generator)
    slips = {
        SOUND: p @ P,
        "The suspect's row need not sum to 1. Yours does.": _an_hour(P, p) / (P @ p).sum(),
        "That moves nothing.": p,
        "The suspect takes one step, and not two.": P @ P @ p,
        "That is the inverse of a step.": p @ P.inverse(),
    }
    same(answer(P, p), _an_hour(P, p), "The row after an hour", slips)


def _noised(schedule: NoiseSchedule, x_0: Tensor, t: int, eps: Tensor) -> Tensor:
    return schedule.alpha[t].sqrt() * x_0 + (1 - schedule.alpha[t]).sqrt() * eps


def noised(answer, generator):
    """(schedule, x_0, t, eps), t a whole number -> the suspect's x_t."""
    schedule = some_schedule(generator)
    x_0, eps = some_images(generator)
    t = int(some_t(generator, 1, 19)) + 1  # before 3 two of the slips are one
    beta, alpha_bar = schedule.beta[t], schedule.alpha_bar[t]
    slips = {
        SOUND: diffusion.q_sample(schedule, x_0, same_t(t, 3), eps),
        "With lost roots the boot would be grey half way.": (
            alpha_bar * x_0 + (1 - alpha_bar) * eps
        ),
        "Near, but the suspect shrinks the picture a little. Call it with eps = 0.": (
            x_0 + beta.sqrt() * eps
        ),
        "Its noise is larger: beta is a variance.": (1 - beta).sqrt() * x_0 + beta * eps,
        "That shrinks the picture as it should. The suspect does not.": (
            alpha_bar.sqrt() * x_0 + beta.sqrt() * eps
        ),
        "That adds the noise as it should. The suspect does not.": (
            (1 - beta).sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps
        ),
        "That would be a boot with a little less noise: the table of a step earlier.": (
            schedule.alpha[t - 1].sqrt() * x_0 + schedule.beta[t - 1].sqrt() * eps
        ),
        "That dissolves, and too late: a neighbour's alpha_bar.": (
            diffusion.q_sample(schedule, x_0, same_t(t - 1, 3), eps)
        ),
        "Its two factors have changed places.": beta.sqrt() * x_0 + (1 - beta).sqrt() * eps,
    }
    same(answer(schedule, x_0, t, eps), _noised(schedule, x_0, t, eps), f"x_t at t = {t}", slips)


def _divergence(q: Tensor, p: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


def divergence(answer, generator):
    """(q, p), two tables of probabilities -> the suspect's divergence, a number."""
    q, p = some_distribution(generator, 5), some_distribution(generator, 5)
    slips = {
        SOUND: (q * (q / p).log()).sum(),
        "That is the right one with its sign turned round.": -_divergence(q, p),
        "A sum of absolute differences would not care which comes first.": (q - p).abs().sum(),
        "The mean of both directions would not care which comes first.": (
            (_divergence(q, p) + _divergence(p, q)) / 2
        ),
        "That is the cross-entropy. It would prefer a p that is a single spike.": (
            -(p * q.log()).sum()
        ),
        "That is the cross-entropy of the sound direction.": -(q * p.log()).sum(),
        "A mean over the states, where the suspect adds up.": _divergence(q, p) / len(q),
        "It is in bits, and the suspect's is in nats.": _divergence(q, p) / math.log(2),
    }
    same(answer(q, p), _divergence(q, p), "The divergence", slips)


def _folded(x: Tensor) -> Tensor:
    return rearrange(x, "b c (p y) (x q) -> b (c p q) y x", p=2, q=2)


def folded(answer, generator):
    """x, (B, 1, H, W) -> the four pictures that the suspect makes of each, (B, 4, H / 2, W / 2)."""
    x = between(-1, 1, generator, 2, 1, 6, 8)
    columns = rearrange(x, "b c (y p) (q x) -> b (c p q) y x", p=2, q=2)
    both = rearrange(x, "b c (p y) (q x) -> b (c p q) y x", p=2, q=2)
    slips = {
        SOUND: rearrange(x, "b c (y p) (x q) -> b (c p q) y x", p=2, q=2),
        "That halves the picture across. Which halves does the suspect make?": columns,
        "Those are the four quarters. The suspect mixes halves and every other line.": both,
        "The right pictures in another order.": _folded(x)[:, [0, 2, 1, 3]],
        "A plain reshape cuts each row in two.": x.reshape(2, 4, 3, 4),
        "Rows and columns have changed places.": rearrange(
            x, "b c (y p) (q x) -> b (c q p) y x", p=2, q=2
        ),
        "The picture has become upside down.": _folded(x).flip(2),
    }
    same(answer(x), _folded(x), "The fold", slips)


def _step_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
) -> Tensor:
    return diffusion.regression_loss(network(x_0, t), eps)


def step_loss(answer, generator):
    """(network, schedule, x_0, t, eps) -> the suspect's loss of each image, (B,)."""
    schedule, t = some_schedule(generator), some_t(generator)
    x_0, eps = some_images(generator)
    network = some_network(generator)

    def loss(seen: Tensor, t: Tensor, target: Tensor) -> Tensor:
        return ((network(seen, t) - target) ** 2).flatten(1).mean(1)

    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    sound = loss(x_t, t, eps)
    slips = {
        SOUND: sound,
        "The loss of an image is the mean over its pixels.": 16 * loss(x_0, t, eps),
        "So near to the sound one that its curve would be, too: a neighbour's t.": (
            loss(x_t, t - 1, eps)
        ),
        "That compares with the picture. Then much noise would be hard, and little easy.": (
            loss(x_t, t, x_0)
        ),
        "A network that sees nothing but noise and returns it has a loss of 0.": loss(eps, t, eps),
        "A loss for each image is asked for: do not average over the batch.": (
            loss(x_0, t, eps).mean().expand(3)
        ),
        "Its error is squared; yours is an absolute value.": (
            (network(x_0, t) - eps).abs().flatten(1).mean(1)
        ),
        "That takes the root of the loss.": loss(x_0, t, eps).sqrt(),
        "That is told a neighbour's t as well.": loss(x_0, t - 1, eps),
    }
    got = answer(network, schedule, x_0, t, eps)
    same(got, _step_loss(network, schedule, x_0, t, eps), "The loss of each image", slips)


def _step_back(mean: Tensor, sigma: float, z: Tensor, t: int) -> Tensor:
    return mean + sigma * z


def step_back(answer, generator):
    """(mean, sigma, z, t), sigma and t numbers -> the suspect's x_{t-1}."""
    mean, z = some_images(generator)
    sigma = float(between(0.1, 0.5, generator))
    for t in (int(some_t(generator, 1, 19)) + 1, 2, 1):
        slips = {
            SOUND if t == 1 else "Without noise all garments would be smooth.": mean,
            "That is less noise. The suspect is rough, not smooth.": mean + sigma**2 * z,
            "That is more noise, at every step.": mean + sigma**0.5 * z,
            "That subtracts the noise: as rough, but another picture.": mean - sigma * z,
            "That scales the noise by nothing.": mean + z,
        }
        right = _step_back(mean, sigma, z, t)
        same(answer(mean, sigma, z, t), right, f"The step from t = {t}", slips)


def _look_ahead(x_0_hat: Tensor, x_0_hat_before: Tensor, step: float, step_before: float) -> Tensor:
    return x_0_hat + step / step_before * (x_0_hat - x_0_hat_before)


def look_ahead(answer, generator):
    """(x_0_hat, x_0_hat_before, step, step_before) -> the suspect's D, like x_0_hat.

    The steps are lengths in lambda.
    """
    x_0_hat, _ = some_images(generator)
    before, _ = some_images(generator)
    step, step_before = float(between(0.2, 0.6, generator)), float(between(0.8, 1.2, generator))
    change, ratio = x_0_hat - before, step / step_before
    slips = {
        SOUND: x_0_hat + ratio / 2 * change,
        "That does not look ahead at all: it is DDIM, and its pictures are soft.": x_0_hat,
        "That looks back, and the pictures would be soft and grey.": x_0_hat - ratio * change,
        "That looks back, half as far.": x_0_hat - ratio / 2 * change,
        "The ratio of the two steps is upside down.": x_0_hat + change / ratio,
        "The suspect does not take the two steps for equally long.": x_0_hat + change,
        "That goes even further than the suspect.": x_0_hat + 2 * ratio * change,
        "It begins at the earlier of the two guesses.": before + ratio * change,
        "The two guesses have changed places.": before - ratio * change,
    }
    got = answer(x_0_hat, before, step, step_before)
    same(got, _look_ahead(x_0_hat, before, step, step_before), "D", slips)


def _price(error: Tensor, gamma: Tensor) -> Tensor:
    return 0.5 * gamma.exp() * error


def price(answer, generator):
    """(error, gamma), (B,) each -> what the suspect charges, in nats a unit of gamma, (B,)."""
    error, gamma = between(5, 50, generator, 4), between(0.5, 3, generator, 4)
    gamma = gamma * torch.tensor([1, -1, 1, -1])
    ratio = gamma.exp()  # of noise to signal
    slips = {
        SOUND: 0.5 * error / ratio,
        "That is the sound one without its half, which comes from the Gaussian.": error / ratio,
        "That charges twice as much as the suspect. The two curves cross, and where?": (
            ratio * error
        ),
        "Too flat: from gamma = -10 to 8 the suspect's factor grows by e^18.": (
            0.5 * ratio.sqrt() * error
        ),
        "Too flat, and it falls. Which way does the suspect's factor go?": (
            0.5 * error / ratio.sqrt()
        ),
        "A price is not negative.": -0.5 * error / ratio,
        "What is charged does not depend on gamma here.": 0.5 * error,
        "Too steep.": 0.5 * ratio**2 * error,
        "The error is squared already.": 0.5 * ratio * error**2,
        "It is the error that is charged, not its root.": 0.5 * ratio * error.sqrt(),
    }
    same(answer(error, gamma), _price(error, gamma), "The price of each picture", slips)


def _score(x: Tensor, x_0_hat: Tensor, sigma: float) -> Tensor:
    return (x_0_hat - x) / sigma


def score(answer, generator):
    """(x, x_0_hat, sigma), sigma a number -> the suspect's score, like x."""
    x, x_0_hat = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    pull = x_0_hat - x
    for low, high in ((0.2, 0.7), (1.4, 3.0)):
        sigma = float(between(low, high, generator))
        slips = {
            SOUND: pull / sigma**2,
            "That points away from the data: all would fly off.": -pull / sigma,
            "The sound one, turned round: it points away from the data.": -pull / sigma**2,
            "With little noise that pulls even less than the suspect.": pull,
            "With little noise that pulls less and less; look at sigma = 0.05.": pull * sigma,
            "That pulls too hard: the bumps would be points.": pull / sigma**3,
            "Near, but the suspect has no root.": pull / sigma**0.5,
            "That is no direction, but a place.": x_0_hat / sigma,
        }
        same(answer(x, x_0_hat, sigma), _score(x, x_0_hat, sigma), "The score", slips)


def _guided(without: Tensor, with_label: Tensor, w: float) -> Tensor:
    return without + w * (without - with_label)


def guided(answer, generator):
    """(without, with_label, w), two guesses of x_0 and a number -> the suspect's guess."""
    without, _ = some_images(generator)
    with_label, _ = some_images(generator)
    w = float(between(1.6, 4, generator))
    difference = with_label - without
    slips = {
        SOUND: without + w * difference,
        "That is the paper's way to count w, and it is right.": with_label + w * difference,
        "That is sound, with a smaller w.": without + (w - 1) * difference,
        "That is without the label: it would draw anything, and not the opposite.": without,
        "That does as it is told.": with_label,
        "It begins at the other of the two guesses.": with_label - w * difference,
        "A sum of guesses is too bright: its pictures would be white.": (
            without + w * (without + with_label)
        ),
        "A sum of guesses is too bright.": without + w * with_label,
        "Only the push is there; where does it begin?": -w * difference,
        "Pushed once more than the suspect does.": without - (w + 1) * difference,
        "The suspect multiplies by w.": without - difference,
    }
    got = answer(without, with_label, w)
    same(got, _guided(without, with_label, w), "The guided guess", slips)


SUSPECTS: dict[str, Callable[..., Any]] = {
    "19.1": _an_hour,
    "19.2": _noised,
    "19.3": _divergence,
    "19.4": _folded,
    "19.5": _step_loss,
    "19.6": _step_back,
    "19.7": _look_ahead,
    "19.8": _price,
    "19.9": _score,
    "19.10": _guided,
}

EXERCISES = {
    "19.1": Exercise(
        test=an_hour,
        praise=(
            "P times a column averages what the next hour holds; a row times P moves the "
            "probability. A sum that leaves 1 gives it away."
        ),
        hints=(
            "Add the three numbers up, hour by hour. What must they sum to?",
            (
                "All three states end at the same number, as averages of averages do. "
                "Which product averages over where one may go?"
            ),
            "A row of probabilities stands on the left of P.",
        ),
        forbidden=("suspect",),
    ),
    "19.2": Exercise(
        test=noised,
        praise=(
            "Each picture got the noise of one single step. The product over all steps, "
            "`cumprod` in the library, was left out."
        ),
        hints=(
            "How much noise is there at t = 1000, and how much does one step of the chain add?",
            "Call the suspect with eps = 0: by which number is the boot multiplied at t = 500?",
            "Two tables of a schedule have nearly the same name.",
        ),
        forbidden=("suspect",),
    ),
    "19.3": Exercise(
        test=divergence,
        praise=(
            "The same formula with its two arguments exchanged: it averages over p, "
            "so p is charged only for what it covers itself, and sits on one bump."
        ),
        hints=(
            "What does each divergence charge for a place that q has and p leaves out?",
            "Over which of the two does the suspect average?",
        ),
        forbidden=("suspect",),
    ),
    "19.4": Exercise(
        test=folded,
        praise=(
            "`(p y)` in the place of `(y p)`: the rows were cut into an upper and a lower half. "
            "The shapes agree, so nothing complains."
        ),
        hints=(
            "Fold a picture whose rows are numbered, `torch.arange(8)`; which rows go where?",
            "The columns are treated as they should be. So only one group of letters is wrong.",
            'rearrange(x, "b c (y p) (x q) -> b (c p q) y x", p=2, q=2) is the sound line.',
        ),
        forbidden=("suspect",),
    ),
    "19.5": Exercise(
        test=step_loss,
        praise=(
            "The network was shown the clean picture. Of the noise it knows nothing then, and "
            "nothing it can say is better than zero."
        ),
        hints=(
            "A network that always says zero has a loss of 1. What must it lack to be worse?",
            (
                "At t = 50 the network says nearly zero, as if it saw no noise. "
                "At t = 950 it takes for noise what is none."
            ),
            "Which of the five inputs should never reach the network as it is?",
        ),
        forbidden=("suspect",),
    ),
    "19.6": Exercise(
        test=step_back,
        praise="Noise at the last step, too. No step follows that could take it away again.",
        hints=(
            "Shapes and classes are right. When must the grain have come in?",
            "What does the sampler do at t = 1, and at no other t?",
        ),
        forbidden=("suspect",),
    ),
    "19.7": Exercise(
        test=look_ahead,
        praise=(
            "A 2 was lost: the line through the last two guesses was followed to the end of the "
            "step, and not to its middle. It goes twice as far, and overdoes every change."
        ),
        hints=(
            "What was grey is black or white. Is the change of the guess made larger, or smaller?",
            "Call it with x_0_hat = 1, x_0_hat_before = 0 and two equal steps.",
            "The library follows the line to the middle of the step: step / step_before / 2.",
        ),
        forbidden=("suspect",),
    ),
    "19.8": Exercise(
        test=price,
        praise=(
            "A sign was lost: exp(gamma) is noise over signal. The bound multiplies by signal "
            "over noise, so that an error counts where the picture can be seen."
        ),
        hints=(
            "Divide the suspect's price by the error. How does that factor depend on gamma?",
            "The two curves cross at gamma = 0. What is the same for 0 and for minus 0?",
            "The library: 0.5 * exp(-gamma) * error.",
        ),
        forbidden=("suspect",),
    ),
    "19.9": Exercise(
        test=score,
        praise=(
            "A square was lost. What is left is minus the guessed noise, as long whatever the "
            "level; the score is that over sigma. So where there is little noise the pull is too "
            "weak, and the points spread."
        ),
        hints=(
            "The points are not pulled hard enough. At all levels, or where sigma is small?",
            "Call it with the same two tensors, and sigma = 1, 0.5 and 0.25. What does it do?",
            "The score is (x_0_hat - x) over the variance of the noise.",
        ),
        forbidden=("suspect",),
    ),
    "19.10": Exercise(
        test=guided,
        praise=(
            "The difference was taken the other way round. Every picture is sound, as "
            "pictures go; only nobody asked for it."
        ),
        hints=(
            "Compare each picture with its label. Is the label ignored, or is it worse?",
            "Call it with without = 0, with_label = 1 and w = 2.",
            "The library adds w times (with_label - without).",
        ),
        forbidden=("suspect",),
    ),
}
