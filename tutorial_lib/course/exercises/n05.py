"""Checks of the exercises of notebook 05: training on Fashion-MNIST."""

import math

import torch
from torch import Tensor

from tutorial_lib import data, diffusion, train
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
    "05.1",
    "Black is -1 and white is 1, exactly; 128 becomes 0.004, and no level exactly 0. Nothing is lost on the way there "
    "and back.",
    "0 to 255 must become -1 to 1: divide, then shift.",
    "x / 127.5 - 1. Back: (x + 1) * 127.5, rounded, clamped to 0..255, uint8.",
    forbidden=(data.to_model, data.to_pixels),
)
def there_and_back(answer, z):
    """A pair of functions: uint8 pixels to [-1, 1], and back."""
    true(
        isinstance(answer, tuple) and len(answer) == 2,
        'Hand in both functions: check("05.1", (to_model, to_pixels)).',
    )
    there, back = answer
    every = torch.arange(256).to(torch.uint8)
    got = there(every)
    true(got is not None, "`to_model` returns nothing yet.")
    true(
        torch.as_tensor(got).dtype == torch.float32,
        f"What goes in should be float32, got {got.dtype}.",
    )
    same(
        got,
        data.to_model(every),
        "What goes in",
        {
            "That is [0, 1].": every / 255,
            "White is not 1. What must become of 255?": every / 128.0 - 1,
            "Bytes have wrapped around: make floats of them first.": every * 2 / 255 - 1,
        },
    )
    got = back(data.to_model(every))
    true(got is not None, "`to_pixels` returns nothing yet.")
    true(got.dtype == torch.uint8, f"What comes out should be uint8, got {got.dtype}.")
    same(
        got,
        every,
        "What comes out",
        {
            "Some levels lose one: round before you cut off the decimals.": (
                (data.to_model(every) + 1) * 127.5
            ).to(torch.uint8)
        },
    )
    same(
        back(torch.tensor([-1.2, 1.3])),
        torch.tensor([0, 255]),
        "What becomes of values outside [-1, 1]",
    )


@exercise(
    "05.2",
    "That is Algorithm 1. Everything else in a training program is there to do this quickly and often.",
    "Noise the images with Eq. 4, ask the network for eps, and take the mean square of the difference, image by image.",
    "network(x_t, t) - eps, squared, .flatten(1).mean(1): one number for each image.",
    forbidden=(train.training_step, diffusion.regression_loss),
)
def training_step(answer, z):
    """(network, tables, x_0, t, eps) -> the loss of each image, (B,), for a network that predicts
    eps.
    """
    tables, (x_0, eps), t = some_schedule(z), some_images(z), some_t(z)
    w = float(between(0.2, 0.8, z))

    def network(x_t, t):
        return w * x_t + 0.01 * t.view(-1, 1, 1, 1)

    x_t = diffusion.q_sample(tables, x_0, t, eps)
    each = (network(x_t, t) - eps).square().flatten(1)
    same(
        answer(network, tables, x_0, t, eps),
        each.mean(1),
        "The loss",
        {
            "One number for the whole batch; one for each image is asked for.": each.mean(),
            "The sum over pixels, not their mean.": each.sum(1),
            "The network was asked about x_0 itself: nothing had been noised.": (
                network(x_0, t) - eps
            )
            .square()
            .flatten(1)
            .mean(1),
            "It is compared with x_0; this network predicts eps.": (network(x_t, t) - x_0)
            .square()
            .flatten(1)
            .mean(1),
        },
    )


@exercise(
    "05.3",
    "Without the warm-up the copy would remember its random start for a thousand steps.",
    "averaged = decay * averaged + (1 - decay) * weight, at each step k = 1, 2, ...",
    "The decay of step k is the smaller of `decay` and (1 + k) / (10 + k).",
    forbidden=(train.update_ema,),
)
def ema(answer, z):
    """(weights, decay) -> the average after all steps; weights[0] is the start, weights[k] that
    after step k.
    """
    weights = torch.randn(40, generator=z, dtype=torch.float64).cumsum(0)
    decay = float(between(0.5, 0.75, z))  # reached after ten to thirty steps

    def averaged(warm: bool) -> float:
        value = float(weights[0])
        for k in range(1, 40):
            d = min(decay, (1 + k) / (10 + k)) if warm else decay
            value = d * value + (1 - d) * float(weights[k])
        return value

    same(
        answer(weights.tolist(), decay),
        averaged(True),
        "The average",
        {
            "The warm-up of the decay is missing.": averaged(False),
            "That is the last weight.": float(weights[-1]),
        },
    )


@exercise(
    "05.4",
    "Gradients add up until somebody clears them. The loss falls all the same, and that is why it goes unnoticed.",
    "What is in w.grad when the second step begins?",
    "PyTorch adds each new gradient to the old one. Clear it: w.grad = None.",
)
def descend(answer, z):
    """(w, loss, lr, steps) -> w after that many steps of plain gradient descent, with the slip
    mended.
    """
    start, goal = torch.randn(2, 5, generator=z, dtype=torch.float64).unbind()

    def loss(w: Tensor) -> Tensor:
        return (w - goal).square().sum()

    def walked(clear: bool) -> Tensor:
        w, momentum = start.clone(), torch.zeros(5).double()
        for _ in range(5):
            momentum = 2 * (w - goal) + (0 if clear else momentum)
            w = w - 0.1 * momentum
        return w

    got = answer(start.clone().requires_grad_(), loss, 0.1, 5)
    same(
        got,
        walked(True),
        "w after five steps",
        {"The gradients of earlier steps still add up.": walked(False), "It has not moved.": start},
    )


@exercise(
    "05.5",
    "Up gently, because the first gradients mean little; down slowly, because the last steps decide.",
    "Two cases: up to `warmup` a straight line from 0 to lr; afterwards half a cosine from lr to 0.",
    "After the warm-up: done = (step - warmup) / (steps - warmup), and lr * (1 + cos(pi * done)) / 2.",
    forbidden=(train.learning_rate,),
)
def learning_rate(answer, z):
    """(step, steps, warmup, lr) -> the learning rate at step 1, 2, ..., steps."""
    steps, warmup = int(torch.randint(50, 200, (), generator=z)), 20
    lr = float(between(0.001, 0.01, z))
    config = train.TrainConfig(steps=steps, warmup=warmup, lr=lr, lr_end=0)
    for step in (1, 10, 20, 21, 40, steps):
        right = train.learning_rate(step, config)
        early = lr * (1 + math.cos(math.pi * step / steps)) / 2
        slips = {
            "The cosine should begin where the warm-up ends.": early if step > warmup else lr * 2,
            "That is a straight line down; half a cosine is asked for.": lr
            * (steps - step)
            / (steps - warmup),
        }
        what = f"The rate at step {step} of {steps} (warm-up {warmup}, lr {lr:.4f})"
        same(answer(step, steps, warmup, lr), right, what, slips, 1e-7)


@exercise(
    "05.6",
    "A network that always says zero already gets this far. Whoever reports a loss should know that number.",
    "v = sqrt(alpha_bar) * eps - sqrt(1 - alpha_bar) * x_0, and eps is independent of x_0 with mean 0 and variance 1.",
    "The mean of v^2 is alpha_bar * 1 + (1 - alpha_bar) * (mean square of the pixels).",
)
def baseline(answer, z):
    """(alpha_bar, mean_square) -> the expected loss, under v, of a network that always says zero."""
    kept, square = between(0.1, 0.9, z), between(0.2, 0.7, z)
    same(
        answer(kept, square),
        kept + (1 - kept) * square,
        "The expected loss",
        {
            "alpha_bar and 1 - alpha_bar have changed places: what is large in v at small t?": kept
            * square
            + 1
            - kept,
            "That is for eps.": 1.0,
        },
    )
