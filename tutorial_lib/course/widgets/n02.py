"""Explorers of notebook 02: the forward process."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import data, diffusion, gaussian, schedule
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, menu, panels, show, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure


@lru_cache
def _four() -> tuple[Tensor, Tensor]:
    """Four test images, (4, 1, 28, 28) in [-1, 1], and their noise: always the same."""
    images = data.load("embedded", "test")
    x_0 = data.batch(
        images, torch.tensor([images.labels.tolist().index(label) for label in (0, 1, 8, 9)])
    )
    return x_0, torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))


@lru_cache
def _named(name: str, T: int) -> schedule.NoiseSchedule:
    with (
        warnings.catch_warnings()
    ):  # the picture itself shows where a schedule does not end in noise
        warnings.simplefilter("ignore", UserWarning)
        return schedule.named(name, T)


def noising_picture(t: int = 250, T: int = 1000, name: str = "linear") -> Figure:
    """Four images after t of T steps of a schedule, the histogram of their pixels, and the
    signal-to-noise ratio.

    Eq. 4.  t: 0..T, and what is larger counts as T.  name: one of schedule.NAMED; others raise
    ValueError.
    """
    tables, (x_0, eps) = _named(name, T), _four()
    t = min(t, T)
    x_t = diffusion.q_sample(tables, x_0, schedule.same_t(t, 4), eps) if t else x_0
    figure, (images, pixels, ratio) = panels(1.1, 1, 1)
    show(images, x_t, 2, f"at t = {t}")
    counts, edges = x_t.flatten().histogram(bins=60, range=(-3.0, 3.0), density=True)
    pixels.stairs(counts.clamp(max=1.5), edges, fill=True, color=plot.DATA, alpha=0.6)
    normal = gaussian.log_density(edges, 0.0, 1.0).exp()
    pixels.plot(edges, normal, "--", color="black", lw=1)
    pixels.set(ylim=(0, 1.5), xlabel="pixel")
    pixels.set_title("pixels, and N(0, 1) dashed", fontsize=9)
    snr = tables.snr[1:]
    ratio.plot(range(1, T + 1), snr, color=plot.MODEL)
    if t:
        ratio.plot([t], [snr[t - 1]], "o", color=plot.NOISE)
    ratio.axhline(1, color=plot.QUIET, lw=0.7)
    ratio.set(yscale="log", ylim=(1e-6, 1e5), xlim=(0, T), xlabel="t")
    ratio.set_yticks([1e-4, 1, 1e4], ["0.0001", "1", "10,000"])
    ratio.minorticks_off()
    ratio.set_title("signal-to-noise ratio", fontsize=9)
    kept = float(tables.alpha_bar[t].sqrt())
    end = float(tables.alpha_bar[T].sqrt())
    figure.suptitle(
        f"{kept:.3f} of the image's amplitude is left; at the end of this schedule {end:.3f}",
        fontsize=10,
    )
    return figure


def noising() -> VBox:
    """Move through the forward process of any schedule (notebook 02)."""
    controls = {
        "t": slider("t", 250, 0, 1000), "T": choice("T", (10, 40, 100, 300, 1000), 1000),
        "name": menu("schedule", tuple(schedule.NAMED), "linear"),
    }  # fmt: skip
    controls["T"].observe(lambda change: setattr(controls["t"], "max", change["new"]), "value")
    return explorer(noising_picture, controls, [["t"], ["T", "name"]])
