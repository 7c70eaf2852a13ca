"""Checks of the exercises of notebook 04b: published networks, and what everything costs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import Exercise, between, hidden, same


def linear_attention(answer, generator):
    """(q, k, v), each (N, c) -> (N, c), by way of a small summary."""
    c, more = (int(torch.randint(3, 9, (), generator=generator)) for _ in range(2))
    N = c + more  # never equal to c: a root of N would pass
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

    first = x + six[2] * attend(_normal(x) * (1 + six[1]) + six[0])
    second = six[5] * mlp(_normal(x) * (1 + six[4]) + six[3])
    slips = {
        "A scale of zero should leave the rows as they are.": block(scale=0),
        "The gates are missing.": block(gates=False),
        "The rows are not normalised.": block(normal=lambda rows: rows),
        "The mlp sees the rows as they were before the attention.": first + second,
        "Only the attention's half is there.": first,
        "x itself is not carried on.": block() - x,
        "The 1e-5 is missing, which a row of nearly equal numbers needs.": (
            block(normal=lambda rows: _normal(rows, 0))
        ),
    }
    same(answer(x, six, attend, mlp), block(), "The rows behind the block", slips, 1e-4)


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
    slips = {
        "That is the library's line, and it has no slip in it.": (weight - mean) * root,
        "Then the filters would answer to grey less than their weights say.": weight - mean,
        "Nothing is divided; compare the suspect's spread with that of the raw filters.": weight,
        "The 1e-5 is missing.": weight * (variance**-0.5),
        "The mean went the wrong way: the answer to grey would be twice as strong.": (
            (weight + mean) * root
        ),
    }
    same(answer(weight), _standardised(weight), "The filters", slips)


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
