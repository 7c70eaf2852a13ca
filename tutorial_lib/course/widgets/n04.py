"""Explorers of notebook 04: the network's shapes."""

from __future__ import annotations

import textwrap
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, panels, slider
from tutorial_lib.nets import unet
from tutorial_lib.nets.shapes import Row, shape_table

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure


@lru_cache
def _table(config: unet.UNetConfig) -> list[Row]:
    with torch.device("meta"):
        model, size = unet.UNet(config), config.image_size
        return shape_table(model, torch.zeros(1, config.channels, size, size), torch.ones(1))


def network_picture(
    image_size: int = 28, patch: int = 2, widths: tuple[int, ...] = (48, 128), blocks: int = 1
) -> Figure:
    """What each part of a U-Net returns, and its share of the parameters and of the operations; or
    why it cannot be.
    """
    figure, (axis,) = panels(1, height=3.6, bottom=0.36)
    try:
        rows = _table(
            unet.UNetConfig(image_size=image_size, patch=patch, widths=widths, blocks=blocks)
        )
    except ValueError as error:
        axis.text(0.5, 0.5, textwrap.fill(str(error), 70), ha="center", va="center", fontsize=10)
        axis.set_axis_off()
        figure.suptitle("This one cannot be built", fontsize=10)
        return figure
    parameters, flops = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    shares = (
        [100 * row.parameters / parameters for row in rows],
        [100 * row.flops / flops for row in rows],
    )
    for share, side, colour, label in zip(
        shares, (-0.2, 0.2), (plot.QUIET, plot.DATA), ("parameters", "operations"), strict=True
    ):
        places = [i + side for i in range(len(rows))]
        axis.vlines(
            places, 0, share, color=colour, lw=180 / len(rows), label=label
        )  # drawn faster than bars
    shapes = [f"{row.name}  {' x '.join(map(str, row.shape[1:]))}" for row in rows]
    style = (
        {"rotation": 50, "ha": "right", "rotation_mode": "anchor"}
        if len(rows) < 18
        else {"rotation": 90}
    )
    axis.set_xticks(range(len(rows)), shapes, fontsize=7 if len(rows) < 18 else 6, **style)
    axis.set(ylabel="% of the whole", ylim=(0, max(40.0, 1.1 * max(map(max, shares)))))
    axis.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)
    figure.suptitle(
        f"{parameters:,} parameters, {flops / 1e6:,.0f} million operations an image", fontsize=10
    )
    return figure


WIDTHS = (
    (64,),
    (32, 64),
    (48, 128),
    (48, 192),
    (64, 128),
    (96, 192),
    (32, 64, 128),
    (64, 128, 256),
    (32, 64, 128, 256),
)


def network() -> VBox:
    """Pick sizes, and see what becomes of shapes, parameters and operations (notebook 04)."""
    named = [(", ".join(map(str, widths)), widths) for widths in WIDTHS]
    controls = {
        "image_size": choice("image size", (16, 28, 32, 56, 64), 28), "patch": choice("patch", (1, 2, 4), 2),
        "widths": choice("widths of the levels", named, (48, 128)), "blocks": slider("blocks a level", 1, 1, 3),
    }  # fmt: skip
    return explorer(network_picture, controls, [["image_size", "patch"], ["widths", "blocks"]])
