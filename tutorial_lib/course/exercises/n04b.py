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

    def block(scale: float = 1, gates: bool = True, normal: Callable = _normal) -> Tensor:
        gate = (six[2], six[5]) if gates else (1, 1)
        h = x + gate[0] * attend(normal(x) * (scale + six[1]) + six[0])
        return h + gate[1] * mlp(normal(h) * (scale + six[4]) + six[3])

    def reordered(*order: int) -> Tensor:
        h = x
        for half, f in ((six[:3], attend), (six[3:], mlp)):
            shift, scale, gate = half[list(order)]
            h = h + gate * f(_normal(h) * (1 + scale) + shift)
        return h

    def half(h: Tensor, m: Tensor, f: Callable, gate: float = 0) -> Tensor:
        return (gate + m[2]) * f(_normal(h) * (1 + m[1]) + m[0])

    def shifted_first(h: Tensor, m: Tensor, f: Callable) -> Tensor:
        return h + m[2] * f((_normal(h) + m[0]) * (1 + m[1]))

    first = x + half(x, six[:3], attend)
    ahead = x + half(x, six[:3], attend, gate=1)
    alone = first - x
    swapped = x + half(x, six[:3], mlp)
    slips = {
        "A scale of zero should leave the rows as they are.": block(scale=0),
        "The gates are missing.": block(gates=False),
        "A gate of zero should leave nothing of its half.": (
            ahead + half(ahead, six[3:], mlp, gate=1)
        ),
        "The rows are not normalised.": block(normal=lambda rows: rows),
        "The mlp sees the rows as they were before the attention.": (first + half(x, six[3:], mlp)),
        "Only the attention's half is there.": first,
        "x itself is not carried on.": block() - x,
        "x itself is not carried on into the second half.": alone + half(alone, six[3:], mlp),
        "The second half begins at what the first has returned, and adds to that.": (
            x + half(first, six[3:], mlp)
        ),
        "The attention comes first, and the mlp behind it.": (
            swapped + half(swapped, six[3:], attend)
        ),
        "Of the six, the shift comes first and the scale behind it.": reordered(1, 0, 2),
        "The order of the six is another one.": reordered(1, 2, 0),
        "The shift comes after the scale, and is not scaled itself.": (
            shifted_first(shifted_first(x, six[:3], attend), six[3:], mlp)
        ),
        "The 1e-5 is missing, which a row of nearly equal numbers needs.": (
            block(normal=lambda rows: _normal(rows, 0))
        ),
        "The 1e-5 joins the variance, before the root is taken.": (
            block(normal=lambda rows: (rows - _mean(rows)) / (_spread(rows).sqrt() + 1e-5))
        ),
        "The variance is the mean of d squares, not their sum divided by d - 1.": (
            block(normal=lambda rows: (rows - _mean(rows)) / (_spread(rows, 1) + 1e-5).sqrt())
        ),
        "Each row by itself should have mean 0 and variance 1.": block(
            normal=lambda rows: _normal(rows.T).T
        ),
        "Each row by itself should have mean 0 and variance 1, not all of them together.": (
            block(normal=lambda rows: _normal(rows.flatten()).view_as(rows))
        ),
    }
    got = answer(x, six, attend, mlp)
    same(got, block(), "What the block returns", slips, 1e-4)


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


def standardised(answer, generator):
    """Filters (C_out, C_in, k, k) -> what the suspect makes of them."""
    weight = between(-1, 2, generator, 4, 2, 3, 3)
    weight[0] *= 0.003  # a small filter, for which 1e-5 counts
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
    root = (variance + 1e-5).rsqrt()

    def divided(spread: Tensor) -> Tensor:
        return weight * (spread + 1e-5).rsqrt()

    slips = {
        "That is the library's line, and it has no slip in it.": (weight - mean) * root,
        "Then the filters would answer to grey less than their weights say.": weight - mean,
        "Nothing is divided; compare the suspect's spread with that of the raw filters.": weight,
        "The 1e-5 is missing.": weight * (variance**-0.5),
        "The mean went the wrong way: the answer to grey would be twice as strong.": (
            (weight + mean) * root
        ),
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
