"""Explorers of notebook 01: a chain with three states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tutorial_lib import markov
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import explorer, menu, panels, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

STATES = ("play", "study", "sleep")
STUDENT = ((1, 15, 4), (16, 1, 3), (5, 10, 5))  # the notebook's student, in twentieths


def chain_picture(
    weights: Sequence[Sequence[int]] = STUDENT, start: str = "play", steps: int = 20
) -> Figure:
    """A transition matrix, and the law of the state on its way to where it settles.

    weights: (3, 3) whole numbers; each row divided by its sum is a row of P, and a row of zeros
    stays where it is.
    start: one of STATES.  steps: hours, at least 0.
    """
    rows = torch.tensor(weights, dtype=torch.float64)
    rows = torch.where(rows.sum(1, keepdim=True) == 0, torch.eye(3, dtype=torch.float64), rows)
    P = markov.transition_matrix(rows / rows.sum(1, keepdim=True))
    path = markov.laws(P, torch.eye(3)[STATES.index(start)], steps)
    figure, (table, lines) = panels(1, 2)
    table.imshow(P, cmap="Blues", vmin=0, vmax=1.3)
    for i in range(3):
        for j in range(3):
            table.text(j, i, f"{P[i, j]:.2f}", ha="center", va="center", fontsize=9)
    table.set_xticks(range(3), [f"to {name}" for name in STATES])
    table.set_yticks(range(3), STATES)
    for j, (name, colour) in enumerate(
        zip(STATES, (plot.DATA, plot.NOISE, plot.MODEL), strict=True)
    ):
        lines.plot(path[:, j], "o-", ms=3, color=colour, label=name)
    recurrent = sum(closed for _, closed in markov.classes(P))
    if recurrent == 1:
        law = markov.stationary(P)
        lines.hlines(
            law, 0, max(steps, 1), color=(plot.DATA, plot.NOISE, plot.MODEL), ls="--", lw=1
        )
        far, second = float((path[-1] - law).abs().max()), float(markov.eigenvalues(P)[1].abs())
        said = f"After {steps} hours {far:.4f} from the stationary law; each hour multiplies the error by {second:.2f}"
        if not markov.converges(P):
            said = "The chain goes round and round: its law has no limit, only an average"
    else:
        said = f"{recurrent} sets of states that nobody leaves: what becomes of it depends on the start"
    lines.set(ylim=(-0.03, 1.03), xlabel="hour", ylabel="probability")
    lines.locator_params(axis="x", integer=True)
    lines.legend(fontsize=8, frameon=False, loc="upper right")
    figure.suptitle(said, fontsize=10)
    return figure


def chain() -> VBox:
    """Change a chain with three states, hour by hour and state by state (notebook 01)."""
    names = [(i, j) for i in range(3) for j in range(3)]
    controls = {
        f"w{i}{j}": slider(f"{STATES[i]} to {STATES[j]}", STUDENT[i][j], 0, 20, width=245)
        for i, j in names
    } | {"start": menu("begins with", STATES, "play"), "steps": slider("hours", 20, 0, 60)}

    def draw(start: str, steps: int, **weights: int) -> Figure:
        return chain_picture(
            [[weights[f"w{i}{j}"] for j in range(3)] for i in range(3)], start, steps
        )

    return explorer(
        draw, controls, [*([f"w{i}{j}" for j in range(3)] for i in range(3)), ["start", "steps"]]
    )
