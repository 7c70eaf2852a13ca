"""Checks of the exercises of notebook 05b: faster and better."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib.course.exercises.checks import Exercise, between, hidden, same, true

SOUND = "That is the library's line, and it has no slip in it."


def half_life(answer, generator):
    """d -> after how many steps a weight's share in the average has halved, a real number."""
    # at the first no two slips give nearly the same number
    for d in (float(between(0.26, 0.3, generator)), float(between(0.9, 0.999, generator))):
        right = math.log(0.5) / math.log(d)
        slips = {
            "That is how far the average reaches back; a share falls to 1 / e meanwhile, not to "
            "1 / 2.": 1 / (1 - d),
            "That is the time until it has fallen to 1 / e.": -1 / math.log(d),
            "Near, and only for d near 1.": math.log(2) / (1 - d),
            "Steps are counted upwards: a sign is lost.": -right,
            "It is upside down.": 1 / right,
            "A real number is asked for; yours is rounded up.": math.ceil(right),
            "A real number is asked for; yours is rounded down.": math.floor(right),
            "A logarithm is missing above the line.": 0.5 / math.log(d),
            "A share is multiplied by d, not by 1 - d.": math.log(0.5) / math.log(1 - d),
            "The share shrinks by a factor at each step, not by an amount.": (0.5 / (1 - d)),
        }
        what = f"The half-life for d = {d:.4f}"
        same(answer(d), right, what, slips, tolerance=2e-4)  # 32 bits are enough


def accumulate(answer, generator):
    """(network, loss, x, y, pieces): leaves the gradient of the mean loss in the parameters."""
    for count, pieces in ((10, 4), (7, 3)):  # torch.chunk makes 3 + 3 + 3 + 1 and 3 + 3 + 1 of it
        _accumulates(answer, generator, count, pieces)


def _accumulates(answer, generator: torch.Generator, count: int, pieces: int) -> None:
    """Raise Wrong unless the gradient of so many images in so many pieces is there."""
    x, y = torch.randn(2, count, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    shown = []

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        shown.append(len(x))
        return (network(x) - y).square().mean(1)

    def gradient(parts: list[Tensor], share: Callable[[Tensor], float]) -> Tensor:
        whole = torch.zeros_like(weight)
        for part in parts:
            residual = x[part] @ weight.T - y[part]  # (n, 3)
            whole = whole + share(part) * 2 * residual.T @ x[part] / (3 * len(part))
        return whole

    parts = list(torch.arange(count).chunk(pieces))
    network = nn.Linear(3, 3, bias=False, dtype=torch.float64)
    network.weight.data = weight.clone()
    answer(network, loss, x, y, pieces)
    true(network.weight.grad is not None, "No gradient is there. Call backward for each piece.")
    slips = {
        "Each piece counts in full, as if it were the whole batch.": gradient(
            parts, lambda part: 1
        ),
        "The last piece has one image, and counts as much as one of three.": (
            gradient(parts, lambda part: 1 / len(parts))
        ),
        "The sum over the images, not their mean.": gradient(parts, len),
        "The sum over the images, divided by the number of pieces.": (
            gradient(parts, lambda part: len(part) / len(parts))
        ),
        "Only the last piece is left.": gradient(parts[-1:], lambda part: len(part) / count),
        "Only the last piece is left, and counts as one of several.": (
            gradient(parts[-1:], lambda part: 1 / len(parts))
        ),
        "Only the first piece is there.": gradient(parts[:1], lambda part: len(part) / count),
        "The last piece is missing.": gradient(parts[:-1], lambda part: len(part) / count),
        "The share of a piece counts twice.": (
            gradient(parts, lambda part: (len(part) / count) ** 2)
        ),
        "Its sign is turned round.": -gradient(parts, lambda part: len(part) / count),
        "It is the gradient of the last piece alone.": gradient(parts[-1:], lambda part: 1),
    }
    right = gradient(parts, lambda part: len(part) / count)
    same(network.weight.grad, right, "The gradient", slips)
    true(
        max(shown) <= 3,
        f"{max(shown)} images were shown at once; {count} in {pieces} pieces are 3 at most.",
    )


def orthogonal(answer, generator):
    """(G, rounds) -> U p(p(...(S))) V^T for G = U S V^T and p(s) = 1.5 s - 0.5 s^3."""
    for shape, rounds in (((3, 5), 1), ((4, 4), 2), ((3, 5), 3)):
        G = torch.randn(*shape, generator=generator, dtype=torch.float64)
        u, s, vt = torch.linalg.svd(G, full_matrices=False)

        def after(s: Tensor, times: int, u: Tensor = u, vt: Tensor = vt) -> Tensor:
            for _ in range(times):
                s = 1.5 * s - 0.5 * s**3
            return u @ s.diag() @ vt

        scaled = s / s.norm()
        slips = {
            "The matrix is not scaled before the first round.": after(s, rounds),
            "It is scaled by its largest singular value, not by its length as one long vector.": (
                after(s / s[0], rounds)
            ),
            "One round is missing.": after(scaled, rounds - 1),
            "One round too many.": after(scaled, rounds + 1),
            "All singular values are 1; so few rounds do not get that far.": u @ vt,
            "Scaled anew in each round; once is enough.": _polished(G, rounds, again=True),
            "Cubed number by number; the matrix X X^T X is meant.": _polished(
                G, rounds, cubed=True
            ),
            "The signs: 1.5 minus 0.5.": _polished(G, rounds, c=0.5),
            "1.5 and 0.5 have changed places.": _polished(G, rounds, 0.5, -1.5),
            "Those are Muon's numbers, without its fifth power.": (
                _polished(G, rounds, 3.4445, -4.7750)
            ),
        }
        what = f"The matrix after {rounds} round" + "s" * (rounds > 1)
        same(answer(G, rounds), after(scaled, rounds), what, slips)


def _polished(
    G: Tensor,
    rounds: int,
    a: float = 1.5,
    c: float = -0.5,
    again: bool = False,
    cubed: bool = False,
) -> Tensor:
    """Some rounds of a X + c X X^T X, with slips: scaled again, or cubed number by number."""
    X = G / G.norm()
    for _ in range(rounds):
        X = X / X.norm() if again else X
        X = a * X + c * (X**3 if cubed else X @ X.T @ X)
    return X


def suspect(number: str) -> Callable[..., Any]:
    """The line with a bug that exercise `number` is about, as a function; here "05b.4" alone.

    Raises ValueError for an exercise that has none.
    """
    return hidden({"05b.4": _rate}, number)


def _rate(step: int, steps: int, warmup: int, lr: float) -> float:
    if step <= warmup:
        return lr * step / warmup
    return lr * (1 - math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def rate(answer, generator):
    """(step, steps, warmup, lr) -> the suspect's learning rate."""
    steps = int(torch.randint(80, 200, (), generator=generator))
    warmup = int(torch.randint(8, 20, (), generator=generator))
    lr = float(between(0.001, 0.01, generator))
    # behind the warm-up a third of the way tells slips apart best
    for step in (1, warmup, (warmup + steps) // 3, warmup + 1, (warmup + steps) // 2, steps):
        slips = _slips_of_rate(step, steps, warmup, lr)
        what = f"The rate at step {step} of {steps} (warmup {warmup}, lr {lr:.4f})"
        right = _rate(step, steps, warmup, lr)
        same(answer(step, steps, warmup, lr), right, what, slips, tolerance=1e-8)


def _slips_of_rate(step: int, steps: int, warmup: int, lr: float) -> dict[str, float]:
    """What known mistakes would give, by what is said of them."""
    no_lr = {"`lr` itself is missing.": _rate(step, steps, warmup, 1.0)}
    early = lr * (1 - math.cos(math.pi * step / steps)) / 2
    if step <= warmup:
        return no_lr | {
            "The suspect learns during the warm-up.": early,
            "The suspect's rate is not at its height at once.": lr,
            "The suspect's rate is above 0 from the first step on.": lr * (step - 1) / warmup,
        }
    done = (step - warmup) / (steps - warmup)
    return no_lr | {
        SOUND: lr * (1 + math.cos(math.pi * done)) / 2,
        "A constant rate would not stand still after the warm-up.": lr,
        "A straight line up would learn sooner after the warm-up.": lr * done,
        "A straight line down would be good at the end.": lr * (1 - done),
        "Twice as high: the suspect ends at lr.": lr * (1 - math.cos(math.pi * done)),
        "The suspect's rate is never negative.": -lr * math.cos(math.pi * done),
        "The suspect ends at its highest; yours comes back.": (
            lr * (1 - math.cos(2 * math.pi * done)) / 2
        ),
        "A quarter of a turn only; the suspect makes half a turn.": (
            lr * (1 - math.cos(math.pi / 2 * done))
        ),
        "The suspect's half cosine fills the steps after the warm-up, and no more.": (
            lr * (1 - math.cos(math.pi * (step - warmup) / steps)) / 2
        ),
        "The suspect's half cosine begins after the warm-up.": early,
    }


EXERCISES = {
    "05b.1": Exercise(
        test=half_life,
        praise=(
            "For d = 0.998 that is 346 steps. An average that is updated only at every tenth step "
            "with 0.995 has the half-life of 0.9995 at each step: 1,383 steps."
        ),
        hints=(
            "After j more steps a weight's share has been multiplied by d, j times.",
            "Solve d^j = 1/2 for j.",
        ),
    ),
    "05b.2": Exercise(
        test=accumulate,
        beside=True,
        praise="Each image counts the same, however the batch is cut: a piece has its own weight.",
        hints=(
            "x.chunk(pieces) and y.chunk(pieces) cut both alike. How many images has each piece?",
            "PyTorch adds up the gradients of several calls of backward.",
            "The mean over a piece, times its share of the images, then backward.",
        ),
    ),
    "05b.3": Exercise(
        test=orthogonal,
        praise=(
            "Products only, no decomposition. This cubic creeps up to 1 and never overshoots; "
            "Muon's polynomial hurries, and is content with about 1."
        ),
        hints=(
            "Which product of X's and X^T's turns every s into s^3 and leaves U and V alone?",
            "X X^T X. One round is 1.5 X - 0.5 X X^T X; before the first, X = G / G.norm().",
        ),
        forbidden=("orthogonalize", "svd", "svdvals", "eigh", "qr", "polar"),
    ),
    "05b.4": Exercise(
        test=rate,
        praise=(
            "A minus in the place of a plus: half a cosine up. The rate falls to nothing right "
            "after the warm-up, and ends at its highest."
        ),
        hints=(
            "When does the suspect's loss stand still, and when is it rough?",
            "After the warm-up the rate begins at 0. Where does it end?",
            "Half a cosine again, but the other way round.",
        ),
        forbidden=("suspect",),
    ),
}
