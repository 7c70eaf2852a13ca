"""Explorers of notebook 04: the network's shapes."""

from __future__ import annotations

import textwrap
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, panels, slider
from tutorial_lib.nets.shapes import Row, shape_table
from tutorial_lib.nets.unet import UNet, UNetConfig

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


@lru_cache
def _table(config: UNetConfig) -> list[Row]:
    size = config.image_size
    with torch.device("meta"):
        image = torch.zeros(1, config.channels, size, size)
        return shape_table(UNet(config), image, torch.ones(1))


def network_picture(
    image_size: int = 28, patch: int = 2, widths: tuple[int, ...] = (48, 128), blocks: int = 1
) -> Figure:
    """What each part of a U-Net returns, and its share of the parameters and of the operations.

    Where no such U-Net can be built, the picture says why.
    """
    figure, (axis,) = panels(1, height=3.6, bottom=0.36)
    try:
        config = UNetConfig(image_size, patch=patch, widths=widths, blocks=blocks)
    except ValueError as error:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axis.transAxes}
        axis.text(0.5, 0.5, textwrap.fill(str(error), 70), fontsize=10, **middle)
        axis.set_axis_off()
        figure.suptitle("This one cannot be built", fontsize=10)
        return figure
    rows = _table(config)
    parameters = sum(row.parameters for row in rows)
    flops = sum(row.flops for row in rows)
    of_parameters = [100 * row.parameters / parameters for row in rows]
    of_flops = [100 * row.flops / flops for row in rows]
    _draw_shares(axis, of_parameters, -0.2, color=plot.QUIET, label="parameters")
    _draw_shares(axis, of_flops, 0.2, color=plot.DATA, label="operations")
    _name_parts(axis, rows)
    axis.set(ylabel="% of the whole", ylim=(0, max(40.0, 1.1 * max(of_parameters + of_flops))))
    axis.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)
    title = f"{parameters:,} parameters, {flops / 1e6:,.0f} million operations an image"
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_shares(axis: Axes, shares: list[float], shift: float, **style: Any) -> None:
    """A thick line for each part, shifted to the side; lines are drawn faster than bars."""
    places = [i + shift for i in range(len(shares))]
    axis.vlines(places, 0, shares, lw=180 / len(shares), **style)


def _name_parts(axis: Axes, rows: list[Row]) -> None:
    """Below each part its name and the shape that it returns."""
    names = []
    for row in rows:
        shape = " x ".join(str(size) for size in row.shape[1:])
        names.append(f"{row.name}  {shape}")
    if len(rows) < 18:
        style: dict[str, Any] = {
            "fontsize": 7,
            "rotation": 50,
            "ha": "right",
            "rotation_mode": "anchor",
        }
    else:
        style = {"fontsize": 6, "rotation": 90}
    axis.set_xticks(range(len(rows)), names, **style)


def network() -> VBox:
    """Pick sizes, and see what becomes of shapes, parameters and operations (notebook 04)."""
    options = [(", ".join(str(width) for width in widths), widths) for widths in WIDTHS]
    controls = {
        "image_size": choice("image size", (16, 28, 32, 56, 64), 28),
        "patch": choice("patch", (1, 2, 4), 2),
        "widths": choice("widths of the levels", options, (48, 128)),
        "blocks": slider("blocks a level", 1, 1, 3),
    }
    return explorer(network_picture, controls, [["image_size", "patch"], ["widths", "blocks"]])
