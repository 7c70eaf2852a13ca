"""Explorers of notebook 09: four ways to walk on a mixture, and which noise belongs to which data;
and the picture of three paths from data to noise.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import markov, toys
from tutorial_lib.beyond import flow, paths
from tutorial_lib.beyond.langevin import annealed, geometric
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, menu, panels, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

WAYS = ("Langevin", "annealed Langevin", "ODE", "SDE")
MOMENTS = 10  # of each walk, after its start
COUNT = 300  # particles
WIDE, NARROW = 6.0, 0.1  # the levels of noise between which a walk runs
STEPS = 200  # of every walk: calls of the score
PAIRINGS = ("independent", "optimal")
ROADS = {"VP": paths.vp(), "VE": paths.ve(0.05, 5.0), "straight": paths.STRAIGHT}
DOUBLE = torch.float64


def bumps(gap: float, share: float) -> toys.Mixture:
    """Two round bumps in the plane, `gap` apart, with this share of the weight in the left one."""
    weights = torch.tensor([share, 1 - share], dtype=DOUBLE)
    means = torch.tensor([[-gap / 2, -0.4], [gap / 2, 0.4]], dtype=DOUBLE)
    return toys.Mixture(weights, means, 0.15)


@cache
def _walk(gap: float, share: float, way: str) -> list[tuple[float, Tensor]]:
    """The level of noise and the particles, (COUNT, 2), at each moment of a walk."""
    mixture, generator = bumps(gap, share), torch.Generator().manual_seed(0)
    noise = torch.randn(COUNT, 2, generator=generator, dtype=DOUBLE)
    x, per_moment = WIDE * noise, STEPS // MOMENTS
    found = [(0.0 if way == "Langevin" else WIDE, x)]
    if way == "Langevin":
        walk = markov.langevin(mixture.score, x, 0.05, generator)
        states = [x for _, x in zip(range(STEPS), walk, strict=False)]
        return found + [(0.0, x) for x in states[per_moment - 1 :: per_moment]]
    if way == "annealed Langevin":
        sigmas = geometric(WIDE, NARROW, MOMENTS)
        frames = annealed(
            lambda x, sigma: mixture.blurred(float(sigma[0])).score(x),
            x,
            sigmas,
            steps=per_moment,
            step_size=0.5,
            generator=generator,
        )
        return found + [(float(s), frame.x) for s, frame in zip(sigmas, frames, strict=True)]
    road, times = paths.ve(NARROW, WIDE), torch.linspace(1, 0, STEPS + 1, dtype=DOUBLE)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = 1 / (1 + road.at(float(t[0]))[1] ** 2)
        return mixture.x_0_hat(alpha_bar**0.5 * x, alpha_bar)

    heat = 0.0 if way == "ODE" else 1.0
    frames = paths.reverse_sde(denoise, road, noise, times, generator=generator, heat=heat)
    reached = [frame.x for frame in frames][:: STEPS // MOMENTS]
    levels = [road.at(float(t))[1] for t in times[:: STEPS // MOMENTS]]
    return [*zip(levels, reached, strict=True)]


def particles_picture(
    gap: float = 5.0, share: float = 0.8, way: str = "Langevin", moment: int = MOMENTS
) -> Figure:
    """Particles on their way to a mixture of two bumps, the arrows that they follow, and where
    they lie along x beside the exact density.

    gap: between the bumps.  share: of the left one.  way: one of WAYS.  moment: 0..MOMENTS.
    """
    mixture = bumps(gap, share)
    level, x = _walk(gap, share, way)[moment]
    figure, (plane, line) = panels(1.3, 1)
    _plane(plane, mixture, level)
    plane.scatter(*x.T, s=4, c=plot.NOISE, linewidths=0)
    along = torch.linspace(-5.5, 5.5, 200, dtype=DOUBLE)
    flat = toys.Mixture(mixture.weights, mixture.means[:, :1], mixture.variance)
    line.plot(along, flat.log_density(along[:, None]).exp(), color=plot.DATA, label="data")
    edges = torch.linspace(-5.5, 5.5, 45).tolist()
    each = [1 / COUNT / (edges[1] - edges[0])] * COUNT  # a density, of all particles
    style = {"weights": each, "alpha": 0.5, "color": plot.NOISE, "label": "particles"}
    line.hist(x[:, 0].tolist(), edges, **style)
    line.set(xlim=(-5.5, 5.5), ylim=(0, 1.1), yticks=[])
    line.legend(fontsize=8, frameon=False)
    line.set_title("their x, and the density of x", fontsize=9)
    left = float((x[:, 0] < 0).double().mean())
    calls = moment * STEPS // MOMENTS
    title = f"{way}, {calls} of {STEPS} steps: {left:.0%} on the left, of the data {share:.0%}"
    figure.suptitle(title, fontsize=10)
    return figure


def _plane(plane, mixture: toys.Mixture, level: float) -> None:
    """The density of the data, and the arrows of the score at a level of noise."""
    across, up = (torch.linspace(-end, end, n, dtype=DOUBLE) for end, n in ((5.5, 56), (3.2, 33)))
    places = torch.cartesian_prod(across, up)  # (56 * 33, 2)
    density = mixture.log_density(places).exp().view(56, 33).T
    plane.contourf(across, up, density.sqrt(), levels=5, cmap="Blues", alpha=0.6)
    coarse = torch.cartesian_prod(across[2::6], up[1::5])
    arrows = mixture.blurred(level).score(coarse)
    arrows = arrows / (1 + arrows.norm(dim=1, keepdim=True))  # long ones shortened
    plane.quiver(*coarse.T, *arrows.T, color=plot.QUIET, angles="xy", width=0.004, scale=16)
    plane.set(xlim=(-5.5, 5.5), ylim=(-3.2, 3.2), xticks=[], yticks=[], aspect="equal")
    said = f"arrows: score at noise {level:.2f}" if level else "arrows: score of the data"
    plane.set_title(said, fontsize=9)


def particles() -> VBox:
    """Choose the bumps and the way of walking, and follow the particles (notebook 09)."""
    controls = {
        "gap": slider("gap between the bumps", 5.0, 1.0, 7.0, 0.5),
        "share": slider("share of the left one", 0.8, 0.1, 0.9, 0.1),
        "way": menu("way", WAYS, "Langevin"),
        "moment": slider("moment", MOMENTS, 0, MOMENTS),
    }

    def draw(gap: float, share: float, **state) -> Figure:
        return particles_picture(round(gap, 1), round(share, 1), **state)

    return explorer(draw, controls, [["gap", "share"], ["way", "moment"]])


@cache
def _pairs(count: int, pairing: str) -> tuple[Tensor, Tensor]:
    """Points of two moons, and the noise that belongs to each, (count, 2) both."""
    generator = torch.Generator().manual_seed(0)
    x_0 = toys.two_moons(count, generator)
    eps = torch.randn(count, 2, generator=generator)
    return x_0, eps[flow.optimal_pairs(x_0, eps)] if pairing == "optimal" else eps


def crossings(x_0: Tensor, eps: Tensor) -> int:
    """How many pairs of the lines from x_0 to eps, (N, 2) each, cross in the plane."""

    def side(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """On which side of the line from a to b the point c lies, a sign."""
        ahead, there = b - a, c - a
        return (ahead[..., 0] * there[..., 1] - ahead[..., 1] * there[..., 0]).sign()

    a, b, c, d = x_0[:, None], eps[:, None], x_0[None], eps[None]
    apart = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return int(apart.sum()) // 2


def pairs_picture(count: int = 32, pairing: str = "independent", t: float = 0.5) -> Figure:
    """Lines between data and noise, and the velocities that they have at time t.

    count: 8, 16, 32, 64 or 128 pairs, matched together.  pairing: one of PAIRINGS.
    """
    x_0, eps = _pairs(count, pairing)
    figure, (lines, arrows) = panels(1, 1)
    both = torch.stack([x_0, eps])  # (2, count, 2)
    lines.plot(*both.permute(2, 0, 1), color=plot.QUIET, lw=0.6)
    lines.scatter(*x_0.T, s=10, c=plot.DATA, label="data", zorder=3)
    lines.scatter(*eps.T, s=10, c=plot.NOISE, label="noise", zorder=3)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": 2}
    lines.legend(fontsize=8, frameon=False, **below)
    cut = crossings(x_0, eps)
    lines.set_title(f"{cut} crossings", fontsize=9)
    x = flow.between(x_0, eps, torch.full((count,), t))
    style = {"angles": "xy", "scale_units": "xy", "scale": 2.5, "width": 0.006}
    arrows.quiver(*x.T, *(x_0 - eps).T, color=plot.MODEL, **style)
    arrows.set_title(f"towards the data, at t = {t:.2f}", fontsize=9)
    for axis in (lines, arrows):
        axis.set(xlim=(-4.2, 4.2), ylim=(-3.0, 3.0), xticks=[], yticks=[], aspect="equal")
    length = float((x_0 - eps).square().sum(1).mean())
    title = f"{count} pairs, {pairing}: mean squared length {length:.2f}"
    figure.suptitle(title, fontsize=10)
    return figure


def pairs() -> VBox:
    """Pair noise with data, at random or as short as possible (notebook 09)."""
    controls = {
        "count": choice("pairs", (8, 16, 32, 64, 128), 32),
        "pairing": menu("pairing", PAIRINGS, "independent"),
        "t": slider("time", 0.5, 0.0, 1.0, 0.05),
    }
    return explorer(pairs_picture, controls, [["count", "pairing"], ["t"]])


def roads_picture(count: int = 7) -> Figure:
    """Densities of noised data against time on three paths, with walks back: ODE and SDE.

    The data are a mixture of two bumps on a line.  count: of each kind of walk.
    """
    weights = torch.tensor([0.7, 0.3], dtype=DOUBLE)
    mixture = toys.Mixture(weights, torch.tensor([[-1.0], [1.0]], dtype=DOUBLE), 0.02)
    figure, axes = panels(1, 1, 1, height=3.2)
    for axis, (name, road) in zip(axes, ROADS.items(), strict=True):
        _road(axis, mixture, road, count)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("t")
    axes[0].set_ylabel("x")
    title = "Three paths to noise; back by smooth walks (ODE) or by rough ones (SDE)"
    figure.suptitle(title, fontsize=10)
    return figure


def _road(axis, mixture: toys.Mixture, road: paths.Path, count: int) -> None:
    last = 0.98  # of the straight path no SDE begins at 1
    widest = 2.8 * math.hypot(*road.at(last))
    x = torch.linspace(-widest, widest, 160, dtype=DOUBLE)
    columns = []
    for t in torch.linspace(0, last, 120).tolist():
        a, b = road.at(t)
        seen = toys.Mixture(mixture.weights, a * mixture.means, a**2 * mixture.variance + b**2)
        density = seen.log_density(x[:, None]).exp()
        columns.append(density / density.max())
    field = torch.stack(columns, dim=1)
    extent = (0, last, -widest, widest)
    axis.imshow(field.sqrt(), aspect="auto", origin="lower", extent=extent, cmap="Blues", alpha=0.8)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        a, b = road.at(float(t[0]))
        length = math.hypot(a, b)
        return mixture.x_0_hat(x / length, (a / length) ** 2)

    noise = torch.special.ndtri(torch.linspace(0.06, 0.94, count, dtype=DOUBLE))[:, None]
    times = last * torch.linspace(1, 0, 151, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(1)
    smooth = paths.probability_flow(denoise, road, noise, times)
    rough = paths.reverse_sde(denoise, road, noise[::3], times, generator=generator)
    for walk, colour in ((smooth, plot.MODEL), (rough, plot.NOISE)):
        way = torch.stack([frame.x[:, 0] for frame in walk])  # (151, count)
        axis.plot(times, way, color=colour, lw=0.8)
    axis.set(xlim=(0, last), ylim=(-widest, widest))
