"""Explorers: pictures that follow their controls.

Each explorer is a pair of functions.  `..._picture` goes from plain values to a figure: a notebook
shows one such figure as a still, and it can be called like any other function.  The function of the
shorter name builds the controls, and redraws the picture whenever one of them moves.  No network
runs in a redraw: where one is needed, its work is done ahead, or has been recorded.  The explorers
of each notebook have a module of their own; what they share is here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor

from tutorial_lib.course.mosaic import as_pixels, tile
from tutorial_lib.course.plot import GREY

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget
    from matplotlib.figure import Figure

DPI = 90
WRAPPED = {"flex_flow": "row wrap"}  # controls that have no room side by side


def explorer(
    draw: Callable[..., Figure], controls: dict[str, Widget], rows: Sequence[Sequence[str]] = ()
) -> VBox:
    """A picture that follows its controls.

    draw: a pure function of the controls' values, which are passed by name.
    rows: controls that stand side by side; by default each has a row of its own.
    """
    import ipywidgets

    Picture, Explorer = _kinds()
    image = Picture(format="png")

    def redraw(_=None) -> None:
        values = {name: control.value for name, control in controls.items()}
        figure = draw(**values)
        with image.hold_sync():  # one message, so that the picture is loaded once
            image.value = png_bytes(figure)
            image.tooltip = figure.get_suptitle() or figure.axes[0].get_title()

    redraw()
    width, _ = _size(image.value)
    # on a narrow or enlarged page the picture shrinks, and keeps its proportions
    image.layout = ipywidgets.Layout(
        width=f"{width}px",
        max_width="100%",
        height="auto",
        flex="0 0 auto",
        align_self="flex-start",
    )
    for control in controls.values():
        control.observe(redraw, "value")
    lines = []
    for names in rows or [[name] for name in controls]:
        line = [controls[name] for name in names]
        lines.append(line[0] if len(line) == 1 else ipywidgets.HBox(line, layout=WRAPPED))
    return Explorer([*lines, image])


@cache
def _kinds() -> tuple[type, type]:
    """The two kinds of widgets that we need beside those of ipywidgets: a picture, and an explorer.

    They are defined inside a function, because ipywidgets is imported only when it is needed.
    """
    import ipywidgets
    import traitlets

    class Picture(ipywidgets.Image):
        # Without a description, a tooltip is an error in the browser.
        description = traitlets.Unicode("").tag(sync=True)

    class Explorer(ipywidgets.VBox):
        def __repr__(self) -> str:  # what a page shows that has no kernel
            return "An explorer: run this cell, then move its controls by mouse or by arrow keys."

    return Picture, Explorer


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, as the header of a PNG says them."""
    width = int.from_bytes(png[16:20], "big")
    height = int.from_bytes(png[20:24], "big")
    return width, height


def png_bytes(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG, always of the figure's own size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def slider(
    label: str,
    value: float,
    low: float,
    high: float,
    step: float = 1,
    width: int = 400,
) -> Widget:
    """A slider of whole numbers, or of others where `step` is no whole number."""
    import ipywidgets

    options = {"value": value, "min": low, "max": high, "step": step, **_labelled(label, width)}
    if isinstance(step, int):
        return ipywidgets.IntSlider(readout_format="d", **options)
    return ipywidgets.FloatSlider(readout_format=".3f", **options)


def choice(label: str, options: Sequence, value: object, width: int = 400) -> Widget:
    """A slider over a few values in their order."""
    import ipywidgets

    return ipywidgets.SelectionSlider(options=list(options), value=value, **_labelled(label, width))


def menu(label: str, options: Sequence[str], value: str) -> Widget:
    """A menu of words."""
    import ipywidgets

    return ipywidgets.Dropdown(options=list(options), value=value, **_labelled(label, 300))


def tick(label: str, value: bool) -> Widget:
    """A box to tick."""
    import ipywidgets

    return ipywidgets.Checkbox(value=value, indent=False, **_labelled(label, 260))


def _labelled(label: str, width: int) -> dict:
    return {
        "description": label,
        "style": {"description_width": "initial"},
        "layout": {"width": f"{width}px", "max_width": "97%"},
    }


def panels(*widths: float, height: float = 2.9, bottom: float = 0.18) -> tuple[Figure, list]:
    """A figure and its axes side by side, as wide as the numbers say; always at the same places."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(widths), figsize=(7.5, height), width_ratios=widths, squeeze=False
    )
    plt.close(figure)  # it is shown as a value, and not once more by the notebook
    figure.subplots_adjust(left=0.09, right=0.98, bottom=bottom, top=0.84, wspace=0.3)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.locator_params(nbins=4)  # each tick takes a millisecond to draw
    return figure, list(axes[0])


def show(axis, x: Tensor, columns: int, title: str) -> None:
    """Images in a grid, (N, 1, H, W), in [-1, 1] or uint8."""
    axis.imshow(tile(as_pixels(x), columns), interpolation="nearest", **GREY)
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)
