"""Pictures: grids and strips of images, curves, histograms, bars, clouds and chains.

Noise is always shown on the fixed scale [-1, 1] (anything outside is clamped), never rescaled frame
by frame.  Colours are the same throughout the series and can be told apart by the colour-blind and
in grey (Okabe & Ito 2008).  Every figure is returned closed: whoever asked for it shows it, once.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from tutorial_lib import files
from tutorial_lib.course.mosaic import as_pixels, finite, tile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DATA, NOISE, MODEL, QUIET = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
FEW = 8  # values on a logarithmic axis that are ticks themselves
GREY = {"cmap": "gray", "vmin": 0, "vmax": 255}  # how pixels 0..255 are shown
Series = dict[str, tuple[Sequence[float], str]]  # name -> (values, colour)
# Of a legend: under the axes and their label.
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "ncols": 4}


def save(x: Tensor, path: Path | str, columns: int | None = None) -> Path:
    """Write a grid of images as PNG.  x: (N, C, H, W), in [-1, 1] or uint8."""
    picture = Image.fromarray(tile(as_pixels(x), columns))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return files.write(path, buffer.getvalue())


def grid(x: Tensor, columns: int | None = None, title: str = "", size: float = 4.0) -> Figure:
    """Images in a grid.  x: (N, C, H, W), in [-1, 1] or uint8.  size: width in inches."""
    picture = tile(as_pixels(x), columns)
    height = size * picture.shape[0] / picture.shape[1]
    if title:
        height += 0.3
    figure, axes = _subplots(figsize=(size, height))
    axes.imshow(picture, interpolation="nearest", **GREY)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    figure.tight_layout(pad=0.3)
    return figure


def strip(
    rows: Sequence[Tensor], labels: Sequence[str], names: Sequence[str] = (), title: str = ""
) -> Figure:
    """Rows of images under common labels.

    rows: each (N, C, H, W), in [-1, 1] or uint8.  labels: of the N columns.  names: of the rows.
    """
    figure, axes = _panels(len(rows), len(labels), inches=1.05, title=title)
    near = {"w_pad": 0.02, "h_pad": 0.02, "wspace": 0.02, "hspace": 0.02}
    figure.set_layout_engine("constrained", **near)
    for row, images in zip(axes, rows, strict=True):
        for axis, image in zip(row, as_pixels(images), strict=True):
            axis.imshow(rearrange(image, "c h w -> h w c").numpy(), **GREY)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    _label(axes, labels, names)
    return figure


def clouds(
    rows: Sequence[Sequence],
    labels: Sequence[str],
    names: Sequence[str] = (),
    title: str = "",
    colours: Sequence[Sequence] = (),
    reach: float = 3.0,
) -> Figure:
    """Rows of clouds in the plane, all on one scale, under common labels.

    Each panel of a row: points (N, 2), or a pair of places and arrows, (N, 2) each.
    colours: those of the points of each panel, or one or a number for each of its points, (N,).
    reach: the axes run from -reach to reach.
    """
    figure, axes = _panels(len(rows), len(labels), inches=1.6, title=title)
    colours = colours or [[DATA] * len(labels)] * len(rows)
    for row, panels, painted in zip(axes, rows, colours, strict=True):
        for axis, panel, colour in zip(row, panels, painted, strict=True):
            if isinstance(panel, tuple):
                places, arrows = (finite(one, "these places and arrows") for one in panel)
                axis.quiver(*places.T, *arrows.T, color=MODEL, angles="xy", width=0.01)
            else:
                size = min(8, max(1, 1000 / len(panel)))  # of a dot; few points need larger ones
                axis.scatter(*finite(panel, "these points").T, s=size, c=colour, linewidths=0)
            ends = (-reach, reach)
            axis.set(xlim=ends, ylim=ends, xticks=[], yticks=[], aspect="equal")
    _label(axes, labels, names)
    return figure


def curves(
    x: Sequence[float],
    lines: Series,
    title: str,
    xlabel: str,
    ylabel: str,
    log: str = "",
    below: bool = False,
) -> Figure:
    """Lines over a common x.

    lines: name -> (values, colour).  log: which axes are logarithmic, as "y" or "xy"; on a
    logarithmic x axis a few values, not too near to each other, are the ticks.
    below: the legend stands below the axes, for lines that leave no corner empty.
    """
    figure, axes = _subplots(figsize=(6, 3))
    styles = cycle(("-", "--", ":", "-."))
    for name, (values, colour) in lines.items():
        axes.plot(x, values, next(styles), color=colour, label=name)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if "x" in log:
        axes.set_xscale("log")
        if len(x) <= FEW and all(after >= 1.5 * x[i] for i, after in enumerate(x[1:])):
            axes.set_xticks(x, [f"{value:g}" for value in x])
            axes.set_xticks([], minor=True)  # their labels would overlap
    if "y" in log:
        axes.set_yscale("log")
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}  # more lines leave no room inside
    place = BELOW if below else beside if len(lines) > 4 else {}
    axes.legend(frameon=True, framealpha=0.85, edgecolor="none", **place)
    return _framed(figure, axes)


def bars(
    names: Sequence[str],
    values: Sequence[float] | Series,
    title: str,
    ylabel: str,
    colour: str | Sequence[str] = MODEL,
    top: float | None = None,
) -> Figure:
    """One bar for each name, or one of each series.

    values: numbers, or series -> (numbers, colour).
    colour: of all bars, or one each, where there is one series.
    top: where the axis ends.
    """
    series = values if isinstance(values, dict) else {"": (values, colour)}
    figure, axes = _subplots(figsize=(6, 3))
    width = 0.8 / len(series)
    for i, (label, (heights, fill)) in enumerate(series.items()):
        shift = (i - (len(series) - 1) / 2) * width  # the series stand side by side
        places = np.arange(len(names)) + shift
        axes.bar(places, heights, width=width, color=fill, edgecolor="white", label=label)
    if len(series) > 1:
        axes.legend(frameon=False)
    longest = max(len(name) for name in names)
    slanted = {"rotation": 30, "ha": "right"} if longest > 5 else {}
    axes.set_xticks(range(len(names)), names, fontsize=8, **slanted)
    axes.set(title=title, ylabel=ylabel, ylim=(0, top))
    return _framed(figure, axes)


def chains(graphs: dict[str, tuple[Tensor, Sequence[str]]], title: str = "") -> Figure:
    """Markov chains side by side, states on a circle, arrows as wide as their probability.

    graphs: name -> (P (S, S), names of the states).
    """
    size = (3.1 * len(graphs), 3.2)
    figure, axes = _subplots(1, len(graphs), figsize=size, squeeze=False, layout="constrained")
    for axis, (name, (P, states)) in zip(axes[0], graphs.items(), strict=True):
        _chain(axis, P, states)
        axis.set(xlim=(-2, 2), ylim=(-1.7, 2), aspect="equal")
        axis.set_axis_off()
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _chain(axis: Axes, P: Tensor, states: Sequence[str]) -> None:
    turn = np.arange(len(P)) / len(P)
    angle = np.pi / 2 - 2 * np.pi * turn  # clockwise, from the top
    places = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (S, 2)
    for i, j in (P > 0).nonzero().tolist():
        _arrow(axis, places[i], places[j], float(P[i, j]))
    for place, state in zip(places, states, strict=True):
        _circle(axis, place, 0.36, facecolor=DATA, edgecolor="white", zorder=3)
        axis.text(
            place[0], place[1], state, ha="center", va="center", fontsize=9, color="white", zorder=4
        )


def _arrow(axis: Axes, start: np.ndarray, end: np.ndarray, weight: float) -> None:
    """One arrow of a chain, bent so that there and back stay apart; a loop where start is end."""
    width = 0.6 + 2.4 * weight
    if (start == end).all():
        _circle(axis, 1.5 * start, 0.3, fill=False, color=QUIET, lw=width)
        label = 1.56 * start
    else:
        along = (end - start) / np.linalg.norm(end - start)
        across = np.array([along[1], -along[0]])
        label = (start + end) / 2 + 0.2 * across
        bent = {"connectionstyle": "arc3,rad=0.22", "arrowstyle": "-|>"}
        style = {**bent, "color": QUIET, "lw": width}
        axis.annotate("", xy=end - 0.34 * along, xytext=start + 0.34 * along, arrowprops=style)
    white = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    axis.text(label[0], label[1], f"{weight:g}", ha="center", va="center", fontsize=8, bbox=white)


def _circle(axis: Axes, centre: np.ndarray, radius: float, **style: Any) -> None:
    from matplotlib.patches import Circle

    axis.add_patch(Circle((centre[0], centre[1]), radius, **style))


def histogram(
    clouds: dict[str, tuple[Tensor, str]],
    title: str,
    density: tuple[Tensor, Tensor] | None = None,
    xlabel: str = "x",
    below: bool = False,
) -> Figure:
    """Histograms of clouds of numbers, as densities: the first filled, the others as outlines.

    clouds: name -> (numbers, colour).
    density: a grid and the values of a density on it, drawn as a black line.
    below: the legend stands below the axes, for clouds that leave no corner empty.
    """
    figure, axes = _subplots(figsize=(6, 3))
    numbers = torch.cat([finite(cloud, name).flatten() for name, (cloud, _) in clouds.items()])
    edges = np.linspace(float(numbers.min()), float(numbers.max()), 80)  # common to all
    style = {"histtype": "stepfilled", "alpha": 0.5}
    for name, (cloud, colour) in clouds.items():
        axes.hist(cloud.numpy(), edges, density=True, color=colour, label=name, **style)
        style = {"histtype": "step", "lw": 1.8}
    if density is not None:
        axes.plot(*density, color="black", lw=1, ls="--", label="density")
    axes.set(title=title, xlabel=xlabel, ylabel="density")
    axes.legend(frameon=False, **(BELOW if below else {}))
    return _framed(figure, axes)


def kl_integrand(grid: Tensor, log_q: Tensor, log_p: Tensor, title: str) -> Figure:
    """Two densities on a grid, and the integrand q log(q / p) of their divergence with its area.

    The area is counted up where the integrand is positive, and down where it is negative.
    """
    q = log_q.exp()
    p = log_p.exp()
    integrand = q * (log_q - log_p)
    above = integrand.clamp(min=0)
    below = integrand.clamp(max=0)
    figure, axes = _subplots(figsize=(6, 3))
    axes.plot(grid, q, color=DATA, label="q")
    axes.plot(grid, p, "--", color=NOISE, label="p")
    axes.plot(grid, integrand, color=MODEL, lw=1)
    up, down = "q log(q / p), counted up", "counted down"
    axes.fill_between(grid, above, color=MODEL, alpha=0.5, label=up)
    axes.fill_between(grid, below, color=MODEL, alpha=0.2, hatch="///", label=down)
    axes.axhline(0, color="black", lw=0.5)
    axes.set(title=title, ylim=(-0.35, 1.1), xlabel="x")
    axes.legend(frameon=False, loc="upper right")
    return _framed(figure, axes)


def _subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes, closed, so that a notebook does not show it twice."""
    import matplotlib.pyplot as plt  # here, for it takes longer than all the rest of the package

    figure, axes = plt.subplots(rows, columns, **options)
    plt.close(figure)
    return figure, axes


def _panels(rows: int, columns: int, inches: float, title: str) -> tuple[Figure, np.ndarray]:
    """A figure of panels of one size, and their axes, (rows, columns)."""
    size = (inches * columns, inches * rows + 0.5)
    figure, axes = _subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, axes


def _label(axes: np.ndarray, labels: Sequence[str], names: Sequence[str]) -> None:
    """Labels above the columns; names, if there are any, beside the rows."""
    for axis, label in zip(axes[0], labels, strict=True):
        axis.set_title(label, fontsize=9)
    for axis, name in zip(axes[:, 0], names or [""] * len(axes), strict=True):
        axis.set_ylabel(name, fontsize=9)


def _framed(figure: Figure, axes: Axes) -> Figure:
    """A figure of one pair of axes, without the upper and right sides of the frame."""
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
