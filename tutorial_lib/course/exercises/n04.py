"""Checks of the exercises of notebook 04: U-Net building blocks."""

import torch
from torch import nn
from torch.nn import functional as F

from tutorial_lib.course.exercises.checks import exercise, same, true
from tutorial_lib.nets import blocks, unet


@exercise(
    "04.1",
    "The picture's size does not occur: that is why convolutions are cheap, and at home in every place.",
    "Each filter has a weight for each channel and each of k x k places, and one bias.",
    "There are as many filters as channels come out.",
    forbidden=(nn.Conv2d.__init__,),
)
def convolution_parameters(answer, z):
    """(channels_in, channels_out, k) -> the number of parameters of a k x k convolution with bias."""
    for c_in, c_out, k in ((4, 48, 3), (*torch.randint(1, 30, (2,), generator=z).tolist(), 5)):
        right = sum(p.numel() for p in nn.Conv2d(c_in, c_out, k).parameters())
        same(
            answer(c_in, c_out, k),
            right,
            f"The number for {c_in} to {c_out} channels, {k} x {k}",
            {
                "The biases are missing: one for each filter.": right - c_out,
                "There is one bias for each channel that comes out.": right - c_out + c_in,
                "One bias in all?": right - c_out + 1,
            },
        )


@exercise(
    "04.2",
    "A 3 x 3 filter with padding 1 keeps the size; with stride 2 it halves it, rounding up.",
    "The filter's first place is at -padding, its last at size + padding - k. How many steps of `stride` fit between?",
    "(size + 2 * padding - k) // stride + 1.",
    forbidden=(nn.Conv2d.__init__, F.conv2d, torch.conv2d, F.max_pool2d, F.unfold),
)
def convolution_size(answer, z):
    """(size, k, stride, padding) -> the size of what comes out."""
    for size, k, stride, padding in (
        (28, 3, 2, 1),
        (27, 3, 2, 1),
        (14, 4, 2, 1),
        (28, 5, 1, 0),
        *(
            (int(s) + 9, int(k) + 2, int(step) + 1, int(pad))
            for s, k, step, pad in _drawn(z, 31, 5, 3, 3)
        ),
    ):
        right = nn.Conv2d(1, 1, k, stride, padding)(torch.zeros(1, 1, size, size)).shape[-1]
        same(
            answer(size, k, stride, padding),
            right,
            f"The size for {size}, k = {k}, stride {stride}, padding {padding}",
            {"One too few: count fence posts, not gaps.": right - 1, "One too many.": right + 1},
        )


def _drawn(z: torch.Generator, *below: int) -> list[list[int]]:
    """Three rows of whole numbers, each from 0 to below its own limit."""
    return [[int(torch.randint(0, limit, (), generator=z)) for limit in below] for _ in range(3)]


@exercise(
    "04.3",
    "Each column is a clock hand of another speed; together they tell every t from every other.",
    "Half of the columns are sines, half cosines, of t times a frequency. Frequencies fall from 1 to 1 / longest.",
    "t[:, None] * frequency is a table, (B, width / 2), if frequency is a row of width / 2 numbers.",
    "frequency = longest ** (-torch.arange(width // 2) / (width // 2 - 1)); torch.cat puts sines and cosines side by "
    "side.",
    forbidden=(blocks.time_embedding,),
)
def time_embedding(answer, z):
    """(t, width, longest) -> (B, width)."""
    t = torch.randint(1, 1000, (5,), generator=z)
    right = blocks.time_embedding(t, 8, 1000.0)
    angle = t[:, None].double() * 1000.0 ** -(torch.arange(4).double() / 4)
    same(
        answer(t, 8, 1000.0),
        right,
        "The embedding",
        {
            "Cosines come first; sines are asked for.": right.roll(4, 1),
            "Sines and cosines alternate; all sines should come first.": right.view(5, 2, 4)
            .transpose(1, 2)
            .flatten(1),
            "The lowest frequency is not 1 / longest: divide by width / 2 - 1.": torch.cat(
                [angle.sin(), angle.cos()], 1
            ),
        },
        1e-3,
    )


@exercise(
    "04.4",
    "Without the root the weights become all or nothing, and nothing can be learned from nothing.",
    "There are two slips. Look at the axis of the softmax: what should sum to 1?",
    "For each query (row) the weights of all keys sum to 1. And the scores are divided by sqrt(channels).",
    forbidden=(F.scaled_dot_product_attention,),
)
def attention(answer, z):
    """(q, k, v), each (N, c) -> (N, c), with the slips mended."""
    c = (3, 5, 9)[int(torch.randint(3, (), generator=z))]
    q, k, v = torch.randn(3, 6, c, generator=z, dtype=torch.float64).unbind()
    right = F.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None])[0, 0]
    same(
        answer(q, k, v),
        right,
        "The result",
        {
            "It is as it was.": (q @ k.T).softmax(0) @ v,
            "The scores are not divided by sqrt(channels) yet.": (q @ k.T).softmax(1) @ v,
            "The softmax still runs over the queries.": (q @ k.T / c**0.5).softmax(0) @ v,
            "Divided by channels, not by their root.": (q @ k.T / c).softmax(1) @ v,
        },
    )


@exercise(
    "04.5",
    "Not a number is lost: the picture is only folded. Unfolding is the same line, read backwards.",
    "The four pixels of each 2 x 2 patch become four channels of one place.",
    "Split height and width in two axes each: (B, H/2, 2, W/2, 2). Then bring the twos to the front.",
    'einops: rearrange(x, "b 1 (y p) (x q) -> b (p q) y x", p=2, q=2).',
    forbidden=(F.pixel_unshuffle,),
)
def fold(answer, z):
    """(x), (B, 1, H, W) -> (B, 4, H / 2, W / 2), as pixel_unshuffle does."""
    x = torch.randn(2, 1, 6, 8, generator=z, dtype=torch.float64)
    right = F.pixel_unshuffle(x, 2)
    same(
        answer(x),
        right,
        "The folded picture",
        {
            "The patches are cut into quarters of the picture, not into 2 x 2 pixels.": x.view(
                2, 2, 3, 2, 4
            )
            .permute(0, 1, 3, 2, 4)
            .flatten(1, 2),
            "A plain reshape mixes rows.": x.reshape(2, 4, 3, 4),
            "Rows and columns of each patch are swapped.": right[:, [0, 2, 1, 3]],
        },
    )


@exercise(
    "04.6",
    "28 fits with two levels behind a patch of 2, or with three behind none. Hence all the padding to 32 elsewhere.",
    "Each level but the first halves the picture, and the patch divides it once more.",
    "It fits if size is a multiple of patch * 2 ** (levels - 1).",
    forbidden=(unet.UNetConfig.__post_init__,),
)
def fits(answer, z):
    """(size, patch, levels) -> whether a U-Net of that shape takes such pictures."""
    for size, patch, levels in (
        (28, 2, 2),
        (28, 2, 3),
        (28, 1, 3),
        (32, 4, 4),
        (30, 2, 1),
        (29, 2, 2),
        (30, 4, 1),
        *((4 * (size + 1), patch + 1, levels + 1) for size, patch, levels in _drawn(z, 12, 4, 4)),
    ):
        said = answer(size, patch, levels)
        true(said is not None, "Nothing came back. Is a `return` missing?")
        fit = size % (patch * 2 ** (levels - 1)) == 0
        told = f"Size {size} with patch {patch} and {levels} levels: {'this fits' if fit else 'this does not fit'}."
        true(said in (True, False) and bool(said) == fit, told)
