"""Explorers of notebook 02: the forward process."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import data, diffusion, gaussian
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, menu, panels, show, slider
from tutorial_lib.schedule import NAMED, NoiseSchedule, named, same_t

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@lru_cache
def _four() -> tuple[Tensor, Tensor]:
    """Four test images, (4, 1, 28, 28) in [-1, 1], and their noise: always the same."""
    images = data.load("embedded", "test")
    labels = images.labels.tolist()
    first = [labels.index(label) for label in (0, 1, 8, 9)]  # T-shirt, trouser, bag, ankle boot
    x_0 = data.batch(images, torch.tensor(first))
    generator = torch.Generator().manual_seed(0)
    return x_0, torch.randn(x_0.shape, generator=generator)


@lru_cache
def _named(name: str, T: int) -> NoiseSchedule:
    with warnings.catch_warnings():
        # The picture itself shows where a schedule does not end in noise.
        warnings.simplefilter("ignore", UserWarning)
        return named(name, T)


def noising_picture(t: int = 250, T: int = 1000, name: str = "linear") -> Figure:
    """Four images after t of T steps, the histogram of their pixels, and the signal-to-noise ratio.

    t: 0..T, and what is larger counts as T (Eq. 4).
    name: of the schedule, one of `schedule.NAMED`; others raise ValueError.
    """
    schedule = _named(name, T)
    x_0, eps = _four()
    t = min(t, T)
    x_t = diffusion.q_sample(schedule, x_0, same_t(t, 4), eps) if t else x_0
    figure, (images, pixels, ratio) = panels(1.1, 1, 1)
    show(images, x_t, 2, f"at t = {t}")
    _draw_pixels(pixels, x_t)
    _draw_ratio(ratio, schedule.snr, t)
    amplitude = schedule.alpha_bar.sqrt()
    figure.suptitle(
        f"{amplitude[t]:.3f} of the image's amplitude is left; "
        f"at the end of this schedule {amplitude[T]:.3f}",
        fontsize=10,
    )
    return figure


def _draw_pixels(axis: Axes, x_t: Tensor) -> None:
    """The histogram of all pixels, beside a standard normal."""
    density, edges = x_t.flatten().histogram(bins=60, range=(-3.0, 3.0), density=True)
    normal = gaussian.log_density(edges, 0.0, 1.0).exp()
    axis.stairs(density.clamp(max=1.5), edges, fill=True, color=plot.DATA, alpha=0.6)
    axis.plot(edges, normal, "--", color="black", lw=1)
    axis.set(ylim=(0, 1.5), xlabel="pixel")
    axis.set_title("pixels, and N(0, 1) dashed", fontsize=9)


def _draw_ratio(axis: Axes, snr: Tensor, t: int) -> None:
    """The signal-to-noise ratio of every step, and where t stands."""
    T = len(snr) - 1
    axis.plot(range(1, T + 1), snr[1:], color=plot.MODEL)
    if t:
        axis.plot([t], [snr[t]], "o", color=plot.NOISE)
    axis.axhline(1, color=plot.QUIET, lw=0.7)
    axis.set(yscale="log", ylim=(1e-6, 1e5), xlim=(0, T), xlabel="t")
    axis.set_yticks([1e-4, 1, 1e4], ["0.0001", "1", "10,000"])
    axis.minorticks_off()
    axis.set_title("signal-to-noise ratio", fontsize=9)


def noising() -> VBox:
    """Move through the forward process of any schedule (notebook 02)."""
    t = slider("t", 250, 0, 1000)
    T = choice("T", (10, 40, 100, 300, 1000), 1000)
    name = menu("schedule", tuple(NAMED), "linear")

    def follow(change: dict) -> None:
        t.max = change["new"]

    T.observe(follow, "value")
    return explorer(noising_picture, {"t": t, "T": T, "name": name}, [["t"], ["T", "name"]])
