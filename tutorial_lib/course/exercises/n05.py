"""Checks of the exercises of notebook 05: training on Fashion-MNIST."""

import math

import torch
from torch import Tensor

from tutorial_lib import data, diffusion
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    same,
    some_images,
    some_schedule,
    some_t,
    true,
)
from tutorial_lib.engine import rates


def there_and_back(answer, generator):
    """A pair of functions: uint8 pixels to [-1, 1], and back."""
    true(
        isinstance(answer, tuple) and len(answer) == 2,
        'Hand in both functions: check("05.1", (to_model, to_pixels)).',
    )
    to_model, to_pixels = answer
    levels = torch.arange(256).to(torch.uint8)
    _there(to_model(levels), levels)
    _back(to_pixels(data.to_model(levels)), levels)
    outside = to_pixels(torch.tensor([-1.2, 1.3]))
    same(outside, torch.tensor([0, 255]), "What becomes of values outside [-1, 1]")


def _there(got, levels: Tensor) -> None:
    """Raise Wrong unless all grey levels have become what the network takes."""
    true(got is not None, "`to_model` returns nothing yet.")
    dtype = torch.as_tensor(got).dtype
    true(dtype == torch.float32, f"What goes in should be float32, got {dtype}.")
    slips = {
        "That is [0, 1].": levels / 255,
        "White is not 1. What must become of 255?": levels / 128.0 - 1,
        "Bytes have wrapped around: make floats of them first.": levels * 2 / 255 - 1,
    }
    same(got, data.to_model(levels), "What goes in", slips)


def _back(got, levels: Tensor) -> None:
    """Raise Wrong unless all grey levels have come back."""
    true(got is not None, "`to_pixels` returns nothing yet.")
    dtype = torch.as_tensor(got).dtype
    true(dtype == torch.uint8, f"What comes out should be uint8, got {dtype}.")
    cut_off = ((data.to_model(levels) + 1) * 127.5).to(torch.uint8)
    slips = {"Some levels lose one: round before you cut off the decimals.": cut_off}
    same(got, levels, "What comes out", slips)


def training_step(answer, generator):
    """(network, schedule, x_0, t, eps) -> the loss of each image, (B,).

    network: predicts eps.
    """
    schedule = some_schedule(generator)
    x_0, eps = some_images(generator)
    t = some_t(generator)
    weight = float(between(0.2, 0.8, generator))

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        return weight * x_t + 0.01 * t.view(-1, 1, 1, 1)

    eps_hat = network(diffusion.q_sample(schedule, x_0, t, eps), t)
    squares = (eps_hat - eps).square().flatten(1)  # (B, C H W)
    not_noised = (network(x_0, t) - eps).square().flatten(1).mean(1)
    of_x_0 = (eps_hat - x_0).square().flatten(1).mean(1)
    slips = {
        "One number for the whole batch; one for each image is asked for.": squares.mean(),
        "The sum over pixels, not their mean.": squares.sum(1),
        "The network was asked about x_0 itself: nothing had been noised.": not_noised,
        "It is compared with x_0; this network predicts eps.": of_x_0,
    }
    same(answer(network, schedule, x_0, t, eps), squares.mean(1), "The loss", slips)


def ema(answer, generator):
    """(weights, decay) -> the average after all steps.

    weights[0] is the start, weights[k] that after step k.
    """
    steps = torch.randn(40, generator=generator, dtype=torch.float64)
    weights = steps.cumsum(0).tolist()
    decay = float(between(0.5, 0.75, generator))  # reached after ten to thirty steps
    warm, cold = weights[0], weights[0]
    for k in range(1, 40):
        d = min(decay, (1 + k) / (10 + k))
        warm = d * warm + (1 - d) * weights[k]
        cold = decay * cold + (1 - decay) * weights[k]
    slips = {
        "The warm-up of the decay is missing.": cold,
        "That is the last weight.": weights[-1],
    }
    same(answer(weights, decay), warm, "The average", slips)


def descend(answer, generator):
    """(w, loss, lr, steps) -> w after that many steps of plain gradient descent.

    The answer has the slip mended.
    """
    start, goal = torch.randn(2, 5, generator=generator, dtype=torch.float64).unbind()

    def loss(w: Tensor) -> Tensor:
        return (w - goal).square().sum()

    cleared, piled_up = start, start
    pile = torch.zeros_like(start)
    for _ in range(5):
        cleared = cleared - 0.1 * 2 * (cleared - goal)
        pile = pile + 2 * (piled_up - goal)
        piled_up = piled_up - 0.1 * pile
    slips = {
        "The gradients of earlier steps still add up.": piled_up,
        "It has not moved.": start,
    }
    got = answer(start.clone().requires_grad_(), loss, 0.1, 5)
    same(got, cleared, "w after five steps", slips)


def learning_rate(answer, generator):
    """(step, steps, warmup, lr) -> the learning rate at step 1, 2, ..., steps."""
    steps = int(torch.randint(50, 200, (), generator=generator))
    warmup = 20
    lr = float(between(0.001, 0.01, generator))
    for step in (1, 10, 20, 21, 40, steps):
        slips = {}
        if step > warmup:
            too_early = lr * (1 + math.cos(math.pi * step / steps)) / 2
            slips["The cosine should begin where the warm-up ends."] = too_early
        line = lr * (steps - step) / (steps - warmup)
        slips["That is a straight line down; half a cosine is asked for."] = line
        what = f"The rate at step {step} of {steps} (warm-up {warmup}, lr {lr:.4f})"
        right = rates.learning_rate(step, steps=steps, warmup=warmup, lr=lr, lr_end=0.0)
        same(answer(step, steps, warmup, lr), right, what, slips, tolerance=1e-7)


def baseline(answer, generator):
    """(alpha_bar, mean_square) -> the expected loss, under v, of a network that returns zeros."""
    alpha_bar = between(0.1, 0.9, generator)
    mean_square = between(0.2, 0.7, generator)
    right = alpha_bar + (1 - alpha_bar) * mean_square
    swapped = alpha_bar * mean_square + 1 - alpha_bar
    slips = {
        "alpha_bar and 1 - alpha_bar have changed places: what is large in v at small t?": swapped,
        "That is for eps.": 1.0,
    }
    same(answer(alpha_bar, mean_square), right, "The expected loss", slips)


EXERCISES = {
    "05.1": Exercise(
        test=there_and_back,
        praise=(
            "Black is -1 and white is 1, exactly; 128 becomes 0.004, and no level exactly 0. "
            "Nothing is lost on the way there and back."
        ),
        hints=(
            "0 to 255 must become -1 to 1: divide, then shift.",
            "x / 127.5 - 1. Back: (x + 1) * 127.5, rounded, clamped to 0..255, uint8.",
        ),
        forbidden=("to_model", "to_pixels"),
    ),
    "05.2": Exercise(
        test=training_step,
        praise=(
            "That is Algorithm 1. Everything else in a training program is there "
            "to do this quickly and often."
        ),
        hints=(
            (
                "Noise the images with Eq. 4, ask the network for eps, "
                "and take the mean square of the difference, image by image."
            ),
            "network(x_t, t) - eps, squared, .flatten(1).mean(1): one number for each image.",
        ),
        forbidden=("training_step", "regression_loss"),
    ),
    "05.3": Exercise(
        test=ema,
        praise=(
            "Without the warm-up the copy would remember its random start for a thousand steps."
        ),
        hints=(
            "averaged = decay * averaged + (1 - decay) * weight, at each step k = 1, 2, ...",
            "The decay of step k is the smaller of `decay` and (1 + k) / (10 + k).",
        ),
        forbidden=("update_ema",),
    ),
    "05.4": Exercise(
        test=descend,
        praise=(
            "Gradients add up until somebody clears them. The loss falls all the same, "
            "and that is why it goes unnoticed."
        ),
        hints=(
            "What is in w.grad when the second step begins?",
            "PyTorch adds each new gradient to the old one. Clear it: w.grad = None.",
        ),
    ),
    "05.5": Exercise(
        test=learning_rate,
        praise=(
            "Up gently, because the first gradients mean little; "
            "down slowly, because the last steps decide."
        ),
        hints=(
            (
                "Two cases: up to `warmup` a straight line from 0 to lr; "
                "afterwards half a cosine from lr to 0."
            ),
            (
                "After the warm-up: done = (step - warmup) / (steps - warmup), "
                "and lr * (1 + cos(pi * done)) / 2."
            ),
        ),
        forbidden=("learning_rate",),
    ),
    "05.6": Exercise(
        test=baseline,
        praise=(
            "A network that always says zero already gets this far. "
            "Whoever reports a loss should know that number."
        ),
        hints=(
            (
                "v = sqrt(alpha_bar) * eps - sqrt(1 - alpha_bar) * x_0, "
                "and eps is independent of x_0 with mean 0 and variance 1."
            ),
            "The mean of v^2 is alpha_bar * 1 + (1 - alpha_bar) * (mean square of the pixels).",
        ),
    ),
}
