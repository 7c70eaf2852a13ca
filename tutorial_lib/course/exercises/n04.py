"""Checks of the exercises of notebook 04: U-Net building blocks."""

import torch
from torch import nn
from torch.nn import functional as F

from tutorial_lib.course.exercises.checks import Exercise, returned, same, true
from tutorial_lib.nets import blocks

CONVOLUTIONS = ("Conv2d", "StandardizedConv2d", "conv2d")
WINDOWS = ("MaxPool2d", "max_pool2d", "Unfold", "unfold")


def convolution_parameters(answer, generator):
    """(channels_in, channels_out, k) -> how many parameters a k x k convolution with bias has."""
    some_channels = torch.randint(1, 30, (2,), generator=generator).tolist()
    for channels_in, channels_out, k in ((4, 48, 3), (*some_channels, 5)):
        convolution = nn.Conv2d(channels_in, channels_out, k)
        right = sum(p.numel() for p in convolution.parameters())
        without_bias = right - channels_out
        slips = {
            "The biases are missing: one for each filter.": without_bias,
            "There is one bias for each channel that comes out.": without_bias + channels_in,
            "One bias in all?": without_bias + 1,
        }
        what = f"The number for {channels_in} to {channels_out} channels, {k} x {k}"
        same(answer(channels_in, channels_out, k), right, what, slips)


def convolution_size(answer, generator):
    """(size, k, stride, padding) -> the size of what comes out."""
    cases = [(28, 3, 2, 1), (27, 3, 2, 1), (14, 4, 2, 1), (28, 5, 1, 0)]
    for size, k, stride, padding in _three_rows(generator, 31, 5, 3, 3):
        cases.append((size + 9, k + 2, stride + 1, padding))
    for size, k, stride, padding in cases:
        picture = torch.zeros(1, 1, size, size)
        right = nn.Conv2d(1, 1, k, stride, padding)(picture).shape[-1]
        slips = {
            "One too few: count fence posts, not gaps.": right - 1,
            "One too many.": right + 1,
        }
        what = f"The size for {size}, k = {k}, stride {stride}, padding {padding}"
        same(answer(size, k, stride, padding), right, what, slips)


def _three_rows(generator: torch.Generator, *limits: int) -> list[list[int]]:
    """Three rows of whole numbers, each from 0 to below its own limit."""
    rows = []
    for _ in range(3):
        rows.append([int(torch.randint(0, limit, (), generator=generator)) for limit in limits])
    return rows


def time_embedding(answer, generator):
    """(t, width, longest) -> (B, width)."""
    t = torch.randint(1, 1000, (5,), generator=generator)
    right = blocks.time_embedding(t, 8, 1000.0)  # (5, 8)
    alternating = right.view(5, 2, 4).transpose(1, 2).flatten(1)
    frequency = 1000.0 ** -(torch.arange(4).double() / 4)  # the last is not 1 / 1000
    angle = t[:, None].double() * frequency  # (5, 4)
    too_fast = torch.cat([angle.sin(), angle.cos()], 1)
    slips = {
        "Cosines come first; sines are asked for.": right.roll(4, 1),
        "Sines and cosines alternate; all sines should come first.": alternating,
        "The lowest frequency is not 1 / longest: divide by width / 2 - 1.": too_fast,
    }
    same(answer(t, 8, 1000.0), right, "The embedding", slips, tolerance=1e-3)


def attention(answer, generator):
    """(q, k, v), each (N, c) -> (N, c), with the slips mended."""
    c = (3, 5, 9)[int(torch.randint(3, (), generator=generator))]
    q, k, v = torch.randn(3, 6, c, generator=generator, dtype=torch.float64).unbind()
    right = F.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None])[0, 0]
    scores = q @ k.T  # (N, N)
    scaled = scores / c**0.5
    slips = {
        "It is as it was.": scores.softmax(0) @ v,
        "The scores are not divided by sqrt(channels) yet.": scores.softmax(1) @ v,
        "The softmax still runs over the queries.": scaled.softmax(0) @ v,
        "Divided by channels, not by their root.": (scores / c).softmax(1) @ v,
    }
    same(answer(q, k, v), right, "The result", slips)


def fold(answer, generator):
    """(x), (B, 1, H, W) -> (B, 4, H / 2, W / 2), as pixel_unshuffle does."""
    x = torch.randn(2, 1, 6, 8, generator=generator, dtype=torch.float64)
    right = F.pixel_unshuffle(x, 2)  # (2, 4, 3, 4)
    quarters = x.view(2, 2, 3, 2, 4).permute(0, 1, 3, 2, 4).flatten(1, 2)  # (2, 4, 3, 4)
    reshaped = x.reshape(2, 4, 3, 4)
    slips = {
        "The patches are cut into quarters of the picture, not into 2 x 2 pixels.": quarters,
        "A plain reshape mixes rows.": reshaped,
        "Rows and columns of each patch are swapped.": right[:, [0, 2, 1, 3]],
    }
    same(answer(x), right, "The folded picture", slips)


def fits(answer, generator):
    """(size, patch, levels) -> whether a U-Net of that shape takes such pictures."""
    cases = [(28, 2, 2), (28, 2, 3), (28, 1, 3), (32, 4, 4), (30, 2, 1), (29, 2, 2), (30, 4, 1)]
    for size, patch, levels in _three_rows(generator, 12, 4, 4):
        cases.append((4 * (size + 1), patch + 1, levels + 1))
    for size, patch, levels in cases:
        said = answer(size, patch, levels)
        returned(said)
        fit = size % (patch * 2 ** (levels - 1)) == 0
        told = "this fits" if fit else "this does not fit"
        true(
            said in (True, False) and bool(said) == fit,
            f"Size {size} with patch {patch} and {levels} levels: {told}.",
        )


EXERCISES = {
    "04.1": Exercise(
        test=convolution_parameters,
        praise=(
            "The picture's size does not occur: that is why convolutions are cheap, "
            "and at home in every place."
        ),
        hints=(
            "Each filter has a weight for each channel and each of k x k places, and one bias.",
            "There are as many filters as channels come out.",
        ),
        forbidden=CONVOLUTIONS,
    ),
    "04.2": Exercise(
        test=convolution_size,
        praise=(
            "A 3 x 3 filter with padding 1 keeps the size; with stride 2 it halves it, rounding up."
        ),
        hints=(
            (
                "The filter's first place is at -padding, its last at size + padding - k. "
                "How many steps of `stride` fit between?"
            ),
            "(size + 2 * padding - k) // stride + 1.",
        ),
        forbidden=(*CONVOLUTIONS, *WINDOWS),
    ),
    "04.3": Exercise(
        test=time_embedding,
        praise=(
            "Each column is a clock hand of another speed; together they tell every t "
            "from every other."
        ),
        hints=(
            (
                "Half of the columns are sines, half cosines, of t times a frequency. "
                "Frequencies fall from 1 to 1 / longest."
            ),
            (
                "t[:, None] * frequency is a table, (B, width / 2), "
                "if frequency is a row of width / 2 numbers."
            ),
            (
                "frequency = longest ** (-torch.arange(width // 2) / (width // 2 - 1)); "
                "torch.cat puts sines and cosines side by side."
            ),
        ),
        forbidden=("time_embedding",),
    ),
    "04.4": Exercise(
        test=attention,
        praise=(
            "Without the root the weights become all or nothing, "
            "and nothing can be learned from nothing."
        ),
        hints=(
            "There are two slips. Look at the axis of the softmax: what should sum to 1?",
            (
                "For each query (row) the weights of all keys sum to 1. "
                "And the scores are divided by sqrt(channels)."
            ),
        ),
        forbidden=("scaled_dot_product_attention", "MultiheadAttention"),
    ),
    "04.5": Exercise(
        test=fold,
        praise=(
            "Not a number is lost: the picture is only folded. "
            "Unfolding is the same line, read backwards."
        ),
        hints=(
            "The four pixels of each 2 x 2 patch become four channels of one place.",
            (
                "Split height and width in two axes each: (B, H/2, 2, W/2, 2). "
                "Then bring the twos to the front."
            ),
            'einops: rearrange(x, "b 1 (y p) (x q) -> b (p q) y x", p=2, q=2).',
        ),
        forbidden=("pixel_unshuffle", "PixelUnshuffle"),
    ),
    "04.6": Exercise(
        test=fits,
        praise=(
            "28 fits with two levels behind a patch of 2, or with three behind none. "
            "Hence all the padding to 32 elsewhere."
        ),
        hints=(
            "Each level but the first halves the picture, and the patch divides it once more.",
            "It fits if size is a multiple of patch * 2 ** (levels - 1).",
        ),
        forbidden=("UNetConfig",),
    ),
}
