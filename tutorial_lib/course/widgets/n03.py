"""Pictures of notebook 03: paths from noise to data; and its explorers, the divergence and the
decoder.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import diffusion, gaussian, sample, toys
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, panels, slider
from tutorial_lib.schedule import NoiseSchedule, from_betas, linear

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PICTURE = -1.0  # the "picture" of `paths_picture`: one number, the rarer of the two kinds
NEAR = 0.1


def paths_picture() -> Figure:
    """Sixty paths of a perfect model, and sixty of the forward process from one picture.

    Pictures are single numbers here.
    """
    model, forward = _paths()  # (T + 1, N) each: from T down to 0, and from 0 up to T
    T = len(model) - 1
    arrives = (model[-1] - PICTURE).abs() < NEAR  # (N,)
    figure, (left, right) = panels(1, 1)
    steps = range(T, -1, -1)
    left.plot(steps, model[:, ~arrives], color=plot.QUIET, lw=0.5)
    left.plot(steps, model[:, arrives], color=plot.MODEL, lw=1.6)
    right.plot(range(T + 1), forward, color=plot.DATA, lw=0.5)
    left.set_title(f"from noise: {int(arrives.sum())} of {len(arrives)} arrive", fontsize=9)
    right.set_title("the forward process: all begin at it", fontsize=9)
    for axis in (left, right):
        axis.axhline(PICTURE, color="black", lw=0.8, ls="--", zorder=1)
        axis.plot([0], [PICTURE], "o", color="black", ms=4, zorder=3)
        axis.set(xlim=(T, -1), ylim=(-3.9, 3.9), xlabel="step t")
    left.set_ylabel("$x_t$", labelpad=1)
    figure.suptitle("Few of the model's own paths lead to this picture (dashed)", fontsize=10)
    return figure


@lru_cache
def _paths() -> tuple[Tensor, Tensor]:
    """Paths of the perfect model of a mixture, (T + 1, N), first noise; and of the forward
    process, (T + 1, N), first the picture.
    """
    schedule = linear(40, rescaled=True)
    bumps = toys.Mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [1.2]]), 0.1)
    generator = torch.Generator().manual_seed(0)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return bumps.x_0_hat(x_t, float(schedule.alpha_bar[t[0]]))

    x_T = torch.randn(60, 1, generator=generator)
    model = [frame.x for frame in sample.ddpm(denoise, schedule, x_T, generator=generator)]
    x_0 = torch.full((60, 1), PICTURE)
    forward = [x_0, *diffusion.q_walk(schedule, x_0, generator=generator)]
    return torch.cat(model, dim=1).T, torch.cat(forward, dim=1).T  # (T + 1, N) each


def kl_picture(
    mean_q: float = 0.0, spread_q: float = 1.0, mean_p: float = 1.0, spread_p: float = 0.7
) -> Figure:
    """Two Gaussians, and the integrand of KL(q || p) with its signed area.

    spread_q, spread_p: standard deviations, above 0.
    """
    variance_q = spread_q**2
    variance_p = spread_p**2
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    log_q = gaussian.log_density(grid, mean_q, variance_q)
    log_p = gaussian.log_density(grid, mean_p, variance_p)
    q = (torch.tensor(mean_q), torch.tensor(variance_q))
    p = (torch.tensor(mean_p), torch.tensor(variance_p))
    there = float(gaussian.kl(*q, *p))
    back = float(gaussian.kl(*p, *q))
    title = f"KL(q || p) = {there:.3f} nats, KL(p || q) = {back:.3f}"
    figure = plot.kl_integrand(grid, log_q, log_p, title)
    highest = float((log_q.exp() * (log_q - log_p)).max())
    figure.axes[0].set(ylim=(-0.35, max(1.1, 1.05 * highest)), xlim=(-6, 6))
    figure.axes[0].locator_params(nbins=4)
    return figure


def kl() -> VBox:
    """Move two Gaussians against each other (notebook 03)."""
    controls = {}
    for name, mean, spread in (("q", 0.0, 1.0), ("p", 1.0, 0.7)):
        controls[f"mean_{name}"] = slider(f"mean of {name}", mean, -2.5, 2.5, 0.1, width=330)
        controls[f"spread_{name}"] = slider(f"spread of {name}", spread, 0.4, 2.0, 0.1, width=330)
    return explorer(kl_picture, controls, [["mean_q", "spread_q"], ["mean_p", "spread_p"]])


def decoder_picture(mean: float = 0.1, sigma: float = 0.01, pixel: int = 140) -> Figure:
    """The Gaussian of the last step, cut into 256 buckets: one from close by, and all of them.

    Eq. 13.  mean: on the scale [-1, 1].  sigma: in (0, 1).  pixel: a grey level, 0..255.
    """
    levels = torch.arange(256, dtype=torch.float64)[:, None] / 127.5 - 1  # (256, 1): one pixel each
    minus_log_p = diffusion.L_0(_one_step(sigma), levels, torch.full_like(levels, mean))
    p = (-minus_log_p).exp()  # (256,)
    figure, (near, whole) = panels(1, 1)
    _draw_bucket(near, levels, pixel, mean, sigma)
    whole.stairs(p, torch.arange(257) - 0.5, fill=True, color=plot.MODEL)
    whole.bar([pixel], [float(p[pixel])], width=1.0, color=plot.NOISE)
    whole.set(xlim=(-3, 258), ylim=(0, max(1.15 * float(p.max()), 0.02)), xlabel="grey level")
    whole.set_title(f"all buckets together: {float(p.sum()):.4f}", fontsize=9)
    figure.suptitle(f"p(pixel = {pixel}) = {float(p[pixel]):.4g}", fontsize=10)
    return figure


def _draw_bucket(axis: Axes, levels: Tensor, pixel: int, mean: float, sigma: float) -> None:
    """The density around a grey level, and the part of it that falls into this level's bucket."""
    centre = float(levels[pixel])
    low = -3.0 if pixel == 0 else centre - 1 / 255  # the outermost buckets have no end
    high = 3.0 if pixel == 255 else centre + 1 / 255
    grid = torch.linspace(centre - 8 / 255, centre + 8 / 255, 401, dtype=torch.float64)
    density = gaussian.log_density(grid, mean, sigma**2).exp()
    inside = ((grid >= low) & (grid <= high)).numpy()
    axis.plot(grid, density, color=plot.MODEL)
    axis.fill_between(grid, density, where=inside, color=plot.NOISE, alpha=0.5)
    for k in range(max(0, pixel - 4), min(255, pixel + 4)):
        axis.axvline(float(levels[k]) + 1 / 255, color=plot.QUIET, lw=0.6)
    axis.set(xlim=(grid[0], grid[-1]), ylim=(0, 0.42 / sigma), xlabel="pixel value in [-1, 1]")
    axis.set_title(f"bucket {pixel}, from {_edge(low)} to {_edge(high)}", fontsize=9)


def _edge(x: float) -> str:
    if x < -2:
        return "-infinity"
    if x > 2:
        return "infinity"
    return f"{x:.3f}"


@lru_cache
def _one_step(sigma: float) -> NoiseSchedule:
    """A schedule whose decoder has that standard deviation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it does not end in noise
        return from_betas([sigma**2])


def decoder() -> VBox:
    """Move the Gaussian over the buckets (notebook 03)."""
    spreads = (0.002, 0.004, 0.01, 0.02, 0.05, 0.1, 0.3)
    controls = {
        "mean": slider("mean", 0.1, -1.2, 1.2, 0.005),
        "sigma": choice("sigma", spreads, 0.01),
        "pixel": slider("grey level", 140, 0, 255),
    }
    return explorer(decoder_picture, controls)
