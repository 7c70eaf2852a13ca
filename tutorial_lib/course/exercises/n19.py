"""Checks of the exercises of the errata lab, notebook 19: which bug made this picture?

Each exercise has a suspect, a line of the library with one slip in it.  Readers call it, look at
what it draws, and write the line as it must stand there.  A check gives both the same fresh inputs
and compares what comes back.
"""

import math
from collections.abc import Callable
from typing import Any

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


SUSPECTS: dict[str, Callable[..., Any]] = {
    "19.1": _an_hour,
    "19.2": _noised,
    "19.3": _divergence,
    "19.4": _folded,
    "19.5": _step_loss,
    "19.6": _step_back,
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
}
