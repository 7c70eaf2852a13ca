"""What the checks of all notebooks share: the form of an exercise, comparisons, random inputs.

A check takes an answer and a generator of fresh inputs, and raises `Wrong` at the first thing that
is not right.  It says what is wrong, and which well-known slip that looks like, but never what
would have been right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutorial_lib.markov import transition_matrix
from tutorial_lib.schedule import NoiseSchedule, from_betas


class Wrong(Exception):
    """The first thing that is wrong with an answer, in words for its author."""


@dataclass(frozen=True)
class Exercise:
    """An exercise, but for its statement and its solution.

    test: (answer, generator of random inputs), raises Wrong.
    praise: what to notice once it works.
    hints: each says more than the one before.
    forbidden: names that the answer's code may not use.
    beside: whether the check needs the answer's own objects, or changes made to its own, networks
    and optimisers for example; in an exam it then runs in one process with the answer.
    """

    test: Callable[[Any, torch.Generator], None]
    praise: str
    hints: tuple[str, ...]
    forbidden: tuple[str, ...] = ()
    beside: bool = False


def same(
    got: Any,
    expected: Any,
    what: str,
    slips: dict[str, Any] | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Raise Wrong unless got equals expected: by kind, shape and numbers.

    what: the name of the result.
    slips: what known mistakes would give, by what is said of them.
    tolerance: relative and absolute.
    """
    expected = torch.as_tensor(expected)
    got = _as_numbers(got, expected, what)
    if _close(got, expected, tolerance):
        return
    for said, slip in (slips or {}).items():
        if _close(got, torch.as_tensor(slip), tolerance):
            raise Wrong(f"{what} is not right. {said}")
    gap = (got - expected.double()).abs()
    where = ""
    if gap.ndim > 0:
        worst = (gap == gap.max()).nonzero()[0]
        where = f", at worst at place {tuple(worst.tolist())}"
    raise Wrong(f"{what} is off by {float(gap.max()):.3g}{where}.")


def _as_numbers(got: Any, expected: Tensor, what: str) -> Tensor:
    """`got` in float64.  Raises Wrong unless it is finite numbers in the shape of `expected`."""
    if got is None:
        raise Wrong(f"{what}: nothing came back. Is a `return` missing?")
    got = numbers(got, what)
    if expected.ndim == 0 and got.numel() == 1:
        got = got.reshape(())
    if got.shape != expected.shape and expected.ndim == 0:
        raise Wrong(f"{what} should be a single number, got {got.numel()} of them.")
    if got.shape != expected.shape:
        raise Wrong(f"{what} should have shape {tuple(expected.shape)}, got {tuple(got.shape)}.")
    if not got.isfinite().all():
        raise Wrong(f"{what} contains values that are no finite numbers.")
    return got


def numbers(got: Any, what: str) -> Tensor:
    """`got` in float64: a number, an array, a tensor on any device, or a list of such.

    Raises Wrong for anything else, and for complex numbers that are not real.
    """
    try:
        if isinstance(got, (list, tuple)) and any(isinstance(one, Tensor) for one in got):
            got = torch.stack([torch.as_tensor(one) for one in got])
        if isinstance(got, Real):
            got = np.float64(got)  # PyTorch would make 32 bits of a number of Python's
        got = torch.as_tensor(got).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what} should be numbers, got {type(got).__name__}.") from None
    if got.is_complex():
        true(not got.imag.any(), f"{what} should be real, and has complex numbers.")
        got = got.real
    return got.double()


def _close(got: Tensor, other: Tensor, tolerance: float) -> bool:
    other = other.double()
    return got.shape == other.shape and torch.allclose(got, other, rtol=tolerance, atol=tolerance)


def true(holds: bool | Tensor, said: str) -> None:
    """Raise Wrong with these words unless it holds."""
    if not holds:
        raise Wrong(said)


def returned(got: Any) -> None:
    """Raise Wrong if nothing came back."""
    true(got is not None, "Nothing came back. Is a `return` missing?")


def pair(got: Any, what: str) -> tuple[Any, Any]:
    """The two things that came back.  Raises Wrong if there are not two; what: their names."""
    returned(got)
    array = isinstance(got, (Tensor, np.ndarray)) and got.ndim > 0
    true(
        (array or isinstance(got, (tuple, list))) and len(got) == 2,
        f"It should return two things, {what}.",
    )
    return got[0], got[1]


def between(low: float, high: float, generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform random numbers in [low, high), float64, of the given shape."""
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)


def some_distribution(generator: torch.Generator, size: int = 4, lowest: float = 0.1) -> Tensor:
    """Random probabilities that sum to 1, (size,)."""
    weight = between(lowest, 1, generator, size)
    return weight / weight.sum()


def some_chain(generator: torch.Generator, size: int = 4) -> Tensor:
    """A random transition matrix without zeros, (size, size)."""
    weight = between(0.1, 1, generator, size, size)
    return transition_matrix(weight / weight.sum(1, keepdim=True))


def some_schedule(generator: torch.Generator, T: int = 20) -> NoiseSchedule:
    """A random schedule that ends in noise."""
    beta = between(0.15, 0.6, generator, T)
    return from_betas(beta.sort().values)


def some_images(generator: torch.Generator, count: int = 3) -> tuple[Tensor, Tensor]:
    """Small images in [-1, 1] and noise, (count, 1, 4, 4) each, float64."""
    x_0 = between(-1, 1, generator, count, 1, 4, 4)
    eps = torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
    return x_0, eps


def some_network(generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """In the place of a network for images: a slope times x, and more of t / 20 at later steps."""
    slope = between(0.2, 0.8, generator)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return slope * x + t.view(-1, 1, 1, 1) / 20

    return network


def hidden(suspects: dict[str, Callable[..., Any]], number: str) -> Callable[..., Any]:
    """The suspect of an exercise, as a function whose source says nothing.

    Raises ValueError for an exercise that has none.
    """
    if number not in suspects:
        raise ValueError(f"there is no suspect {number!r}; there are {', '.join(suspects)}")

    def suspect(*inputs: Any) -> Any:
        """A line of the library with one slip in it."""
        return suspects[number](*inputs)

    return suspect


def some_t(generator: torch.Generator, count: int = 3, T: int = 20) -> Tensor:
    """A step for each image, from 2 to T: (count,) integers."""
    return torch.randint(2, T + 1, (count,), generator=generator)
