"""Checks of the exercises of notebook 04b: published networks, and what everything costs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import Exercise, between, hidden, same


def linear_attention(answer, generator):
    """(q, k, v), each (N, c) -> (N, c), by way of a small summary."""
    c = int(torch.randint(3, 9, (), generator=generator))
    N = c + int(torch.randint(3, 6, (), generator=generator))  # neither c nor c^2
    q, k, v = (torch.randn(N, c, generator=generator, dtype=torch.float64) for _ in range(3))
    queries, keys = q.softmax(1), k.softmax(0)
    right = queries / c**0.5 @ (keys.T @ v)
    slips = {
        "That is full attention; here the softmax is taken before the products.": (
            (q @ k.T / c**0.5).softmax(1) @ v
        ),
        "The queries are not divided by the root yet.": queries @ (keys.T @ v),
        "The keys' softmax runs over the channels.": queries / c**0.5 @ (k.softmax(1).T @ v),
        "The queries' softmax runs over the places.": q.softmax(0) / c**0.5 @ (keys.T @ v),
        "Divided by channels, not by their root.": queries / c @ (keys.T @ v),
        "The softmax of the keys is missing.": queries / c**0.5 @ (k.T @ v),
        "The softmax of the queries is missing.": q / c**0.5 @ (keys.T @ v),
        "Neither softmax is there.": q / c**0.5 @ (k.T @ v),
        "Both softmaxes run over the wrong axis.": (q.softmax(0) / c**0.5 @ (k.softmax(1).T @ v)),
        "The root is that of the number of places; count the channels.": (
            queries / N**0.5 @ (keys.T @ v)
        ),
        "Divided before the softmax; here the queries are divided after it.": (
            (q / c**0.5).softmax(1) @ (keys.T @ v)
        ),
        "The queries are multiplied by the root.": queries * c**0.5 @ (keys.T @ v),
        "The summary is turned round: a row for each channel of the keys.": (
            queries / c**0.5 @ (v.T @ keys)
        ),
    }
    same(answer(q, k, v), right, "What the places get", slips)


def dit_block(answer, generator):
    """(x, modulation, attend, mlp) -> the rows behind a block, (N, d)."""
    N, d = (int(torch.randint(3, 9, (), generator=generator)) for _ in range(2))
    x = torch.randn(N, d + 2, generator=generator, dtype=torch.float64)
    x = 1 + x * torch.tensor([0.003] + [2.0] * (N - 1))[:, None]  # one row is nearly even
    six = torch.randn(6, d + 2, generator=generator, dtype=torch.float64)
    mix = torch.randn(N, N, generator=generator, dtype=torch.float64)

    def attend(rows: Tensor) -> Tensor:
        return mix @ rows

    def mlp(rows: Tensor) -> Tensor:
        return rows.sin()

    functions = attend, mlp
    slips = _slips_of_halves(x, six, functions) | _slips_of_rows(x, six, functions)
    got = answer(x, six, attend, mlp)
    same(got, _block(x, six, functions), "What the block returns", slips, 1e-4)


def _half(
    rows: Tensor,
    modulation: Tensor,
    function: Callable,
    normal: Callable | None = None,
    scale_0: float = 1,
    gate_0: float = 0,
) -> Tensor:
    """What one half adds to its rows; modulation: (3, d)."""
    shift, scale, gate = modulation
    normalised = (normal or _normal)(rows)
    return (gate_0 + gate) * function(normalised * (scale_0 + scale) + shift)


def _block(x: Tensor, six: Tensor, functions: tuple, half: Callable = _half, **slip) -> Tensor:
    """Both halves, one after the other."""
    x = x + half(x, six[:3], functions[0], **slip)
    return x + half(x, six[3:], functions[1], **slip)


def _slips_of_halves(x: Tensor, six: Tensor, functions: tuple) -> dict[str, Tensor]:
    """What known mistakes with the two halves would give, by what is said of them."""
    one, two = six[:3], six[3:]
    attend, mlp = functions
    alone = _half(x, one, attend)
    first = x + alone
    ungated = torch.ones_like(six[0])

    def shifted_first(rows: Tensor, m: Tensor, f: Callable) -> Tensor:
        return m[2] * f((_normal(rows) + m[0]) * (1 + m[1]))

    return {
        "A scale of zero should leave the rows as they are.": _block(x, six, functions, scale_0=0),
        "The gates are missing.": _block(
            x, torch.stack([*one[:2], ungated, *two[:2], ungated]), functions
        ),
        "A gate of zero should leave nothing of its half.": _block(x, six, functions, gate_0=1),
        "The mlp sees the rows as they were before the attention.": first + _half(x, two, mlp),
        "Only the attention's half is there.": first,
        "x itself is not carried on.": _block(x, six, functions) - x,
        "x itself is not carried on into the second half.": alone + _half(alone, two, mlp),
        "The second half begins at what the first has returned, and adds to that.": (
            x + _half(first, two, mlp)
        ),
        "The attention comes first, and the mlp behind it.": _block(x, six, (mlp, attend)),
        "Of the six, the shift comes first and the scale behind it.": (
            _block(x, six[[1, 0, 2, 4, 3, 5]], functions)
        ),
        "The order of the six is another one.": _block(x, six[[1, 2, 0, 4, 5, 3]], functions),
        "The shift comes after the scale, and is not scaled itself.": (
            _block(x, six, functions, shifted_first)
        ),
    }


def _slips_of_rows(x: Tensor, six: Tensor, functions: tuple) -> dict[str, Tensor]:
    """What rows that are normalised otherwise would give, by what is said of them."""
    normals = {
        "The rows are not normalised.": lambda rows: rows,
        "The 1e-5 is missing, which a row of nearly equal numbers needs.": (
            lambda rows: _normal(rows, 0)
        ),
        "The 1e-5 joins the variance, before the root is taken.": (
            lambda rows: (rows - _mean(rows)) / (_spread(rows).sqrt() + 1e-5)
        ),
        "The variance is the mean of d squares, not their sum divided by d - 1.": (
            lambda rows: (rows - _mean(rows)) / (_spread(rows, 1) + 1e-5).sqrt()
        ),
        "Each row by itself should have mean 0 and variance 1.": lambda rows: _normal(rows.T).T,
        "Each row by itself should have mean 0 and variance 1, not all of them together.": (
            lambda rows: _normal(rows.flatten()).view_as(rows)
        ),
    }
    return {said: _block(x, six, functions, normal=normal) for said, normal in normals.items()}


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(1, keepdim=True)


def _spread(rows: Tensor, correction: int = 0) -> Tensor:
    return rows.var(1, keepdim=True, correction=correction)


def _normal(rows: Tensor, small: float = 1e-5) -> Tensor:
    variance, mean = torch.var_mean(rows, dim=-1, keepdim=True, correction=0)
    return (rows - mean) * (variance + small).rsqrt()


def suspect(number: str) -> Callable[..., Any]:
    """The line with a bug that exercise `number` is about, as a function; here "04b.3" alone.

    Raises ValueError for an exercise that has none.
    """
    return hidden({"04b.3": _standardised}, number)


def _standardised(weight: Tensor) -> Tensor:
    variance = weight.var(dim=(1, 2, 3), keepdim=True, correction=0)  # (C_out, 1, 1, 1)
    return weight * (variance + 1e-5).rsqrt()


def _slips_of_filters(weight: Tensor) -> dict[str, Tensor]:
    """What known mistakes would give, by what is said of them."""
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
    root = (variance + 1e-5).rsqrt()

    def divided(spread: Tensor) -> Tensor:
        return weight * (spread + 1e-5).rsqrt()

    return {
        "That is the library's line, and it has no slip in it.": (weight - mean) * root,
        "Then the filters would answer to grey less than their weights say.": weight - mean,
        "Nothing is divided; compare the suspect's spread with that of the raw filters.": weight,
        "The 1e-5 is missing.": weight * (variance**-0.5),
        "The mean went the wrong way: grey would count twice.": (weight + mean) * root,
        "A root is missing.": weight / (variance + 1e-5),
        "The suspect divides by the root, and does not multiply.": weight / root,
        "The 1e-5 joins the variance, before the root is taken.": (
            weight / (variance.sqrt() + 1e-5)
        ),
        "A variance is the mean of n squares here, not their sum divided by n - 1.": (
            divided(weight.var((1, 2, 3), keepdim=True))
        ),
        "Each filter has a spread of its own.": divided(weight.var(correction=0)),
        "Each filter has a spread of its own, over all places and channels.": (
            divided(weight.var(0, keepdim=True, correction=0))
        ),
        "The spread of a filter is taken over all channels that come in.": (
            divided(weight.var((2, 3), keepdim=True, correction=0))
        ),
        "That divides by the length of a filter, not by the spread of its numbers.": (
            weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        ),
    }


def standardised(answer, generator):
    """Filters (C_out, C_in, k, k) -> what the suspect makes of them."""
    weight = between(-1, 2, generator, 4, 2, 3, 3)
    weight[0] *= 0.003  # a small filter, for which 1e-5 counts
    slips = _slips_of_filters(weight)
    same(answer(weight), _standardised(weight), "What becomes of the filters", slips)


EXERCISES = {
    "04b.1": Exercise(
        test=linear_attention,
        praise=(
            "The table of pairs is never made: N x N has become c x c. "
            "And no place can attend to one other place alone."
        ),
        hints=(
            "Which two of the three can be multiplied first, so that N drops out?",
            "The summary is k.softmax(0).T @ v, of shape (c, c).",
            "Then q.softmax(1) / q.shape[1] ** 0.5, times the summary.",
        ),
        forbidden=("LinearAttention", "scaled_dot_product_attention"),
    ),
    "04b.2": Exercise(
        test=dit_block,
        praise="Two halves of one form: normalise, steer by t, compute, open the gate, add.",
        hints=(
            "Both halves look alike: x + gate * f(normalised x * (1 + scale) + shift).",
            "The second half starts from what the first has returned, and normalises that anew.",
            (
                "Normalised: (x - x.mean(1, keepdim=True)) divided by the root of "
                "x.var(1, keepdim=True, correction=0) + 1e-5."
            ),
        ),
        forbidden=("DiTBlock",),
    ),
    "04b.3": Exercise(
        test=standardised,
        praise=(
            "The mean was not subtracted. An even grey meets all weights with the same brightness, "
            "so its answer is the filter's sum, which should be zero."
        ),
        hints=(
            "What does a filter answer to a patch whose pixels are all equal to b?",
            "b times the sum of its weights. When is that zero? What does standardising do first?",
        ),
        forbidden=("suspect", "StandardizedConv2d"),
    ),
}
