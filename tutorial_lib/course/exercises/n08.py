"""Checks of the exercises of notebook 08: likelihood and compression."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.beyond.compression import counts, pop, push
from tutorial_lib.course.exercises.checks import (
    Exercise,
    Wrong,
    between,
    numbers,
    pair,
    returned,
    same,
    some_distribution,
    some_images,
    true,
)

LN2 = math.log(2)


def bits_per_pixel(answer, generator):
    """(nats, shape) -> bits per dimension of an image of that shape, (C, H, W)."""
    for shape in ((1, 28, 28), (3, 32, 32), (1, 12, 20)):
        nats = float(between(500, 4000, generator))
        channels, height, width = shape
        slips = {
            "It is still in nats.": nats / math.prod(shape),
            "Bits are smaller than nats, so there are more of them.": nats * LN2 / math.prod(shape),
            "Each channel of a pixel is a dimension of its own.": nats / LN2 / (height * width),
            "That is the whole image.": nats / LN2,
        }
        if channels == 1:
            slips.pop("Each channel of a pixel is a dimension of its own.")
        right = nats / LN2 / math.prod(shape)
        same(answer(nats, shape), right, f"{nats:.0f} nats of an image {shape}", slips)


def step_price(answer, generator):
    """(x_0, x_0_hat, alpha_bar_t, alpha_bar_prev) -> L_{t-1} with beta_tilde, in nats, (B,)."""
    x_0, off = some_images(generator)
    x_0_hat = x_0 + 0.2 * off
    alpha_bar_t = float(between(0.1, 0.4, generator))
    alpha_bar_prev = float(between(0.5, 0.9, generator))
    square = (x_0 - x_0_hat).square().flatten(1).sum(1)
    snr_t, snr_prev = alpha_bar_t / (1 - alpha_bar_t), alpha_bar_prev / (1 - alpha_bar_prev)
    won = snr_prev - snr_t
    slips = {
        "The half is missing.": won * square,
        "The signal is won on the way back: a sign is lost.": -0.5 * won * square,
        "It is a sum over the pixels, not their mean.": 0.5 * won * square / 16,
        "alpha_bar is not the signal-to-noise ratio.": (
            0.5 * (alpha_bar_prev - alpha_bar_t) * square
        ),
        "The error counts squared.": 0.5 * won * square.sqrt(),
        "That is the ratio before the step, not what the step wins.": (0.5 * snr_prev * square),
        "The signal-to-noise ratio is that of variances.": (
            0.5 * (snr_prev**0.5 - snr_t**0.5) * square
        ),
    }
    same(answer(x_0, x_0_hat, alpha_bar_t, alpha_bar_prev), 0.5 * won * square, "L_{t-1}", slips)


def best_share(answer, generator):
    """(variance, beta, beta_tilde) -> the share u that gives this variance, like it.

    (Nichol & Dhariwal 2021, Eq. 15)
    """
    beta, tilde = float(between(0.2, 0.6, generator)), float(between(0.02, 0.15, generator))
    u = between(0, 1, generator, 5)
    variance = beta**u * tilde ** (1 - u)
    slips = {
        "It mixes logarithms, not variances.": (variance - tilde) / (beta - tilde),
        "The ends are exchanged: u = 1 is beta.": 1 - u,
        "It mixes logarithms, not roots.": (variance**0.5 - tilde**0.5) / (beta**0.5 - tilde**0.5),
        "Where is beta_tilde? At u = 0 the variance is beta_tilde.": variance.log()
        / math.log(beta),
    }
    same(answer(variance, beta, tilde), u, "The share", slips)


def _priced(log_p: Tensor, dimensions: int) -> Tensor:
    """The suspect: the density is one of numbers in [-1, 1], and nothing says so."""
    return -log_p / (dimensions * LN2)


def priced(answer, generator):
    """(log_p, dimensions) -> bits per dimension of pixels whose density is of x_0 in [-1, 1]."""
    log_p, dimensions = between(1000, 4000, generator, 4), 784
    bare = _priced(log_p, dimensions)
    right = bare + math.log2(127.5)
    slips = {
        "That is the suspect's line, as it is.": bare,
        "A level is 1 / 127.5 wide, so a larger density is needed, not a smaller price.": (
            bare - math.log2(127.5)
        ),
        "The range has width 2, not 1.": bare + math.log2(255),
        "The range has width 2, not 1, and 256 levels have 255 gaps.": bare + 8,
        "Near, but 256 levels have 255 gaps between them.": bare + 7,
        "Each dimension has a level of its own, so the logarithm counts once in each.": (
            bare + math.log2(127.5) / dimensions
        ),
        "The logarithm of the width is in nats.": bare + math.log(127.5),
    }
    same(answer(log_p, dimensions), right, "The price", slips)


def strata(answer, generator):
    """(count, generator) -> times in [0, 1), one uniform in each of `count` equal parts."""
    places, steps = [], []
    for count in (1, 4, 7):
        for _ in range(40):
            seed = int(torch.randint(2**31, (), generator=generator))
            got = answer(count, torch.Generator().manual_seed(seed))  # another one for each call
            returned(got)
            t = numbers(got, "The times")
            true(t.shape == (count,), f"There should be {count} times, got {tuple(t.shape)}.")
            true(bool(((t >= 0) & (t < 1)).all()), "A time lies outside [0, 1).")
            t = t.sort().values * count
            true(len(t.floor().unique()) == count, "Two times lie in the same part.")
            places.append(t % 1)
            steps.append((t.diff() - 1).abs())
    inside = torch.cat(places)  # 480 places within their parts
    true(float(inside.std()) > 1e-6, "The same times come back: draw them from the generator.")
    said = "All parts have the same place: one number was drawn for all; each needs its own."
    true(float(torch.cat(steps).max()) > 1e-4, said)
    # uniform: the mean of 480 is known to 0.013, their standard deviation to 0.006
    near = abs(float(inside.mean()) - 0.5) < 0.08 and abs(float(inside.std()) - 12**-0.5) < 0.04
    true(near, "Within its part a time should be uniform, from one end of the part to the other.")


def trace_by_signs(answer, generator):
    """(field, y, probes) -> the mean of r^T J r over the probes, for each item, (B,)."""
    W = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    probes = 2.0 * torch.randint(0, 2, (5, 4, 3), generator=generator).double() - 1  # (K, B, D)

    def field(y: Tensor) -> Tensor:
        return (y @ W).tanh()

    inner = 1 - (y @ W).tanh() ** 2  # (B, D)
    J = inner[:, :, None] * W.T  # (B, out, in)
    each = torch.einsum("kbi, bij, kbj -> kb", probes, J, probes)
    slips = {
        "That is the sum over the probes; the estimate is their mean.": each.sum(0),
        "The probe is missing on one side.": torch.einsum("kbi, bij -> kb", probes, J).mean(0),
        "That is the exact trace; with these few probes the estimate is another number.": (
            torch.einsum("bii -> b", J)
        ),
        "The items of the batch are mixed up: each has a trace of its own.": (
            each.mean(0).sum().expand(4)
        ),
        "Only the first probe is used.": each[0],
        "Only the last probe is used.": each[-1],
    }
    same(answer(field, y, probes), each.mean(0), "The estimate", slips)


def coder(answer, generator):
    """A pair: own_push(state, symbol, f) -> state, own_pop(state, f) -> (state, symbol)."""
    own_push, own_pop = answer
    f = counts(some_distribution(generator, 5))
    message = torch.randint(0, 5, (30,), generator=generator).tolist()
    state = expected = int(torch.randint(1, 10**6, (), generator=generator))
    for symbol in message:
        state, expected = own_push(state, symbol, f), push(expected, symbol, f)
        returned(state)
        true(isinstance(state, int), "The state is one whole number; use // and %, not /.")
        if state != expected:
            raise Wrong(_why(expected, symbol, f, state))
    for symbol in reversed(message):
        expected, _ = pop(expected, f)
        state, got = pair(own_pop(state, f), "the state and the symbol")
        true(got == symbol, f"Popping gave symbol {got} where {symbol} had been pushed last.")
        true(state == expected, "The symbol is right, but the state is not what it was before.")


def _why(expected: int, symbol: int, f: list[int], state: int) -> str:
    """What a pushed state that is not right looks like."""
    before, _ = pop(expected, f)
    rounds, rest = divmod(before, f[symbol])
    if state == (rounds << 16) + rest:
        return "After a push the state is off: all symbols share the same places. Where is c?"
    if state == (before << 16) + sum(f[:symbol]):
        return "The number grows by 16 bits for every symbol, however likely it is."
    if state == (rounds << 16) + sum(f[: symbol + 1]) + rest:
        return "After a push the state is off: c sums the f *before* the symbol, without its own."
    return "After a push the state is not what the formula gives."


def whole_bound(answer, generator):
    """(denoise, x_0, low, high, draws, generator) -> bits per dimension of pixels, a number.

    The data are pixels that are uniform on K of the 256 levels, and independent; denoise is the
    best estimate.  So the bound is log2 K and next to nothing more.
    """
    K = int(torch.randint(3, 9, (), generator=generator))
    chosen = torch.randperm(256, generator=generator)[:K].sort().values
    levels = chosen.double() / 127.5 - 1

    def denoise(z: Tensor, gamma: Tensor) -> Tensor:
        true(gamma.shape == (len(z),), "The denoiser takes one gamma for each image, (B,).")
        gamma = gamma.double().view(-1, *[1] * z.ndim)
        a, b = (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()
        distance = (z.double()[..., None] - a * levels) / b
        return (-0.5 * distance.square()).softmax(-1) @ levels

    which = torch.randint(0, K, (600, 1, 2, 2), generator=generator)
    x_0, low, high = levels[which], -13.0, 8.0
    got = numbers(answer(denoise, x_0, low, high, 8, generator), "The bound")
    true(got.numel() == 1, "The bound is a single number, the mean over the images.")
    got = float(got)
    right = math.log2(K)
    for factor, said in (
        (LN2, "It is in nats."),
        (4, "It is that of a whole image, not of a dimension."),
        (4 * LN2, "It is in nats, of a whole image."),
        (2, "It is twice too much: is the half there?"),
    ):
        true(abs(got / (right * factor) - 1) > 0.1, f"The bound is not right. {said}")
    said = "Far too little. Is the mean over gamma multiplied by high - low, and is e^-gamma there?"
    true(got > 0.3 * right, said)
    # 4,800 noise levels: the estimate scatters by about 2 per cent
    said = f"The bound is {got:.3f}; for this denoiser and these pixels it is near {right:.3f}."
    true(abs(got / right - 1) < 0.12, said)


SUSPECTS: dict[str, Callable[..., Any]] = {"08.4": _priced}

EXERCISES = {
    "08.1": Exercise(
        test=bits_per_pixel,
        praise=(
            "Glow's 2.83 bits of 1,024 dimensions are 2,009 nats, and over 784 dimensions 3.70."
        ),
        hints=(
            "A bit is ln 2 = 0.693 nats, so there are more bits than nats.",
            "Divide by ln 2 and by channels times height times width.",
        ),
    ),
    "08.2": Exercise(
        test=step_price,
        praise="A step costs the signal that it wins, times the squared error, and no variance.",
        hints=(
            "Section 8.4 derives it. SNR is alpha_bar / (1 - alpha_bar).",
            "Half of (SNR at alpha_bar_prev less SNR at alpha_bar_t), times the sum of squares.",
            "(x_0 - x_0_hat).square().flatten(1).sum(1) is the sum of squares of each image.",
        ),
        forbidden=("L_t_minus_1",),
    ),
    "08.3": Exercise(
        test=best_share,
        praise="Outside [0, 1] it works too: the network may go beyond both extremes.",
        hints=(
            "Solve log(variance) = u log(beta) + (1 - u) log(beta_tilde) for u.",
            "u is (log variance - log beta_tilde) / (log beta - log beta_tilde).",
        ),
    ),
    "08.4": Exercise(
        test=priced,
        praise=(
            "Negative bits for whole pictures: a density may be as large as it likes, a "
            "probability may not. The width of a level makes the one into the other."
        ),
        hints=(
            "A probability is a density times the width of what it stands for.",
            "The 256 levels are the numbers k / 127.5 - 1. How far apart are they?",
            "-log2 of that width has to be added in each dimension.",
        ),
    ),
    "08.5": Exercise(
        test=strata,
        praise=(
            "Stratified: `bits_per_dimension` draws its t so. The mean over all parts is that of "
            "uniform times, and no part is hit twice while another stays empty."
        ),
        hints=(
            "Part number k reaches from k / count to (k + 1) / count.",
            "Draw `count` numbers in [0, 1), one for each part, and bring each into its part.",
        ),
    ),
    "08.6": Exercise(
        test=trace_by_signs,
        praise="One call of autograd a probe, whatever the dimension.",
        hints=(
            "y must know that gradients are wanted: y.clone().requires_grad_().",
            "torch.autograd.grad((field(y) * r).sum(), y) is r^T J, a row for each item.",
            "Multiply by r, sum over the last dimension, and take the mean over the probes.",
        ),
        forbidden=("hutchinson", "exact_trace"),
    ),
    "08.7": Exercise(
        test=coder,
        praise="A coder in five lines, and nothing is lost but a fraction of a bit at the end.",
        hints=(
            "Push: M * (n // f[s]) + c + n % f[s], with c = sum(f[:s]) and M = 2**16.",
            "Pop: n % M is a place; find the symbol with c <= place < c + f[s].",
            "The state before was f[s] * (n // M) + place - c.",
        ),
        forbidden=("push", "pop"),
    ),
    "08.8": Exercise(
        test=whole_bound,
        praise="Your bound is right: independent pixels with K levels cost log2 K bits.",
        hints=(
            "Three terms in nats of each image: KL of the prior at high, (high - low) times the "
            "mean of exp(-gamma) / 2 times the squared error, and the decoder at low.",
            "KL of N(a x, b^2) from N(0, 1): (a^2 x^2 + b^2 - 1) / 2 - log b, summed over pixels.",
            "Decoder: log-softmax over the 256 levels of -(z / a - level)^2 / (2 b^2 / a^2), "
            "taken at the pixel's own level.",
        ),
        forbidden=("diffusion_nats", "decoder_nats", "plain_decoder", "prior_nats"),
    ),
}
