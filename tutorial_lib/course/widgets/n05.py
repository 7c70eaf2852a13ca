"""Explorers of notebook 05: a training run, again."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from torch import Tensor

from tutorial_lib import checkpoint
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, panels, show, tick

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@lru_cache
def recorded() -> dict[str, Tensor]:
    """The training run that ships, and what was measured at M moments of it.

    steps: (M,), the steps of these moments.
    losses: (N,), of every step.
    For the weights (first) and for their average, at each moment:
    by_t: (M, 2, 10), the loss by t on fixed images.
    samples: (M, 2, 12, 1, 28, 28), from fixed noise.
    """
    tensors, _ = checkpoint.load("replay")
    return tensors


def replay_picture(step: int = 300, averaged: bool = True) -> Figure:
    """A training run as it stood at one of its steps: its losses, the loss by t, and samples.

    Raises ValueError for a step that was not run.
    """
    record = recorded()
    if not 1 <= step <= len(record["losses"]):
        raise ValueError(f"step must lie in 1..{len(record['losses'])}, got {step}")
    moment = int((record["steps"] <= step).sum()) - 1  # the last one that was recorded by then
    by_t = record["by_t"][moment, int(averaged)]  # (10,)
    samples = record["samples"][moment, int(averaged)]  # (12, 1, 28, 28)
    figure, (left, centre, right) = panels(1, 1, 1.1)
    _draw_losses(left, record["losses"], step)
    groups = range(50, 1000, 100)  # the middles of the ten groups of t
    at_the_end = record["by_t"][-1, 1]
    centre.plot(groups, at_the_end, ":", color=plot.QUIET, label="at the end")
    centre.plot(groups, by_t, color=plot.MODEL, label=f"step {step:,}")
    centre.set(ylim=(0, 1.1), xlabel="t")
    centre.legend(fontsize=8, frameon=False)
    centre.set_title("loss by t, fixed images", fontsize=9)
    show(right, samples, 4, "samples, same noise")
    figure.suptitle(f"Step {step:,}: loss on fixed images {float(by_t.mean()):.3f}", fontsize=10)
    return figure


def _draw_losses(axis: Axes, losses: Tensor, step: int) -> None:
    """The loss of every step, those up to this one in colour."""
    axis.plot(range(1, len(losses) + 1), losses, color=plot.QUIET, lw=0.4, alpha=0.5)
    axis.plot(range(1, step + 1), losses[:step], color=plot.MODEL, lw=0.8)
    axis.axvline(step, color=plot.NOISE, lw=1)
    axis.set(xscale="log", ylim=(0, 1), xlabel="step")
    axis.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axis.minorticks_off()
    axis.set_title("loss of each batch", fontsize=9)


def replay() -> VBox:
    """Play a training run again (notebook 05)."""
    steps = recorded()["steps"].tolist()
    controls = {"step": choice("step", steps, 300), "averaged": tick("averaged weights", True)}
    return explorer(replay_picture, controls, [["step", "averaged"]])
