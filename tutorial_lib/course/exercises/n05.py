"""Checks of the exercises of notebook 05: training on Fashion-MNIST."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import data, diffusion
from tutorial_lib.course.exercises.checks import (
    Exercise,
    Wrong,
    between,
    hidden,
    same,
    some_images,
    some_network,
    some_schedule,
    some_t,
    true,
)
from tutorial_lib.schedule import NoiseSchedule, from_betas

SOUND = "That is the library's line, and it has no slip in it."


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
    outside = torch.tensor([-1.2, 1.3])
    slips = {
        "They have wrapped around: cut them off while they are still floats.": (
            ((outside + 1) * 127.5).round().to(torch.uint8)
        ),
        "They have wrapped around: cut them off while they are floats.": (
            ((outside + 1) * 127.5).to(torch.uint8)
        ),
    }
    got = to_pixels(outside.clone())
    same(got, torch.tensor([0, 255]), "What becomes of values outside [-1, 1]", slips)


def _there(got, levels: Tensor) -> None:
    """Raise Wrong unless all grey levels have become what the network takes."""
    true(got is not None, "`to_model` returns nothing yet.")
    dtype = torch.as_tensor(got).dtype
    true(dtype == torch.float32, f"What goes in should be float32, got {dtype}.")
    slips = {
        "That is [0, 1].": levels / 255,
        "White is not 1. What must become of 255?": levels / 128.0 - 1,
        "White is more than 1. What must become of 255?": levels / 127.0 - 1,
        "Half of it is missing: it reaches from -0.5 to 0.5.": levels / 255 - 0.5,
        "It reaches from 0 to 2: a shift is missing.": levels / 127.5,
        "It reaches from 1 to 3: shifted the wrong way.": levels / 127.5 + 1,
        "Brackets are missing: 1 / 127.5 is subtracted.": levels - 1 / 127.5,
        "Black and white have changed places.": 1 - levels / 127.5,
        "Bytes have wrapped around: make floats of them first.": levels * 2 / 255 - 1,
    }
    same(got, data.to_model(levels), "What goes in", slips)


def _back(got, levels: Tensor) -> None:
    """Raise Wrong unless all grey levels have come back."""
    true(got is not None, "`to_pixels` returns nothing yet.")
    dtype = torch.as_tensor(got).dtype
    true(dtype == torch.uint8, f"What comes out should be uint8, got {dtype}.")
    cut_off = ((data.to_model(levels) + 1) * 127.5).to(torch.uint8)
    x = data.to_model(levels)
    slips = {
        "Some levels lose one: round before you cut off the decimals.": cut_off,
        "That is the way back from [0, 1].": (x * 255).round().clamp(0, 255),
        "Brackets are missing: what is multiplied?": (x + 127.5).round().clamp(0, 255),
        "Black should be 0, and white 255.": (x * 127.5).round().clamp(0, 255),
        "Only black and white are left: round at the end.": (x + 1).div(2).round() * 255,
    }
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

    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    eps_hat = network(x_t, t)
    squares = (eps_hat - eps).square().flatten(1)  # (B, C H W)
    alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)

    def asked(seen: Tensor, t: Tensor = t) -> Tensor:
        return (network(seen, t) - eps).square().flatten(1).mean(1)

    of_x_0 = (eps_hat - x_0).square().flatten(1).mean(1)
    slips = {
        "The sum over pixels, not their mean.": squares.sum(1),
        "The absolute error, not its square.": squares.sqrt().mean(1),
        "That is the root of the loss.": squares.mean(1).sqrt(),
        "That is half of the loss.": squares.mean(1) / 2,
        "That is the mean over the batch, repeated.": squares.mean().expand(len(t)),
        "The network was asked about x_0 itself: nothing had been noised.": asked(x_0),
        "The network was asked about the noise alone.": asked(eps),
        "Nothing is scaled in what the network sees: Eq. 4 has two roots.": asked(x_0 + eps),
        "The roots of Eq. 4 are missing.": asked(alpha_bar * x_0 + (1 - alpha_bar) * eps),
        "That is a single step of noise; Eq. 4 jumps from x_0 to t.": asked(
            diffusion.q_step(schedule, x_0, t, eps)
        ),
        "The network was told t - 1.": asked(x_t, t - 1),
        "The picture is that of step t - 1.": asked(diffusion.q_sample(schedule, x_0, t - 1, eps)),
        "It is compared with x_0; this network predicts eps.": of_x_0,
        "It is compared with x_t; this network predicts eps.": (
            (eps_hat - x_t).square().flatten(1).mean(1)
        ),
    }
    got = answer(network, schedule, x_0, t, eps)
    _one_for_each_image(got, squares)
    try:
        same(got, squares.mean(1), "The loss", slips)
    except Wrong:
        again = answer(network, schedule, x_0, t, eps)
        fresh = isinstance(got, Tensor) and not torch.equal(got, torch.as_tensor(again))
        true(not fresh, "The loss is another one each time; eps is given, and need not be drawn.")
        raise


def _one_for_each_image(got: Any, squares: Tensor) -> None:
    """Raise Wrong, in words, for a loss of another shape than (B,), where it is a known one."""
    if isinstance(got, Tensor) and got.ndim == 0:
        raise Wrong("The loss is one number for the whole batch; one for each image is asked for.")
    if isinstance(got, Tensor) and got.numel() == squares.numel():
        raise Wrong("The loss has a number for each pixel; one for each image is asked for.")


def ema(answer, generator):
    """(weights, decay) -> the average after all steps.

    weights[0] is the start, weights[k] that after step k.
    """
    steps = torch.randn(40, generator=generator, dtype=torch.float64)
    weights = (10 + steps.cumsum(0)).tolist()
    decay = float(between(0.6, 0.75, generator))  # reached after thirteen to 26 steps
    for count in (20, 39, 5, 1):  # long after the decay has warmed up, and meanwhile
        short = weights[: count + 1]
        warm = _averaged(short, lambda k: min(decay, (1 + k) / (10 + k)))
        slips = _slips_of_average(short, decay)
        same(answer(short, decay), warm, f"The average after step {count}", slips, tolerance=2e-6)


def _slips_of_average(short: list[float], decay: float) -> dict[str, float]:
    """What known mistakes would give, by what is said of them."""
    count = len(short) - 1
    warm_at_the_end = min(decay, (1 + count) / (10 + count))
    return {
        "The warm-up of the decay is missing.": _averaged(short, lambda k: decay),
        "The first step is number 1, not 0.": _averaged(short, lambda k: min(decay, k / (9 + k))),
        "d belongs to the average, 1 - d to the new weight.": _averaged(
            short, lambda k: 1 - min(decay, (1 + k) / (10 + k))
        ),
        "That is the last weight.": short[-1],
        "d is the smaller of the two.": _averaged(short, lambda k: max(decay, (1 + k) / (10 + k))),
        "d is the smaller of the two: it never grows beyond `decay`.": _averaged(
            short, lambda k: (1 + k) / (10 + k)
        ),
        "d belongs to its own step; here the number of steps makes it.": (
            _averaged(short, lambda _: warm_at_the_end)
        ),
        "It begins at weights[0], not at 0.": _averaged(
            [0.0, *short[1:]], lambda k: min(decay, (1 + k) / (10 + k))
        ),
        "The last step is missing.": (
            _averaged(short[:-1], lambda k: min(decay, (1 + k) / (10 + k)))
        ),
        "That is the plain mean of all.": sum(short) / len(short),
    }


def _averaged(weights: list[float], decay: Callable[[int], float]) -> float:
    """The average of weights whose decay at step k is `decay(k)`."""
    average = weights[0]
    for k, weight in enumerate(weights[1:], 1):
        average = decay(k) * average + (1 - decay(k)) * weight
    return average


def descend(answer, generator):
    """(w, loss, lr, steps) -> w after that many steps of plain gradient descent.

    The answer has the slip repaired.
    """
    cases = {"five": (5, 0.1)}
    lr = float(between(0.02, 0.2, generator))
    cases["as many as are asked for"] = int(torch.randint(2, 9, (), generator=generator)), lr
    for how_many, (steps, lr) in cases.items():
        start, goal = torch.randn(2, 5, generator=generator, dtype=torch.float64).unbind()

        def loss(w: Tensor, goal: Tensor = goal) -> Tensor:
            return (w - goal).square().sum()

        cleared, piled_up, pile = start, start, torch.zeros_like(start)
        path = [start]
        for _ in range(steps):
            cleared = cleared - lr * 2 * (cleared - goal)
            pile = pile + 2 * (piled_up - goal)
            piled_up = piled_up - lr * pile
            path.append(cleared)
        uphill = goal + (start - goal) * (1 + 2 * lr) ** steps
        slips = {
            "Work out the first two by hand, and compare.": piled_up,
            "It has not moved.": start,
            "A step is missing.": path[-2],
            "Only one step is left.": path[1],
            "One step too many.": cleared - lr * 2 * (cleared - goal),
            "It walks uphill.": uphill,
            "That is the gradient of the last step.": 2 * (path[-2] - goal),
            "`lr` is given.": goal + (start - goal) * 0.8**steps,
        }
        got = answer(start.clone().requires_grad_(), loss, lr, steps)
        same(got, cleared, f"w after {how_many} steps", slips)


def _slips_of_trapezoid(
    step: int,
    steps: int,
    warmup: int,
    cooldown: int,
    lr: float,
) -> dict[str, float]:
    """What known mistakes would give, by what is said of them."""
    rise, fall = step / warmup, (steps - step) / cooldown
    return {
        "The first step has a rate above 0: it is number 1.": lr
        * min((step - 1) / warmup, 1, fall),
        "The last step has a rate of exactly 0.": lr * min(rise, 1, (steps + 1 - step) / cooldown),
        "The rise is missing.": lr * min(1, fall),
        "The fall is missing.": lr * min(rise, 1),
        "It should never be above lr.": lr * min(rise, fall),
        "The factor is right; `lr` is missing.": min(rise, 1, fall),
        "The rise takes `warmup` steps, not all of them.": lr * min(step / steps, fall),
        "The fall takes `cooldown` steps, not all that are left.": (
            lr * min(rise, 1, (steps - step) / max(steps - warmup, 1))
        ),
        "In the cool-down it should fall, not rise.": lr * (1 - fall) if fall < 1 else 0,
        "`warmup` and `cooldown` have changed places.": (
            lr * min(step / cooldown, 1, (steps - step) / warmup)
        ),
        "A straight line is asked for.": (lr * (1 - math.cos(math.pi * min(rise, 1, fall))) / 2),
    }


def trapezoid(answer, generator):
    """(step, steps, warmup, cooldown, lr) -> the learning rate at step 1, 2, ..., steps."""
    steps = int(torch.randint(60, 200, (), generator=generator))
    warmup = int(torch.randint(8, 20, (), generator=generator))
    cooldown = warmup + int(torch.randint(2, 8, (), generator=generator))  # below 2 warmup
    lr = float(between(0.001, 0.01, generator))
    level = steps - cooldown  # the last step at the full rate
    ends = (steps - 1, steps, level - 1, level, level + 1)  # the last two tell most
    for step in (1, warmup // 2, warmup, warmup + 1, *ends):
        rise, fall = step / warmup, (steps - step) / cooldown
        slips = _slips_of_trapezoid(step, steps, warmup, cooldown, lr)
        what = f"The rate at step {step} of {steps} (warmup {warmup}, cooldown {cooldown}, "
        right = lr * min(rise, 1, fall)
        got = answer(step, steps, warmup, cooldown, lr)
        same(got, right, f"{what}lr {lr:.4f})", slips, tolerance=1e-7)


def baseline(answer, generator):
    """(alpha_bar, mean_square) -> the expected loss, under v, of a network that returns zeros."""
    alpha_bar = between(0.1, 0.9, generator)
    mean_square = between(0.2, 0.7, generator)
    right = alpha_bar + (1 - alpha_bar) * mean_square
    swapped = alpha_bar * mean_square + 1 - alpha_bar
    slips = {
        "alpha_bar and 1 - alpha_bar have changed places: what is large in v at small t?": swapped,
        "That is for eps.": 1.0,
        "That is for x_0.": mean_square,
        "That is the part of eps alone.": alpha_bar,
        "That is the part of x_0 alone.": (1 - alpha_bar) * mean_square,
        "A square has no sign.": alpha_bar - (1 - alpha_bar) * mean_square,
        "v is squared, and so are its two roots.": (
            alpha_bar**0.5 + (1 - alpha_bar) ** 0.5 * mean_square
        ),
        "The mean square is a square already.": alpha_bar + (1 - alpha_bar) * mean_square**2,
        "The mean square has no root here.": (alpha_bar + (1 - alpha_bar) * mean_square**0.5),
        "The loss has no root.": right**0.5,
        "Are the roots of v squared, or their squares once more?": (
            alpha_bar**2 + (1 - alpha_bar) ** 2 * mean_square
        ),
        "eps and x_0 are independent: the mixed term has mean 0.": (
            (alpha_bar**0.5 - ((1 - alpha_bar) * mean_square) ** 0.5) ** 2
        ),
    }
    same(answer(alpha_bar, mean_square), right, "The expected loss", slips)


class _Witness(nn.Module):
    """A network of two numbers that remembers what it was asked, and what it said."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.shift = nn.Parameter(torch.tensor(0.1))
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.said: list[Tensor] = []

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """A guess of the noise, like x_t."""
        self.asked.append((x_t.detach().clone(), torch.as_tensor(t).detach().clone()))
        eps_hat = self.slope * x_t + self.shift * (1 + t.view(-1, 1, 1, 1) / 10)
        self.said.append(eps_hat.detach().clone())
        return eps_hat


def loop(answer, generator):
    """(network, optimizer, x, schedule, steps, batch, generator) -> the loss of every step."""
    schedule = from_betas(between(0.05, 0.3, generator, 20))
    steps, batch = 60, 8
    # grey pictures, each of one brightness, so far apart that the noise cannot hide which is which
    brightness = torch.linspace(30, 300, 10, dtype=torch.float64)  # more than a batch takes
    x = brightness.view(10, 1, 1, 1).repeat(1, 1, 4, 4)
    slope = float(between(-0.005, 0.005, generator))
    seed = int(torch.randint(10_000, (), generator=generator))

    def trained() -> tuple[_Witness, Any, _Witness]:
        start = _Witness(slope)
        network = copy.deepcopy(start)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        own = torch.Generator().manual_seed(seed)
        got = answer(network, optimizer, x, schedule, steps, batch, own)
        return network, got, start

    network, got, start = trained()
    _is_a_list_of_losses(got, steps, len(network.asked))
    chosen, noises = _understood(network, x, schedule, batch)
    _drawn_well(network, chosen, noises, schedule, len(x))
    losses = [float(loss) for loss in got]
    _right_losses(losses, network, noises, x[chosen])
    _moved_well(network, start, noises)
    true(
        [float(loss) for loss in trained()[1]] == losses,
        "The same generator gave another run. Draw everything from `generator`.",
    )


def _is_a_list_of_losses(got: Any, steps: int, asked: int) -> None:
    """Raise Wrong unless a number came back for each step, and the network was asked as often."""
    true(got is not None, "Nothing came back. The loss of every step should.")
    true(
        isinstance(got, (list, tuple, Tensor)) and len(got) == steps,
        f"What comes back should be a list of {steps} losses, one for each step.",
    )
    true(
        asked == steps,
        f"In {steps} steps the network was asked {asked} times. Ask once a step.",
    )
    true(
        not any(isinstance(loss, Tensor) and loss.requires_grad for loss in got),
        "The losses hold on to the graph of every step; keep the number, by .item().",
    )


def _right_losses(
    losses: list[float], network: _Witness, noises: list[Tensor], x_0: Tensor
) -> None:
    """Raise Wrong unless the losses are the mean squares; x_0: the pictures shown, one by one."""
    said, eps = torch.stack(network.said).double(), torch.stack(noises)  # (steps, B, C, H, W)
    squares = (said - eps).square().flatten(1)  # (steps, B C H W)
    slips = {
        "The sum over images and pixels, not their mean.": squares.sum(1),
        "The sum over pixels, not their mean.": squares.sum(1) / len(noises[0]),
        "Absolute errors; the mean square is asked for.": squares.sqrt().mean(1),
        "Those are their roots.": squares.mean(1).sqrt(),
        "The network is compared with x_0; it should predict eps.": (
            (said.flatten(0, 1) - x_0).square().view_as(squares).mean(1)
        ),
        "The network is compared with x_t; it should predict eps.": (
            torch.stack(
                [(s - x_t).square().mean() for s, (x_t, _) in zip(said, network.asked, strict=True)]
            )
        ),
    }
    same(losses, squares.mean(1), "The list of losses", slips, tolerance=1e-3)


def _understood(
    network: _Witness, x: Tensor, schedule: NoiseSchedule, batch: int
) -> tuple[Tensor, list[Tensor]]:
    """Which pictures were shown, (steps * batch,), and the noise in them, step by step.

    Raises Wrong where what the network was asked is no noised batch.
    """
    chosen, noises = [], []
    for x_t, t in network.asked:
        true(
            x_t.shape == (batch, *x.shape[1:]),
            f"The network was shown {tuple(x_t.shape)}; a batch has {(batch, *x.shape[1:])}.",
        )
        true(t.shape == (batch,), f"t should have a step for each image, ({batch},).")
        true(not t.is_floating_point(), "t should be whole numbers, as from torch.randint.")
        true(
            bool((t >= 1).all()) and bool((t <= schedule.T).all()),
            f"t should lie in 1..{schedule.T}; {int(t.min())} to {int(t.max())} were drawn.",
        )
        x_t = x_t.double()
        signal, noise = schedule.signal_and_noise(t, like=x_t)  # (B, 1, 1, 1) each
        guesses = (x_t / signal).flatten(1).mean(1)  # (B,)
        index = (guesses[:, None] - x[:, 0, 0, 0]).abs().argmin(1)
        chosen.append(index)
        noises.append((x_t - signal * x[index]) / noise)
    return torch.cat(chosen), noises


def _drawn_well(
    network: _Witness, chosen: Tensor, noises: list[Tensor], schedule: NoiseSchedule, count: int
) -> None:
    """Raise Wrong unless images, steps and noise were drawn as Algorithm 1 says."""
    eps = torch.stack(noises)  # (steps, B, C, H, W)
    _not_repeated(eps, {"step": eps[:1], "image": eps[:, :1]})
    true(
        bool(eps.isfinite().all())
        and 0.9 < float(eps.std()) < 1.1
        and abs(float(eps.mean())) < 0.1,
        "The network was not shown x_t of Eq. 4, with standard normal noise.",
    )
    _not_repeated(eps, {"pixel": eps[..., :1]})
    true(len(chosen.unique()) == count, "Some images are never shown. Draw from all of them.")
    firsts = torch.stack([index.sum() for index in chosen.split(eps.shape[1])])
    true(len(firsts.unique()) > 1, "Each step should see other images.")
    t = torch.stack([t for _, t in network.asked])  # (steps, B)
    true(bool((t != t[:, :1]).any()), "All images of a batch have the same t; draw one for each.")
    true(len(t[:, 0].unique()) > 1, "t should be drawn anew at each step.")
    true(
        int(t.min()) == 1 and int(t.max()) == schedule.T,
        f"In {t.numel()} draws of t from 1..{schedule.T} an end never came.",
    )


def _not_repeated(eps: Tensor, firsts: dict[str, Tensor]) -> None:
    """Raise Wrong if all noise is like the first; firsts: by what each noise should belong to."""
    for which, first in firsts.items():
        repeated = float((eps - first).square().mean()) < 0.1
        true(not repeated, f"The noise is repeated; each {which} has noise of its own.")


def _moved_well(network: _Witness, start: _Witness, noises: list[Tensor]) -> None:
    """Raise Wrong unless the weights are where one step of the optimizer for each batch leads."""
    ends = {}
    orders = {
        "cleared": "clear backward step",
        "piled up": "backward step",
        "step before": "step clear backward",
    }
    for name, order in orders.items():
        sound = copy.deepcopy(start)
        optimizer = torch.optim.Adam(sound.parameters(), lr=1e-4)
        for (x_t, t), eps in zip(network.asked, noises, strict=True):
            loss = (sound(x_t, t) - eps).square().mean()
            does = {"clear": optimizer.zero_grad, "step": optimizer.step, "backward": loss.backward}
            for what in order.split():
                does[what]()
        ends[name] = torch.stack([sound.slope, sound.shift]).detach()
    got = torch.stack([network.slope, network.shift]).detach()
    untouched = torch.stack([start.slope, start.shift]).detach()
    slips = {
        "They have not moved.": untouched,
        "The gradients of earlier steps still add up.": ends["piled up"],
        "A step is made with the gradient of the batch before: backward comes first.": (
            ends["step before"]
        ),
    }
    same(got, ends["cleared"], "What the weights are at the end", slips, tolerance=2e-6)


def suspect(number: str) -> Callable[..., Any]:
    """The line with a bug that exercise `number` is about, as a function; here "05.8" alone.

    Raises ValueError for an exercise that has none.
    """
    return hidden({"05.8": _upside_down}, number)


def _upside_down(
    network: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
) -> Tensor:
    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    return diffusion.regression_loss(network(x_t, t), x_0)


def step_loss(answer, generator):
    """(network, schedule, x_0, t, eps) -> the suspect's loss of each image, (B,)."""
    schedule, t = some_schedule(generator), some_t(generator)
    x_0, eps = some_images(generator)
    network = some_network(generator)

    def loss(seen: Tensor, t: Tensor, wanted: Tensor) -> Tensor:
        return ((network(seen, t) - wanted) ** 2).flatten(1).mean(1)

    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    v = diffusion.target_from(schedule, "v", x_0, eps, t)
    slips = {
        SOUND: loss(x_t, t, eps),
        "The loss of an image is the mean over its pixels.": 16 * loss(x_t, t, x_0),
        "With the clean picture as input, the suspect's loss would be zero.": loss(x_0, t, x_0),
        "A network that is shown x_0 and asked for eps cannot learn at all.": loss(x_0, t, eps),
        "The loss of v is high at both ends.": loss(x_t, t, v),
        "A wrong t would cost a little at every t.": loss(x_t, t - 1, eps),
        "Whoever returns what went in has a loss of 0 at once.": loss(x_t, t, x_t),
        "The suspect takes squares.": ((network(x_t, t) - x_0).abs().flatten(1).mean(1)),
        "The suspect takes no root.": loss(x_t, t, x_0).sqrt(),
        "That is the mean over the batch, repeated.": loss(x_t, t, x_0).mean().expand(len(t)),
        "Its answer is compared with one thing, not with two.": loss(x_t, t, x_0 - eps),
        "With a wrong t on top, it would be a little higher everywhere.": loss(x_t, t - 1, x_0),
    }
    got = answer(network, schedule, x_0, t, eps)
    right = _upside_down(network, schedule, x_0, t, eps)
    _one_for_each_image(got, torch.empty(len(x_0), x_0[0].numel()))
    same(got, right, "The loss of each image", slips)


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
            "Without the warm-up, a copy with a decay of 0.998 would still hold 13 % of its random "
            "start after a thousand steps."
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
        test=trapezoid,
        praise=(
            "Up gently, because Adam's first steps have the full length of the rate, whatever the "
            "gradient; down at the end, because a run that ends with long steps ends wherever the "
            "last batches have pushed it. A run may be made longer while the rate is level: "
            "nothing before the fall depends on the number of steps."
        ),
        hints=(
            "Three cases. How many steps does each of them have?",
            "Up: lr * step / warmup. Down: lr * (steps - step) / cooldown.",
            "The rate is lr times the smallest of three numbers, one of which is 1.",
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
    "05.7": Exercise(
        test=loop,
        beside=True,
        praise=(
            "That is all of training. The loss of each step was worked out again from what your "
            "network was shown, and so were its weights."
        ),
        hints=(
            (
                "Inside the loop: draw images, t and eps; make x_t; ask; loss; clear the "
                "gradients; backward; step; note the loss."
            ),
            (
                "x[torch.randint(len(x), (batch,), generator=generator)] draws the images; "
                "t comes from 1..schedule.T, and torch.randint leaves its upper end out."
            ),
            "diffusion.q_sample(schedule, x_0, t, eps) makes x_t; loss.item() is a number.",
        ),
        forbidden=("training_step", "algorithm_1"),
    ),
    "05.8": Exercise(
        test=step_loss,
        praise=(
            "The network learned x_0, and whoever samples from it takes its answer for noise. The "
            "total looked healthy; only the loss by t stood upside down."
        ),
        hints=(
            "At small t a noisy picture is nearly the picture. Which question is easy there?",
            "The suspect sees what it should see. What is its answer compared with?",
        ),
        forbidden=("suspect",),
    ),
}
