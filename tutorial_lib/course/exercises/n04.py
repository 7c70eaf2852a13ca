"""Checks of the exercises of notebook 04: U-Net building blocks."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib.course.exercises.checks import Exercise, between, hidden, returned, same, true
from tutorial_lib.nets.unet import UNet

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
            "One bias for each filter, not for each pair of channels.": (
                without_bias + channels_in * channels_out
            ),
            "A filter has a square of k x k places.": channels_out * (channels_in * k + 1),
            "Each filter looks at all channels that come in.": channels_out * (k**2 + 1),
            "That is a single filter.": channels_in * k**2 + 1,
            "Those are the weights of a single filter.": channels_in * k**2 + channels_out,
            "Added, where each channel that comes in meets each that comes out.": (
                (channels_in + channels_out) * k**2 + channels_out
            ),
            "k is not always 3.": channels_out * (channels_in * 9 + 1),
        }
        what = f"The number for {channels_in} to {channels_out} channels, {k} x {k}"
        same(answer(channels_in, channels_out, k), right, what, slips)


def convolution_size(answer, generator):
    """(size, k, stride, padding) -> the size of what comes out."""
    cases = [(28, 5, 1, 2), (28, 5, 1, 0), (28, 3, 2, 1), (27, 3, 2, 1), (14, 4, 2, 1)]
    for size, k, stride, padding in _three_rows(generator, 31, 5, 3, 3):
        cases.append((size + 9, k + 2, stride + 1, padding))
    for size, k, stride, padding in cases:
        picture = torch.zeros(1, 1, size, size)
        right = nn.Conv2d(1, 1, k, stride, padding)(picture).shape[-1]
        slips = {
            "One too few: count the places, not the steps between them.": right - 1,
            "One too many.": right + 1,
            "The padding is added on both sides.": (size + padding - k) // stride + 1,
            "The padding is not counted.": (size - k) // stride + 1,
            "Padding makes it larger.": (size - 2 * padding - k) // stride + 1,
            "The stride is missing.": size + 2 * padding - k + 1,
            "The stride alone does not say it.": -(-size // stride),
            "It should be a whole number: a last step that does not fit is not made.": (
                (size + 2 * padding - k) / stride + 1
            ),
            "Brackets are missing: what is divided?": size + 2 * padding - k // stride + 1,
        }
        what = f"The size for {size}, k = {k}, stride {stride}, padding {padding}"
        same(answer(size, k, stride, padding), right, what, slips)


def _three_rows(generator: torch.Generator, *limits: int) -> list[list[int]]:
    """Three rows of whole numbers, each from 0 to below its own limit."""
    rows = []
    for _ in range(3):
        rows.append([int(torch.randint(0, limit, (), generator=generator)) for limit in limits])
    return rows


def interleaved_embedding(answer, generator):
    """(t, width, longest) -> (B, width), sine and cosine of each clock side by side."""
    half = int(torch.randint(3, 7, (), generator=generator))
    longest = float(between(100, 400, generator))
    early = torch.randint(1, 4, (7,), generator=generator)  # in 32 bits fast clocks are exact too
    for t in (early, torch.randint(1, 200, (7,), generator=generator)):
        right = _pairs(t, longest ** (-torch.arange(half).double() / half))
        slips = {said: slip.flatten(1) for said, slip in _slips_of_pairs(t, half, longest).items()}
        got = answer(t, 2 * half, longest)
        same(got, right.flatten(1), "The embedding", slips, tolerance=1e-3)


def _pairs(t: Tensor, frequency: Tensor) -> Tensor:
    """Sine and cosine side by side, of steps (B,) and frequencies (width / 2,)."""
    angle = t[:, None] * frequency  # (B, width / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=2)  # (B, width / 2, 2)


def _slips_of_pairs(t: Tensor, half: int, longest: float) -> dict[str, Tensor]:
    """What known mistakes would give, by what is said of them."""
    i = torch.arange(half).double()
    right = _pairs(t, longest ** (-i / half))
    to_the_end = _pairs(t, longest ** (-i / (half - 1)))
    apart = _pairs(t, longest ** (-(2 * i + 1) / (2 * half)))  # half a clock further
    return {
        "All sines come first there; here each has its cosine beside it.": right.mT,
        "In each pair the sine comes first.": right.flip(2),
        "Each clock has a sine and a cosine.": right[..., :1].expand_as(right),
        "The lowest frequency is 1 / longest there; here it stops a little before.": to_the_end,
        "The library's row: order and exponents are others here.": to_the_end.mT,
        "The exponent is half of what it should be.": _pairs(t, longest ** (-i / half / 2)),
        "The frequencies should fall from one clock to the next.": _pairs(t, longest ** (i / half)),
        "i begins at 0.": _pairs(t, longest ** (-(i + 1) / half)),
        "`longest` is given; it is not always 10,000.": _pairs(t, 10_000 ** (-i / half)),
        "No 2 pi: the angle is the frequency times t.": (
            _pairs(t, 2 * math.pi * longest ** (-i / half))
        ),
        "Sine and cosine of a pair have the same frequency.": (
            torch.stack([right[..., 0], apart[..., 1]], dim=2)
        ),
    }


def attention(answer, generator):
    """(q, k, v), each (N, c) -> (N, c), with the slips repaired."""
    c = (3, 5, 9)[int(torch.randint(3, (), generator=generator))]
    q, k, v = torch.randn(3, 6, c, generator=generator, dtype=torch.float64).unbind()
    right = F.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None])[0, 0]
    scores = q @ k.T  # (N, N)
    scaled = scores / c**0.5
    slips = {
        "Both slips are still there.": scores.softmax(0) @ v,
        "The scores are not divided by sqrt(channels) yet.": scores.softmax(1) @ v,
        "The softmax still runs over the queries.": scaled.softmax(0) @ v,
        "Divided by channels, not by their root.": (scores / c).softmax(1) @ v,
        "The root is that of the number of queries; count the channels.": (
            (scores / len(q) ** 0.5).softmax(1) @ v
        ),
        "The scores are multiplied by the root.": (scores * c**0.5).softmax(1) @ v,
        "Divided too late: the softmax should see small scores.": scores.softmax(1) / c**0.5 @ v,
        "In that the keys ask, and the queries answer.": scaled.T.softmax(1) @ v,
        "The weights are turned round: a row for each key.": scaled.softmax(1).T @ v,
        "Scores are no weights yet: they should be positive and sum to 1.": scaled @ v,
        "That is the mean of all values, as if all keys were equal.": v.mean(0).expand_as(v),
    }
    same(answer(q, k, v), right, "The result", slips)


def fold(answer, generator):
    """(x), (B, 1, H, W) -> (B, 4, H / 2, W / 2), as pixel_unshuffle does."""
    x = torch.randn(2, 1, 6, 8, generator=generator, dtype=torch.float64)
    right = F.pixel_unshuffle(x, 2)  # (2, 4, 3, 4)
    quarters = x.view(2, 2, 3, 2, 4).permute(0, 1, 3, 2, 4).flatten(1, 2)  # (2, 4, 3, 4)
    across = x.view(2, 2, 3, 4, 2).permute(0, 1, 4, 2, 3).flatten(1, 2)  # (2, 4, 3, 4)
    down = x.view(2, 3, 2, 2, 4).permute(0, 2, 3, 1, 4).flatten(1, 2)  # (2, 4, 3, 4)
    reshaped = x.reshape(2, 4, 3, 4)
    slips = {
        "The patches are cut into quarters of the picture, not into 2 x 2 pixels.": quarters,
        "A plain reshape mixes rows.": reshaped,
        "Rows and columns of each patch are swapped.": right[:, [0, 2, 1, 3]],
        "Only the columns are those of 2 x 2 pixels; the rows are cut into two halves.": across,
        "Only the rows are those of 2 x 2 pixels; the columns are cut into two halves.": down,
        "Four neighbours along the row are no patch of 2 x 2.": (
            x.view(2, 3, 4, 4).permute(0, 3, 1, 2)
        ),
        "That is the mean of each patch; its four pixels are asked for.": (
            right.mean(1, keepdim=True).expand_as(right)
        ),
        "That is four times the same pixel of each patch.": right[:, :1].expand_as(right),
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
        true(said in (True, False), f"It should return True or False, got {said!r:.40}.")
        fit = size % (patch * 2 ** (levels - 1)) == 0
        told = "this fits" if fit else "this does not fit"
        true(bool(said) == fit, f"Size {size} with patch {patch} and {levels} levels: {told}.")


def suspect(number: str) -> Callable[..., Any]:
    """The line with a bug that exercise `number` is about, as a function; here "04.7" alone.

    Raises ValueError for an exercise that has none.
    """
    return hidden({"04.7": _frequency}, number)


def _frequency(width: int, longest: float) -> Tensor:
    half = width // 2
    exponent = torch.arange(half).double() / (half - 1)  # (width / 2,) from 0 to 1
    return longest**exponent


def frequency(answer, generator):
    """(width, longest) -> the suspect's frequencies, (width / 2,)."""
    width = 2 * int(torch.randint(3, 9, (), generator=generator))
    longest = float(between(20, 200, generator))
    wrong = _frequency(width, longest)
    slips = {
        "That is the library's line, and it has no slip in it.": 1 / wrong,
        "Then neighbours would be alike, too. Look at its frequencies.": wrong / longest,
        "The right numbers, from the last to the first.": wrong.flip(0),
        "Then all clocks would go round together.": torch.ones_like(wrong),
        "Print its last frequency: yours stops before that.": (
            longest ** (torch.arange(width // 2) / (width // 2))
        ),
        "Its ends are right; between them each frequency is so many times the one before.": (
            torch.linspace(1, longest, width // 2)
        ),
        "Those are the exponents; of what?": torch.linspace(0, 1, width // 2),
        "`longest` is given; it is not always 10,000.": torch.logspace(0, 4, width // 2),
    }
    same(answer(width, longest), wrong, "The row of frequencies", slips, tolerance=1e-4)


def own_unet(answer, generator):
    """() -> a network with levels and with skips, that uses t."""
    network = answer()
    returned(network)
    true(isinstance(network, nn.Module), "It should return a `torch.nn.Module`.")
    borrowed = any(isinstance(part, UNet) for part in network.modules())
    true(not borrowed, "It contains the library's `UNet`; build your own from smaller parts.")
    count = sum(p.numel() for p in network.parameters())
    true(0 < count <= 100_000, f"It has {count:,} parameters; 1 to 100,000 are asked for.")
    network.eval()
    _fill(network, generator)
    x = torch.randn(3, 1, 28, 28, generator=generator)
    t = torch.randint(1, 500, (3,), generator=generator)
    with torch.no_grad():
        out = network(x, t)
        returned(out)
        true(out.shape == x.shape, f"For x_t of shape {tuple(x.shape)} it returns {_shape(out)}.")
        alone = network(x[1:2], t[1:2])[0]
        apart = (alone - out[1]).abs().max() > 1e-3 * (1 + out.abs().max())
        true(not apart, "The answer for a picture depends on the others in its batch.")
        later = network(x, t + 400)
    true(bool((later - out).abs().max() > 1e-4), "It does not listen to t.")
    _has_levels_and_skips(network, x, t)


def _shape(out: Any) -> str:
    return f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__


@torch.no_grad()
def _fill(network: nn.Module, generator: torch.Generator) -> None:
    """Random numbers for all weights: some begin at zero, and then nothing could be seen."""
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * parameter[0].numel() ** -0.5)
        else:
            parameter.add_(0.1 * noise)


def _has_levels_and_skips(network: nn.Module, x: Tensor, t: Tensor) -> None:
    """Raise Wrong unless there are several sizes, and something goes round the smallest."""
    sizes: list[int] = []

    def note(part: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            sizes.append(output.shape[-1])

    inside = [part for part in network.modules() if part is not network]
    handles = [part.register_forward_hook(note) for part in inside]
    network(x, t)
    for handle in handles:
        handle.remove()
    true(len(set(sizes)) > 1, "All its layers work at one size; a U has levels.")
    smallest = min(sizes)

    def silence(part: nn.Module, _: Any, output: Any) -> Tensor | None:
        """Zeros at the smallest level; one part, an activation say, may serve at several."""
        small = isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] == smallest
        return torch.zeros_like(output) if small else None

    for part in inside:
        part.register_forward_hook(silence)
    x = x.clone().requires_grad_()
    out = network(x, t)
    reached = torch.autograd.grad(out.square().sum(), x, allow_unused=True)[0]
    led_around = reached is not None and bool(reached.abs().max() > 1e-6)
    true(
        led_around,
        f"All goes through the smallest level ({smallest} x {smallest}): with zeros there, "
        "nothing of x_t is left in the output.",
    )


EXERCISES = {
    "04.1": Exercise(
        test=convolution_parameters,
        praise=(
            "The picture's size does not occur: the same filters serve at every place, "
            "in pictures of any size."
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
        test=interleaved_embedding,
        praise=(
            "The same clocks in another order. A network does not mind; "
            "weights that were trained with the other order do."
        ),
        hints=(
            "t[:, None] * frequency is a table, (B, width / 2): an angle for each t and clock.",
            "torch.stack([sines, cosines], dim=2) puts them side by side; how to flatten that?",
            "The exponents are -torch.arange(width // 2) / (width / 2); there is no - 1 here.",
        ),
        forbidden=("time_embedding",),
    ),
    "04.4": Exercise(
        test=attention,
        praise=(
            "Without the root a single weight comes near 1 and the others near 0, "
            "and then hardly any gradient comes back."
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
            "For more levels one pads pictures to 32."
        ),
        hints=(
            "Each level but the first halves the picture, and the patch divides it once more.",
            "It fits if size is a multiple of patch * 2 ** (levels - 1).",
        ),
        forbidden=("UNetConfig",),
    ),
    "04.7": Exercise(
        test=frequency,
        praise=(
            "A lost minus: frequencies that rise from 1 to 10,000. Every clock goes round many "
            "times between two steps, so neighbours have nothing in common."
        ),
        hints=(
            'Print suspect("04.7")(8, 100.0), and what 100 ** -(i / 3) is for i = 0, 1, 2, 3.',
            "In the library they fall from 1 to 1 / longest. Which way do they go here?",
        ),
        forbidden=("suspect",),
    ),
    "04.8": Exercise(
        test=own_unet,
        beside=True,
        praise="Levels, skips, and t: that is a U-Net, and it is yours.",
        hints=(
            (
                "Begin without t: a stem, a block, `blocks.Down`, a block, `blocks.Up`, "
                "torch.cat with what the first block returned, a block, and a last convolution."
            ),
            (
                "`blocks.ResidualBlock(channels_in, channels_out, width_t, groups=4)` takes "
                "(x, embedding); the latter is a small network on `blocks.time_embedding(t, 16)`."
            ),
            "Widths of 16 and 32 stay below 100,000 parameters. After torch.cat there are 32.",
        ),
        forbidden=("UNet", "UNetConfig", "restore"),
    ),
}
