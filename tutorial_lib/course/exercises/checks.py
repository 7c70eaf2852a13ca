"""What an answer to each exercise has to fulfil.

A test takes the answer and a source of fresh inputs, and raises `Wrong` at the first thing that is
not right.  It says what is wrong, and which well-known slip that looks like, but never what would
have been right.  Statements and stubs stand in the notebooks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutorial_lib import markov, schedule


class Wrong(Exception):
    """The first thing that is wrong with an answer, in words for its author."""


@dataclass(frozen=True)
class Exercise:
    """test: (answer, source of random inputs), raises Wrong.  hints: each says more than the one
    before.

    praise: what to notice once it works.  forbidden: the functions that the answer is to replace.
    """

    test: Callable[[Any, torch.Generator], None]
    hints: tuple[str, ...]
    praise: str
    forbidden: tuple[Callable, ...]


EXERCISES: dict[str, Exercise] = {}


def exercise(
    number: str, praise: str, *hints: str, forbidden: tuple[Callable, ...] = ()
) -> Callable:
    """Enter the test below it as that of exercise `number`."""

    def enter(test: Callable[[Any, torch.Generator], None]) -> Callable:
        EXERCISES[number] = Exercise(test, hints, praise, forbidden)
        return test

    return enter


def same(
    got: Any, expected: Any, what: str, slips: dict[str, Any] | None = None, tolerance: float = 1e-5
) -> None:
    """Raise Wrong unless got equals expected: by kind, shape and numbers.  slips: what known
    mistakes would give.

    tolerance: relative and absolute.
    """
    if got is None:
        raise Wrong(f"{what}: nothing came back. Is a `return` missing?")
    expected = torch.as_tensor(expected)
    try:
        got = torch.as_tensor(got)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what} should be numbers, got {type(got).__name__}.") from None
    if expected.ndim == 0 and got.numel() == 1:
        got = got.reshape(())
    if got.shape != expected.shape and expected.ndim == 0:
        raise Wrong(f"{what} should be a single number, got {got.numel()} of them.")
    if got.shape != expected.shape:
        raise Wrong(f"{what} should have shape {tuple(expected.shape)}, got {tuple(got.shape)}.")
    got = got.detach().double()
    if not got.isfinite().all():
        raise Wrong(f"{what} contains values that are no finite numbers.")
    for said, slip in {"": expected, **(slips or {})}.items():
        slip = torch.as_tensor(slip).double()
        if slip.shape == got.shape and torch.allclose(got, slip, rtol=tolerance, atol=tolerance):
            if said:
                raise Wrong(f"{what} is not right. {said}")
            return
    gap = (got - expected.double()).abs()
    at = (
        ""
        if gap.ndim == 0
        else f", at worst at place {tuple(int(i) for i in (gap == gap.max()).nonzero()[0])}"
    )
    raise Wrong(f"{what} is off by {float(gap.max()):.3g}{at}.")


def true(holds: bool | Tensor, said: str) -> None:
    """Raise Wrong with these words unless it holds."""
    if not holds:
        raise Wrong(said)


def pair(got: Any, what: str) -> tuple[Any, Any]:
    """The two things that came back.  Raises Wrong if there are not two; what: their names."""
    true(got is not None, "Nothing came back. Is a `return` missing?")
    true(isinstance(got, (tuple, list)) and len(got) == 2, f"It should return two things, {what}.")
    return got[0], got[1]


def between(low: float, high: float, z: torch.Generator, *shape: int) -> Tensor:
    """Uniform random numbers in [low, high), float64, of the given shape."""
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=z)


def some_chain(z: torch.Generator, size: int = 4) -> Tensor:
    """A random transition matrix without zeros."""
    return markov.transition_matrix((w := between(0.1, 1, z, size, size)) / w.sum(1, keepdim=True))


def some_schedule(z: torch.Generator, T: int = 20) -> schedule.NoiseSchedule:
    """A random schedule that ends in noise."""
    return schedule.from_betas(between(0.15, 0.6, z, T).sort().values)


def some_images(z: torch.Generator, count: int = 3) -> tuple[Tensor, Tensor]:
    """Small images in [-1, 1] and noise, (count, 1, 4, 4) each, float64."""
    x_0 = between(-1, 1, z, count, 1, 4, 4)
    return x_0, torch.randn(x_0.shape, dtype=torch.float64, generator=z)


def some_t(z: torch.Generator, count: int = 3, T: int = 20) -> Tensor:
    """A step for each image, from 2 on."""
    return torch.randint(2, T + 1, (count,), generator=z)
