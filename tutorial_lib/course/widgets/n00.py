"""Explorers of notebook 00: points in the plane, there and back."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tutorial_lib import checkpoint, toys
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, menu, panels
from tutorial_lib.diffusion import q_sample
from tutorial_lib.schedule import NoiseSchedule, from_betas, same_t

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Walks(NamedTuple):
    """The walks that ship.

    places: by the name of the data, (stages, moments, N, 2), where N points were.
    trained: (stages,), after how many steps of training.
    t: (moments,), from T down to 0.
    """

    schedule: NoiseSchedule
    places: dict[str, Tensor]
    trained: list[int]
    t: list[int]


@lru_cache
def recorded() -> Walks:
    """The walks that ship (`recipes.plane`), and the schedule of notebook 00, which they follow."""
    tensors, about = checkpoint.load("walks")
    schedule = from_betas(tensors.pop("beta"))
    places = {name: tensor.float() / about["grain"] for name, tensor in tensors.items()}
    return Walks(schedule, places, about["training_steps"], about["t"])


def walk_picture(data: str = "spiral", t: int = 0, trained: int = 3000) -> Figure:
    """Data noised to step t (Eq. 4), beside a network's walk back from noise at the same step.

    data: one of `toys.SHAPES`.  t, trained: two that were recorded (ValueError).
    """
    walks = recorded()
    back = walks.places[data][walks.trained.index(trained), walks.t.index(t)]  # (N, 2)
    generator = torch.Generator().manual_seed(0)
    x_0 = toys.SHAPES[data](len(back), generator)
    eps = torch.randn(x_0.shape, generator=generator)
    there = q_sample(walks.schedule, x_0, same_t(t, len(x_0)), eps) if t else x_0
    figure, (left, right) = panels(1, 1, height=3.6, bottom=0.03)
    _draw(left, there, plot.DATA, "data, noised to t")
    _draw(right, back, plot.MODEL, "the walk back, at t")
    share = float(walks.schedule.alpha_bar[t])
    figure.suptitle(
        f"{data}, {trained:,} steps of training: t = {t}, alpha_bar = {share:.3f}", fontsize=10
    )
    return figure


def _draw(axis: Axes, points: Tensor, colour: str, title: str) -> None:
    x, y = points.T.numpy()
    axis.scatter(x, y, s=6, color=colour, linewidths=0)
    axis.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set(visible=True, color=plot.QUIET)
    axis.set_title(title, fontsize=9)


def walk() -> VBox:
    """Choose data, a step and how long the network has learned (notebook 00)."""
    walks = recorded()
    controls = {
        "t": choice("t", walks.t, 0),
        "data": menu("data", tuple(toys.SHAPES), "spiral"),
        "trained": choice("steps of training", walks.trained, walks.trained[-1]),
    }
    return explorer(walk_picture, controls, [["t"], ["data", "trained"]])
