"""Explorers of notebook 02: the forward process, and one step back."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import data, diffusion, gaussian, toys
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


@lru_cache
def _pair() -> toys.Mixture:
    """One pixel that is nearly black or nearly white: two bumps at -1 and 1, 0.3 wide."""
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    return toys.Mixture(torch.full((2,), 0.5, dtype=torch.float64), means, 0.3**2)


def _log_q(x: Tensor) -> Tensor:
    """The logarithm of that pixel's density at the points x, (N,) -> (N,)."""
    return _pair().log_density(x[:, None])


def step_back_picture(beta: float = 0.02, x_1: float = 0.4) -> Figure:
    """Where x_1 came from: Bayes' rule, beside the Gaussian that the score predicts.

    beta: of the one step that was taken, in (0, 1).
    x_1: where it ended.
    """
    line = torch.linspace(-2.5, 2.5, 2001, dtype=torch.float64)
    spacing = float(line[1] - line[0])
    centre, variance = x_1 / (1 - beta) ** 0.5, beta / (1 - beta)  # of the bell in x_0
    near = torch.tensor([centre - 1e-4, centre, centre + 1e-4], dtype=torch.float64)
    below, at, above = _log_q(near)
    score = (above - below) / 2e-4  # the slope of log q
    log_bell = gaussian.log_density(line, centre, variance)
    exact = (_log_q(line) + log_bell).softmax(0) / spacing  # a density: its sum is 1 / spacing
    log_gaussian = gaussian.log_density(line, centre + variance * score, variance)
    kl = (torch.special.xlogy(exact, exact) - exact * log_gaussian).sum() * spacing
    figure, (logarithms, densities) = panels(1, 1)
    _draw_tangent(logarithms, line, centre, variance**0.5, at + score * (line - centre))
    x_0 = line.numpy()
    densities.fill_between(
        x_0, exact.numpy(), color=plot.DATA, alpha=0.35, label="exact, by Bayes' rule"
    )
    densities.plot(x_0, log_bell.exp().numpy(), ":", color=plot.NOISE, label="bell at c")
    moved = "bell at c, moved by the score"
    densities.plot(x_0, log_gaussian.exp().numpy(), "--", color=plot.MODEL, label=moved)
    densities.set(xlim=(-2.2, 2.2), ylim=(0, 1.7 * float(exact.max())), xlabel="$x_0$")
    densities.legend(frameon=False, fontsize=8, loc="upper left")
    densities.set_title(f"where $x_1$ = {x_1:.1f} came from", fontsize=9)
    figure.suptitle(
        f"beta = {beta:g}: the exact step back and the moved bell differ by {float(kl):.2g} nats",
        fontsize=10,
    )
    return figure


def _draw_tangent(axis: Axes, line: Tensor, centre: float, width: float, tangent: Tensor) -> None:
    """log q, and the straight line that stands in for it across the bell."""
    inside = (line - centre).abs() < 2 * width
    axis.axvspan(centre - 2 * width, centre + 2 * width, color=plot.NOISE, alpha=0.2, lw=0)
    axis.plot(line.numpy(), _log_q(line).numpy(), color=plot.DATA)
    axis.plot(line[inside].numpy(), tangent[inside].numpy(), "--", color=plot.MODEL, lw=2)
    axis.set(xlim=(-2.2, 2.2), ylim=(-9, 2), xlabel="$x_0$")
    axis.set_title("log q, its tangent, and the width of the bell", fontsize=9)


def step_back() -> VBox:
    """Move through one step back of any size, from any place (notebook 02)."""
    beta = choice("beta", (0.5, 0.2, 0.1, 0.05, 0.02, 0.005, 0.001), 0.02)
    x_1 = slider("x_1", 0.4, -1.6, 1.6, 0.1)
    return explorer(step_back_picture, {"beta": beta, "x_1": x_1})
