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
from tutorial_lib.course.mosaic import as_pixels, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREYS = 16  # of a GIF of grey images; noise does not compress


def film(figures: Sequence[Figure], path: Path | str, milliseconds: int = 200) -> Path:
    """Write figures of one size as a looping GIF of at most 64 colours; it rests on its last frame.

    milliseconds: how long each figure is shown.
    """
    pictures = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
        picture = Image.open(buffer).convert("RGB")
        pictures.append(_palette(np.asarray(picture)))
    return _loop(pictures, path, milliseconds)


def gif(
    frames: Sequence[Tensor], path: Path | str, milliseconds: int = 80, columns: int | None = None
) -> Path:
    """Write a looping GIF of images in a grid; it rests on its last frame.

    frames: each (N, C, H, W), in [-1, 1] or uint8.  milliseconds: how long each is shown.
    Grey images are reduced to 16 greys, because noise does not compress; colour ones to 64 colours.
    An earlier file at `path` survives a failure.
    """
    pictures = []
    for frame in frames:
        picture = tile(as_pixels(frame), columns)
        pictures.append(_palette(picture))
    return _loop(pictures, path, milliseconds)


def _loop(pictures: list[Image.Image], path: Path | str, milliseconds: int) -> Path:
    """Write a GIF that begins again after two seconds on its last frame."""
    first, *others = pictures
    buffer = io.BytesIO()
    first.save(
        buffer,
        "gif",
        save_all=True,
        append_images=others,
        duration=[milliseconds] * len(others) + [2000],
        loop=0,
        optimize=False,
    )
    return files.write(path, buffer.getvalue())


def every(count: int, frames: int) -> list[int]:
    """Which of `count` moments to show in an animation of at most `frames`.

    They are evenly spaced, the first and the last included.
    """
    moments = np.linspace(0, count - 1, min(count, frames))
    return sorted({round(moment) for moment in moments})


def by_noise(noise: Sequence[float], frames: int) -> list[int]:
    r"""Which moments of a walk to show, so that a film shows more than noise.

    noise: of each moment, falling to 0: $\sqrt{1 - \bar\alpha_t}$.  At most `frames` moments, as
    evenly spaced in it as they can be, the first and the last included.
    """
    wanted = np.linspace(float(noise[0]), float(noise[-1]), min(len(noise), frames))
    return sorted({int(np.abs(np.asarray(noise) - level).argmin()) for level in wanted})


def _palette(picture: np.ndarray) -> Image.Image:
    """The picture with few colours: (H, W) in 16 greys, (H, W, 3) in 64 colours."""
    if picture.ndim == 3:
        return Image.fromarray(picture).quantize(64)
    levels = np.round(np.linspace(0, 255, GREYS)).astype(np.uint8)
    indices = picture.astype(np.float32) * ((GREYS - 1) / 255)
    indices = np.round(indices).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(np.repeat(levels, 3).tobytes())
    return image
