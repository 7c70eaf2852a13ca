"""Pictures: grids and strips of images, curves, histograms, and GIFs.

Noise is always shown on the fixed scale [-1, 1] (anything outside is clamped), never rescaled frame
by frame. Colours are the same throughout the series and can be told apart by the colour-blind and
in grey (Okabe & Ito 2008).
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from tutorial_lib import files
from tutorial_lib.data import to_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class _Pyplot:
    """matplotlib.pyplot, imported when the first figure is drawn: it takes longer than all the rest
    of the package.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("matplotlib.pyplot"), name)


plt = _Pyplot()
DATA, NOISE, MODEL, QUIET = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
Series = dict[str, tuple[Sequence[float], str]]  # name -> (values, colour)


def tile(pixels: Tensor, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Arrange images in a grid.  pixels: (N, C, H, W) uint8.  Returns (H', W') or (H', W', 3)
    uint8.

    columns: as square as possible by default.  A last row that is not full is filled with white.
    """
    if len(pixels) == 0:
        raise ValueError("there are no images to arrange")
    columns = columns or int(np.ceil(len(pixels) ** 0.5))
    missing = -len(pixels) % columns
    padded = torch.cat([pixels, pixels.new_full((missing, *pixels.shape[1:]), 255)])
    padded = torch.nn.functional.pad(padded, (0, gap, 0, gap), value=255)
    grid = rearrange(padded, "(r k) c h w -> (r h) (k w) c", k=columns).numpy()
    grid = grid[: grid.shape[0] - gap or None, : grid.shape[1] - gap or None]
    return grid[..., 0] if grid.shape[-1] == 1 else grid


def grid(x: Tensor, columns: int | None = None, title: str = "", size: float = 4.0) -> Figure:
    """A figure of images in a grid.  x: (N, C, H, W), in [-1, 1] or uint8.  size: width in inches."""
    picture = tile(as_pixels(x), columns)
    figure, axes = plt.subplots(
        figsize=(size, size * picture.shape[0] / picture.shape[1] + 0.3 * bool(title))
    )
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    figure.tight_layout(pad=0.3)
    return _closed(figure)


def strip(
    rows: Sequence[Tensor], labels: Sequence[str], names: Sequence[str] = (), title: str = ""
) -> Figure:
    """Rows of images under common column labels.  rows: each (N, C, H, W).  names: what each row
    is.
    """
    size = (1.05 * len(labels), 1.05 * len(rows) + 0.5)
    figure, axes = plt.subplots(
        len(rows), len(labels), figsize=size, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for row, images in zip(axes, rows, strict=True):
        for axis, image in zip(row, as_pixels(images), strict=True):
            axis.imshow(rearrange(image, "c h w -> h w c").numpy(), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, label in zip(axes[0], labels, strict=True):
        axis.set_title(label, fontsize=9)
    for axis, name in zip(axes[:, 0], names, strict=False):
        axis.set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return _closed(figure)


def clouds(
    rows: Sequence[Sequence], labels: Sequence[str], names: Sequence[str], title: str = ""
) -> Figure:
    """Rows of clouds in the plane on one scale.  Each panel: points (N, 2), or a pair (places,
    arrows), both (N, 2).
    """
    size = (1.6 * len(labels), 1.6 * len(rows) + 0.5)
    figure, axes = plt.subplots(
        len(rows), len(labels), figsize=size, squeeze=False, layout="constrained"
    )
    for row, panels, name in zip(axes, rows, names, strict=True):
        for axis, panel, label in zip(row, panels, labels, strict=True):
            if isinstance(panel, tuple):
                axis.quiver(*panel[0].T, *panel[1].T, color=MODEL, angles="xy", width=0.01)
            else:
                axis.scatter(*panel.T, s=1, color=DATA, linewidths=0)
            axis.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
            if axis in axes[0]:
                axis.set_title(label, fontsize=9)
        row[0].set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return _closed(figure)


def curves(
    x: Sequence[float], lines: Series, title: str, xlabel: str, ylabel: str, log: str = ""
) -> Figure:
    """Lines over a common x.  lines: name -> (values, colour).  log: the logarithmic axes, as "y"
    or "xy".
    """
    figure, axes = plt.subplots(figsize=(6, 3))
    for (name, (values, colour)), style in zip(
        lines.items(), ("-", "--", ":", "-.") * len(lines), strict=False
    ):
        axes.plot(x, values, style, color=colour, label=name)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, **{f"{axis}scale": "log" for axis in log})
    outside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if len(lines) > 4 else {}
    axes.legend(frameon=True, framealpha=0.85, edgecolor="none", **outside)
    return _framed(figure, axes)


def bars(
    names: Sequence[str], values: Sequence[float] | Series, title: str, ylabel: str,
    colour: str | Sequence[str] = MODEL, top: float | None = None,
) -> Figure:  # fmt: skip
    """One bar for each name, or one of each series.  values: numbers, or series -> (numbers,
    colour).

    colour: of all bars, or one each, where there is one series.  top: where the axis ends.
    """
    series = values if isinstance(values, dict) else {"": (values, colour)}
    figure, axes = plt.subplots(figsize=(6, 3))
    for i, (label, (heights, fill)) in enumerate(series.items()):
        places = np.arange(len(names)) + (i - (len(series) - 1) / 2) * 0.8 / len(series)
        axes.bar(
            places, heights, width=0.8 / len(series), color=fill, edgecolor="white", label=label
        )
    if len(series) > 1:
        axes.legend(frameon=False)
    slanted = {"rotation": 30, "ha": "right"} if max(map(len, names)) > 5 else {}
    axes.set_xticks(range(len(names)), names, fontsize=8, **slanted)
    axes.set(title=title, ylabel=ylabel, ylim=(0, top))
    return _framed(figure, axes)


def chains(graphs: dict[str, tuple[Tensor, Sequence[str]]], title: str = "") -> Figure:
    """Markov chains side by side, states on a circle, arrows as wide as their probability.

    graphs: name -> (P (S, S), names of the states).
    """
    figure, axes = plt.subplots(
        1, len(graphs), figsize=(3.1 * len(graphs), 3.2), squeeze=False, layout="constrained"
    )
    for axis, (name, (P, states)) in zip(axes[0], graphs.items(), strict=True):
        angle = np.pi / 2 - 2 * np.pi * np.arange(len(P)) / len(P)
        places = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        for i, j in (P > 0).nonzero().tolist():
            _arrow(axis, places[i], places[j], float(P[i, j]))
        for place, state in zip(places, states, strict=True):
            axis.add_patch(plt.Circle(place, 0.36, facecolor=DATA, edgecolor="white", zorder=3))
            axis.text(*place, state, ha="center", va="center", fontsize=9, color="white", zorder=4)
        axis.set(xlim=(-2, 2), ylim=(-1.7, 2), aspect="equal")
        axis.set_axis_off()
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return _closed(figure)


def _arrow(axis, start: np.ndarray, end: np.ndarray, weight: float) -> None:
    """One arrow of a chain, bent so that there and back do not overlap; a loop where start is end."""
    width = 0.6 + 2.4 * weight
    if (start == end).all():
        axis.add_patch(plt.Circle(1.5 * start, 0.3, fill=False, color=QUIET, lw=width))
        label = 1.56 * start
    else:
        way = (end - start) / np.linalg.norm(end - start)
        label = (start + end) / 2 + 0.2 * np.array([way[1], -way[0]])
        style = {
            "connectionstyle": "arc3,rad=0.22",
            "arrowstyle": "-|>",
            "color": QUIET,
            "lw": width,
        }
        axis.annotate("", xy=end - 0.34 * way, xytext=start + 0.34 * way, arrowprops=style)
    white = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    axis.text(*label, f"{weight:g}", ha="center", va="center", fontsize=8, bbox=white)


def histogram(
    clouds: dict[str, tuple[Tensor, str]],
    title: str,
    density: tuple[Tensor, Tensor] | None = None,
    xlabel: str = "x",
) -> Figure:
    """Histograms of clouds of numbers, as densities.  clouds: name -> (numbers, colour).

    The first is filled, the others are outlines.

    density: a grid and the values of a density on it, drawn as a black line.
    """
    figure, axes = plt.subplots(figsize=(6, 3))
    low, high = (
        f(float(f(cloud.min(), cloud.max())) for cloud, _ in clouds.values()) for f in (min, max)
    )
    style = {"histtype": "stepfilled", "alpha": 0.5}
    for name, (cloud, colour) in clouds.items():
        axes.hist(
            cloud.numpy(),
            bins=np.linspace(low, high, 80),
            density=True,
            color=colour,
            label=name,
            **style,
        )
        style = {"histtype": "step", "lw": 1.8}
    if density is not None:
        axes.plot(*density, color="black", lw=1, ls="--", label="density")
    axes.set(title=title, xlabel=xlabel, ylabel="density")
    axes.legend(frameon=False)
    return _framed(figure, axes)


def kl_integrand(grid: Tensor, log_q: Tensor, log_p: Tensor, title: str) -> Figure:
    """Two densities on a grid and the integrand q log(q / p) of their divergence, with its signed
    area.
    """
    q, p = log_q.exp(), log_p.exp()
    integrand = q * (log_q - log_p)
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(grid, q, color=DATA, label="q")
    axes.plot(grid, p, "--", color=NOISE, label="p")
    axes.plot(grid, integrand, color=MODEL, lw=1)
    axes.fill_between(
        grid, integrand.clamp(min=0), color=MODEL, alpha=0.5, label="q log(q / p), counted up"
    )
    axes.fill_between(
        grid, integrand.clamp(max=0), color=MODEL, alpha=0.2, hatch="///", label="counted down"
    )
    axes.axhline(0, color="black", lw=0.5)
    axes.set(title=title, ylim=(-0.35, 1.1), xlabel="x")
    axes.legend(frameon=False, loc="upper right")
    return _framed(figure, axes)


def save(x: Tensor, path: Path | str, columns: int | None = None) -> Path:
    """Write a grid of images as PNG.  x: (N, C, H, W), in [-1, 1] or uint8."""
    buffer = io.BytesIO()
    Image.fromarray(tile(as_pixels(x), columns)).save(buffer, "png")
    return files.write(path, buffer.getvalue())


def _framed(figure: Figure, axes) -> Figure:
    """A figure of one pair of axes, without the frame's upper and right sides, closed."""
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return _closed(figure)


def _closed(figure: Figure) -> Figure:
    """The figure, closed: the caller shows it, once."""
    plt.close(figure)
    return figure


def as_pixels(x: Tensor) -> Tensor:
    """Images as uint8 on the CPU, whether they come so or in [-1, 1]."""
    return x.cpu() if x.dtype == torch.uint8 else to_pixels(x).cpu()
