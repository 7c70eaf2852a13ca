"""Moving pictures: films of figures and GIFs of images, small enough for a page.

Noise is always shown on the fixed scale [-1, 1] (anything outside is clamped), never rescaled frame
by frame.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from tutorial_lib import files
from tutorial_lib.course.plot import as_pixels, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def film(figures: Sequence[Figure], path: Path | str, milliseconds: int = 200) -> Path:
    """Write figures of one size as a looping GIF of at most 64 colours that rests on its last
    frame.
    """
    pictures = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
        pictures.append(_palette(np.asarray(Image.open(buffer).convert("RGB"))))
    return _loop(pictures, path, milliseconds)


def gif(
    frames: Sequence[Tensor], path: Path | str, milliseconds: int = 80, columns: int | None = None
) -> Path:
    """Write a looping GIF that rests on its last frame.  frames: each (N, C, H, W), in [-1, 1] or
    uint8.

    Grey images are reduced to 16 greys, because noise does not compress; colour ones to 64 colours.
    An earlier file at `path` survives a failure.
    """
    return _loop(
        [_palette(tile(as_pixels(frame), columns)) for frame in frames], path, milliseconds
    )


def _loop(pictures: list[Image.Image], path: Path | str, milliseconds: int) -> Path:
    """Write a GIF that begins again after two seconds on its last frame."""
    buffer = io.BytesIO()
    durations = [milliseconds] * (len(pictures) - 1) + [2000]
    pictures[0].save(
        buffer,
        "gif",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        optimize=False,
    )
    return files.write(path, buffer.getvalue())


def every(count: int, frames: int) -> list[int]:
    """Which of `count` moments to keep for an animation of at most `frames`: evenly spaced, first
    and last included.
    """
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, frames))})


def _palette(picture: np.ndarray) -> Image.Image:
    if picture.ndim == 3:
        return Image.fromarray(picture).quantize(64)
    levels = np.round(np.linspace(0, 255, GREYS)).astype(np.uint8)
    indices = np.round(picture.astype(np.float32) * ((GREYS - 1) / 255)).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(np.repeat(levels, 3).tobytes())
    return image


GREYS = 16
