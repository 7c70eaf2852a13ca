"""Explorers of notebook 03: the Kullback-Leibler divergence, and the decoder."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from tutorial_lib import diffusion, gaussian, schedule
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, panels, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure


def kl_picture(
    mean_q: float = 0.0, spread_q: float = 1.0, mean_p: float = 1.0, spread_p: float = 0.7
) -> Figure:
    """Two Gaussians, and the integrand of KL(q || p) with its signed area.  spreads: standard
    deviations above 0.
    """
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    log_q, log_p = (
        gaussian.log_density(grid, m, s**2) for m, s in ((mean_q, spread_q), (mean_p, spread_p))
    )
    q, p = (
        (torch.tensor(m), torch.tensor(s**2)) for m, s in ((mean_q, spread_q), (mean_p, spread_p))
    )
    there, back = float(gaussian.kl(*q, *p)), float(gaussian.kl(*p, *q))
    figure = plot.kl_integrand(
        grid, log_q, log_p, f"KL(q || p) = {there:.3f} nats, KL(p || q) = {back:.3f}"
    )
    top = float((log_q.exp() * (log_q - log_p)).max())
    figure.axes[0].set(ylim=(-0.35, max(1.1, 1.05 * top)), xlim=(-6, 6))
    figure.axes[0].locator_params(nbins=4)
    return figure


def kl() -> VBox:
    """Move two Gaussians against each other (notebook 03)."""
    controls = {
        f"{what}_{which}": slider(f"{what} of {which}", value, low, high, 0.1, width=330)
        for which, values in (("q", (0.0, 1.0)), ("p", (1.0, 0.7)))
        for what, value, low, high in (
            ("mean", values[0], -2.5, 2.5),
            ("spread", values[1], 0.4, 2.0),
        )
    }
    return explorer(kl_picture, controls, [["mean_q", "spread_q"], ["mean_p", "spread_p"]])


def decoder_picture(mean: float = 0.1, sigma: float = 0.01, pixel: int = 140) -> Figure:
    """The Gaussian of the last step, cut into 256 buckets: one bucket from close by, and the
    probability of each.

    Eq. 13.  mean: on the scale [-1, 1].  sigma: in (0, 1).  pixel: a grey level, 0..255.
    """
    levels = torch.arange(256, dtype=torch.float64)[:, None] / 127.5 - 1  # (256, 1): one pixel each
    tables = _one_step(sigma)
    p = (-diffusion.L_0(tables, levels, torch.full_like(levels, mean))).exp()
    figure, (near, all_of_them) = panels(1, 1)
    centre = float(levels[pixel])
    low, high = (
        (-3.0 if pixel == 0 else centre - 1 / 255),
        (3.0 if pixel == 255 else centre + 1 / 255),
    )
    grid = torch.linspace(centre - 8 / 255, centre + 8 / 255, 401, dtype=torch.float64)
    density = gaussian.log_density(grid, mean, sigma**2).exp()
    near.plot(grid, density, color=plot.MODEL)
    inside = ((grid >= low) & (grid <= high)).numpy()
    near.fill_between(grid, density, where=inside, color=plot.NOISE, alpha=0.5)
    for k in range(max(0, pixel - 4), min(255, pixel + 4)):
        near.axvline(float(levels[k]) + 1 / 255, color=plot.QUIET, lw=0.6)
    near.set(xlim=(grid[0], grid[-1]), ylim=(0, 0.42 / sigma), xlabel="pixel value in [-1, 1]")
    near.set_title(f"bucket {pixel}, from {_edge(low)} to {_edge(high)}", fontsize=9)
    all_of_them.stairs(p, torch.arange(257) - 0.5, fill=True, color=plot.MODEL)
    all_of_them.bar([pixel], [float(p[pixel])], width=1.0, color=plot.NOISE)
    all_of_them.set(xlim=(-3, 258), ylim=(0, max(1.15 * float(p.max()), 0.02)), xlabel="grey level")
    all_of_them.set_title(f"all buckets together: {float(p.sum()):.4f}", fontsize=9)
    figure.suptitle(f"p(pixel = {pixel}) = {float(p[pixel]):.4g}", fontsize=10)
    return figure


def _edge(x: float) -> str:
    return "-infinity" if x < -2 else "infinity" if x > 2 else f"{x:.3f}"


@lru_cache
def _one_step(sigma: float) -> schedule.NoiseSchedule:
    """A schedule whose decoder has that standard deviation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return schedule.from_betas([sigma**2])


def decoder() -> VBox:
    """Move the Gaussian over the buckets (notebook 03)."""
    spreads = (0.002, 0.004, 0.01, 0.02, 0.05, 0.1, 0.3)
    controls = {
        "mean": slider("mean", 0.1, -1.2, 1.2, 0.005), "sigma": choice("sigma", spreads, 0.01),
        "pixel": slider("grey level", 140, 0, 255),
    }  # fmt: skip
    return explorer(decoder_picture, controls)
