"""Many images as one picture: pixels side by side in a grid."""

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tutorial_lib.data import to_pixels

GAP = 2  # white pixels between neighbours


def tile(pixels: Tensor, columns: int | None = None, gap: int = GAP) -> np.ndarray:
    """Arrange images in a grid.

    pixels: (N, C, H, W) uint8.
    columns: as square as possible by default.
    gap: white pixels between neighbours.
    A last row that is not full is filled with white.
    Returns (H', W') or (H', W', 3) uint8.
    """
    if len(pixels) == 0:
        raise ValueError("there are no images to arrange")
    columns = columns or int(np.ceil(len(pixels) ** 0.5))
    missing = -len(pixels) % columns
    white = pixels.new_full((missing, *pixels.shape[1:]), 255)
    cells = torch.cat([pixels, white])  # (rows * columns, C, H, W)
    cells = F.pad(cells, (0, gap, 0, gap), value=255)  # a gap to the right of each and below it
    picture = rearrange(cells, "(r k) c h w -> (r h) (k w) c", k=columns).numpy()
    height, width, channels = picture.shape
    picture = picture[: height - gap, : width - gap]  # no gap at the edge
    return picture[..., 0] if channels == 1 else picture


def as_pixels(x: Tensor) -> Tensor:
    """Images as uint8 on the CPU, whether they come so or in [-1, 1].

    Raises ValueError for images that are not numbers everywhere.
    """
    pixels = x if x.dtype == torch.uint8 else to_pixels(finite(x, "these images"))
    return pixels.cpu()


def finite(x: Tensor, what: str) -> Tensor:
    """The same numbers.  Raises ValueError where some are NaN or infinite: no picture shows that.

    what: how the message calls them.
    """
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise ValueError(
            f"{what} hold {bad:,} values, of {x.numel():,}, that are NaN or infinite, and no "
            "colour stands for those; look for the step at which they begin"
        )
    return x
