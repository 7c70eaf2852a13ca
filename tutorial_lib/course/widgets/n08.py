"""The explorer of notebook 08: what a picture costs, by noise level, and what is seen for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib.beyond.compression import rate_and_distortion
from tutorial_lib.beyond.variational import Continuous, diffusion_nats, noised
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, panels, show, slider
from tutorial_lib.data import to_model, to_pixels

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

Recorded = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def profile(denoise: Continuous, pixels: Tensor, grid: Tensor, *, seed: int) -> Recorded:
    """What each noise level costs each picture, how far off the guess is there, and the guess.

    pixels: (N, 1, H, W) uint8.  grid: (G,) values of gamma, rising.  The noise of a picture is the
    same at every level.
    Returns nats a dimension and unit of gamma, (N, G); squared errors a dimension, (N, G); and the
    guesses, (N, G, 1, H, W) uint8.
    """
    x_0 = to_model(pixels)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))
    nats, squares, guesses = [], [], []
    for level in grid:
        gamma = torch.full((len(x_0),), float(level))
        guess = denoise(noised(x_0, gamma, eps), gamma)
        nats.append(diffusion_nats(x_0, guess, gamma) / x_0[0].numel())
        squares.append((x_0 - guess).square().flatten(1).mean(1))
        guesses.append(to_pixels(guess))
    stacked = [torch.stack(one, dim=1) for one in (nats, squares, guesses)]
    return stacked[0].double(), stacked[1].double(), stacked[2]


def rates_picture(
    recorded: Recorded, pixels: Tensor, grid: Tensor, picture: int = 0, moment: int = 14
) -> Figure:
    """A picture and its guess at one noise level, beside its bits by gamma.

    recorded: of `profile`, with its pixels and grid.  picture: 0..N - 1.  moment: 0..G - 1.
    """
    nats, squares, guesses = recorded
    bits = nats[picture] / torch.log(torch.tensor(2.0)).double()
    rate, distortion = rate_and_distortion(nats[picture], squares[picture], grid)
    figure, (images, line) = panels(1.2, 1)
    seen = torch.stack([pixels[picture], guesses[picture, moment]])
    show(images, seen, 2, "the picture, and what is seen of it")
    line.plot(grid, bits, color=plot.MODEL)
    line.fill_between(grid[moment:], 0, bits[moment:], color=plot.MODEL, alpha=0.3)
    line.axvline(float(grid[moment]), color=plot.QUIET, lw=1)
    line.set(xlim=(float(grid[-1]), float(grid[0])), ylim=(0, 0.8), xlabel=r"$\gamma$")
    line.set_title("bits a pixel and unit of $\\gamma$", fontsize=9)
    sent, off = float(rate[moment]), float(distortion[moment])
    title = f"{sent:.3f} of {float(rate[0]):.2f} bits a pixel sent, {off:.0f} grey levels off"
    figure.suptitle(title, fontsize=10)
    return figure


def rates(recorded: Recorded, pixels: Tensor, grid: Tensor) -> VBox:
    """Choose a picture, and how much of it has been sent (notebook 08).

    recorded: of `profile`, with its pixels and grid.
    """
    nats, squares, _ = recorded
    rate, _ = rate_and_distortion(nats.mean(0), squares.mean(0), grid)
    sent = [(f"{float(bits):.2g}", moment) for moment, bits in enumerate(rate)]
    controls = {
        "picture": slider("picture", 1, 0, len(pixels) - 1),
        "moment": choice("bits a pixel sent, on average", sent[::-1], 14),
    }

    def draw(**state) -> Figure:
        return rates_picture(recorded, pixels, grid, **state)

    return explorer(draw, controls, [["picture", "moment"]])
