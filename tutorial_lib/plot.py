"""Pictures: grids and strips of images, curves, histograms, and GIFs.

Noise is always shown on the fixed scale [-1, 1] (anything outside is clamped), never rescaled frame by frame.
Colours are the same throughout the series and can be told apart by the colour-blind and in grey (Okabe & Ito 2008).
"""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from einops import rearrange
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from tutorial_lib import files
from tutorial_lib.data import to_pixels

DATA, NOISE, MODEL, QUIET = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
GREYS = 16


def tile(pixels: Tensor, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Arrange images in a grid.  pixels: (N, C, H, W) uint8.  Returns (H', W') or (H', W', 3) uint8.

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
    picture = tile(_as_pixels(x), columns)
    figure, axes = plt.subplots(figsize=(size, size * picture.shape[0] / picture.shape[1] + 0.3 * bool(title)))
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    figure.tight_layout(pad=0.3)
    plt.close(figure)  # the caller shows it, once
    return figure


def strip(rows: Sequence[Tensor], labels: Sequence[str], names: Sequence[str] = (), title: str = "") -> Figure:
    """Rows of images under common column labels.  rows: each (N, C, H, W).  names: what each row is."""
    size = (1.05 * len(labels), 1.05 * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), len(labels), figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for row, images in zip(axes, rows, strict=True):
        for axis, image in zip(row, _as_pixels(images), strict=True):
            axis.imshow(rearrange(image, "c h w -> h w c").numpy(), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, label in zip(axes[0], labels, strict=True):
        axis.set_title(label, fontsize=9)
    for axis, name in zip(axes[:, 0], names, strict=False):
        axis.set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    plt.close(figure)  # the caller shows it, once
    return figure


def curves(
    x: Sequence[float], lines: dict[str, tuple[Sequence[float], str]], title: str, xlabel: str, ylabel: str
) -> Figure:
    """Lines over a common x.  lines: name -> (values, colour)."""
    figure, axes = plt.subplots(figsize=(6, 3))
    for (name, (values, colour)), style in zip(lines.items(), ("-", "--", ":", "-.") * len(lines), strict=False):
        axes.plot(x, values, style, color=colour, label=name)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.close(figure)  # the caller shows it, once
    return figure


def bars(names: Sequence[str], values: Sequence[float], title: str, ylabel: str, colour: str = MODEL) -> Figure:
    """One bar for each name."""
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.bar(range(len(names)), values, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30 if max(map(len, names)) > 4 else 0, ha="right", fontsize=8)
    axes.set(title=title, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.close(figure)  # the caller shows it, once
    return figure


def gif(frames: Sequence[Tensor], path: Path | str, milliseconds: int = 80, columns: int | None = None) -> Path:
    """Write a looping GIF that rests on its last frame.  frames: each (N, C, H, W), in [-1, 1] or uint8.

    Grey images are reduced to 16 greys, because noise does not compress; colour ones to 64 colours.
    An earlier file at `path` survives a failure.
    """
    buffer = io.BytesIO()
    pictures = [_palette(tile(_as_pixels(frame), columns)) for frame in frames]
    durations = [milliseconds] * (len(pictures) - 1) + [2000]
    pictures[0].save(
        buffer, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
    )
    return files.write(path, buffer.getvalue())


def png(x: Tensor, path: Path | str, columns: int | None = None) -> Path:
    """Write a grid of images as PNG.  x: (N, C, H, W), in [-1, 1] or uint8."""
    buffer = io.BytesIO()
    Image.fromarray(tile(_as_pixels(x), columns)).save(buffer, "png")
    return files.write(path, buffer.getvalue())


def every(count: int, frames: int) -> list[int]:
    """Which of `count` moments to keep for an animation of at most `frames`: evenly spaced, first and last included."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, frames))})


def _as_pixels(x: Tensor) -> Tensor:
    return x.cpu() if x.dtype == torch.uint8 else to_pixels(x).cpu()


def _palette(picture: np.ndarray) -> Image.Image:
    if picture.ndim == 3:
        return Image.fromarray(picture).quantize(64)
    levels = np.round(np.linspace(0, 255, GREYS)).astype(np.uint8)
    indices = np.round(picture.astype(np.float32) * ((GREYS - 1) / 255)).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(np.repeat(levels, 3).tobytes())
    return image
