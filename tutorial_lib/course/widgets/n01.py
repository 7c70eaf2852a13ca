"""Explorers of notebook 01: a chain with three states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import markov
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import explorer, menu, panels, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATES = ("play", "study", "sleep")
COLOURS = (plot.DATA, plot.NOISE, plot.MODEL)  # one for each state
STUDENT = ((1, 15, 4), (16, 1, 3), (5, 10, 5))  # the notebook's student, in twentieths


def chain_picture(
    weights: Sequence[Sequence[int]] = STUDENT, start: str = "play", steps: int = 20
) -> Figure:
    """A transition matrix, and the probabilities of the states on the way to where they settle.

    weights: (3, 3) whole numbers; each row divided by its sum is a row of P, and a row of zeros
    stays where it is.
    start: one of STATES.
    steps: hours, at least 0.
    """
    P = _transitions(weights)
    path = markov.distributions(P, torch.eye(3)[STATES.index(start)], steps)  # (steps + 1, 3)
    figure, (table, lines) = panels(1, 2)
    _draw_table(table, P)
    for j, (name, colour) in enumerate(zip(STATES, COLOURS, strict=True)):
        lines.plot(path[:, j], "o-", ms=3, color=colour, label=name)
    recurrent = sum(closed for _, closed in markov.classes(P))
    if recurrent == 1:
        pi = markov.stationary(P)
        lines.hlines(pi, 0, max(steps, 1), color=COLOURS, ls="--", lw=1)
        title = _approach(P, path, pi)
    else:
        title = f"{recurrent} recurrent classes: the long run depends on the start"
    lines.set(ylim=(-0.03, 1.03), xlabel="hour", ylabel="probability")
    lines.locator_params(axis="x", integer=True)
    lines.legend(fontsize=8, frameon=False, loc="upper right")
    figure.suptitle(title, fontsize=10)
    return figure


def _transitions(weights: Sequence[Sequence[int]]) -> Tensor:
    """The transition matrix, (3, 3), with these weights for the ways out of each state."""
    rows = torch.tensor(weights, dtype=torch.float64)
    empty = rows.sum(1, keepdim=True) == 0
    rows = torch.where(empty, torch.eye(3, dtype=torch.float64), rows)  # no way out: stay
    return markov.transition_matrix(rows / rows.sum(1, keepdim=True))


def _draw_table(axis: Axes, P: Tensor) -> None:
    axis.imshow(P, cmap="Blues", vmin=0, vmax=1.3)
    for i in range(3):
        for j in range(3):
            axis.text(j, i, f"{P[i, j]:.2f}", ha="center", va="center", fontsize=9)
    axis.set_xticks(range(3), [f"to {name}" for name in STATES])
    axis.set_yticks(range(3), STATES)


def _approach(P: Tensor, path: Tensor, pi: Tensor) -> str:
    """How near the distribution of the state has come to the stationary one, in words."""
    if not markov.forgets(P):
        return "The recurrent class is periodic: from most starts there is no limit"
    far = float((path[-1] - pi).abs().max())
    factor = float(markov.eigenvalues(P)[1].abs())
    return (
        f"After {len(path) - 1} hours {far:.4f} from stationary; "
        f"in the long run each hour multiplies the error by {factor:.2f}"
    )


def chain() -> VBox:
    """Change a chain with three states, hour by hour and state by state (notebook 01)."""
    controls, rows = {}, []
    for i in range(3):
        rows.append([f"w{i}{j}" for j in range(3)])
        for j in range(3):
            label = f"{STATES[i]} to {STATES[j]}"
            controls[f"w{i}{j}"] = slider(label, STUDENT[i][j], 0, 20, width=245)
    controls["start"] = menu("begins with", STATES, "play")
    controls["steps"] = slider("hours", 20, 0, 60)
    rows.append(["start", "steps"])

    def draw(start: str, steps: int, **weights: int) -> Figure:
        table = [[weights[f"w{i}{j}"] for j in range(3)] for i in range(3)]
        return chain_picture(table, start, steps)

    return explorer(draw, controls, rows)
