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
    from matplotlib.figure import Figure


@lru_cache
def recorded() -> dict[str, Tensor]:
    """The training run that ships: `steps` (M,), `losses` (N,), and for the weights and their
    average at each of the M
    moments `by_t` (M, 2, 10) on fixed images, and `samples` (M, 2, 12, 1, 28, 28) from fixed noise
    (weights first).
    """
    return checkpoint.load("replay")[0]


def replay_picture(step: int = 300, averaged: bool = True) -> Figure:
    """A training run as it stood at one of the recorded steps: its losses, the loss by t, and
    samples.

    Raises ValueError for a step that was not run.
    """
    record = recorded()
    if not 1 <= step <= len(record["losses"]):
        raise ValueError(f"step must lie in 1..{len(record['losses'])}, got {step}")
    moment = int((record["steps"] <= step).sum()) - 1
    figure, (losses, by_t, images) = panels(1, 1, 1.1)
    losses.plot(
        range(1, len(record["losses"]) + 1), record["losses"], color=plot.QUIET, lw=0.4, alpha=0.5
    )
    losses.plot(range(1, step + 1), record["losses"][:step], color=plot.MODEL, lw=0.8)
    losses.axvline(step, color=plot.NOISE, lw=1)
    losses.set(xscale="log", ylim=(0, 1), xlabel="step")
    losses.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    losses.minorticks_off()
    losses.set_title("loss of each batch", fontsize=9)
    middles = range(50, 1000, 100)
    by_t.plot(middles, record["by_t"][-1, 1], ":", color=plot.QUIET, label="at the end")
    by_t.plot(
        middles, record["by_t"][moment, int(averaged)], color=plot.MODEL, label=f"step {step:,}"
    )
    by_t.set(ylim=(0, 1.1), xlabel="t")
    by_t.legend(fontsize=8, frameon=False)
    by_t.set_title("loss by t, fixed images", fontsize=9)
    show(images, record["samples"][moment, int(averaged)], 4, "samples, same noise")
    loss = float(record["by_t"][moment, int(averaged)].mean())
    figure.suptitle(f"Step {step:,}: loss on fixed images {loss:.3f}", fontsize=10)
    return figure


def replay() -> VBox:
    """Play a training run again (notebook 05)."""
    steps = recorded()["steps"].tolist()
    controls = {"step": choice("step", steps, 300), "averaged": tick("averaged weights", True)}
    return explorer(replay_picture, controls, [["step", "averaged"]])
