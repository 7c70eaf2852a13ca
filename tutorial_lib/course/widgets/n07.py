"""Explorer of notebook 07: solvers on a mixture of two bumps, where the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib.beyond.solvers import CHOSEN, dpm_solver, heun, karras_tau
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, menu, panels, slider
from tutorial_lib.sample import Frame, ddim
from tutorial_lib.schedule import cosine, even_tau
from tutorial_lib.toys import Mixture

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

BUMPS = Mixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0], [0.5]], dtype=torch.float64),
    0.04,
)
SCHEDULE = cosine(1000)
PLACES: dict[str, dict] = {
    "even in t": {},
    "even in log-SNR": {"root": 1e6, "largest": 120.0},  # the limit of high roots: a logarithm
    "root 4, from 120": CHOSEN,
    "root 7, from 80": {"root": 7, "largest": 80.0},
    "root 7, from 5": {"root": 7, "largest": 5.0},
}
SOLVERS = ("DDIM", "DPM++", "Heun")
CALLS = (3, 5, 9, 15, 25, 49)
SHOWN, POINTS = 16, 1000  # paths that are drawn, and all that are judged


def knows(x_t: Tensor, t: Tensor) -> Tensor:
    """The exact E[x_0 | x_t] of the two bumps, for one t."""
    return BUMPS.x_0_hat(x_t, float(SCHEDULE.alpha_bar[t[0]]))


def walks_picture(
    solver: str = "DDIM", place: str = "even in t", calls: int = 9, eta: float = 0.0
) -> Figure:
    """Paths from noise to the two bumps with few calls, and where a thousand of them end.

    eta: the noise of DDIM's steps, in [0, 1]; the other solvers have none.
    """
    S = (calls + 1) // 2 if solver == "Heun" else calls  # two calls a step
    options = PLACES[place]
    tau = karras_tau(SCHEDULE, S, **options) if options else even_tau(SCHEDULE.T, S)
    middle = torch.linspace(0, 1, POINTS + 2, dtype=torch.float64)[1:-1]
    x_T = torch.special.ndtri(middle)[:, None]  # as evenly as noise can be
    frames = list(_solver(solver, eta)(knows, SCHEDULE, x_T, steps=tau))
    figure, (paths, ends) = panels(1.3, 1)
    x = torch.stack([frame.x[:, 0] for frame in frames]).nan_to_num(9.0).clamp(-9, 9)
    t = [frame.t for frame in frames]
    some = x[:, POINTS // SHOWN // 2 :: POINTS // SHOWN]
    paths.plot(t, some, ".-", color=plot.MODEL, lw=0.8, ms=3)
    paths.set(xlim=(1000, 0), ylim=(-3.2, 3.2), xlabel="t")
    paths.set_title("sixteen paths", fontsize=9)
    grid = torch.linspace(-1.7, 1.3, 301, dtype=torch.float64)
    density = BUMPS.log_density(grid[:, None]).exp()
    bins = {"bins": 75, "range": (-1.7, 1.3), "histtype": "stepfilled"}
    weights = torch.full((POINTS,), 25 / POINTS)  # bars are 1/25 wide
    ends.hist(x[-1].numpy(), weights=weights.numpy(), color=plot.MODEL, alpha=0.5, **bins)
    ends.plot(grid, density, color=plot.DATA, lw=1.2)
    ends.set(xlim=(-1.7, 1.3), ylim=(0, 2.4), xlabel="$x_0$")
    ends.set_title("where 1,000 end, and the density", fontsize=9)
    noise = f", eta = {eta:g}" if solver == "DDIM" else ""
    title = f"{solver}{noise}, {place}, {calls} calls: {misplaced(x[-1]):.0%} in the wrong place"
    figure.suptitle(title, fontsize=10)
    return figure


def misplaced(x_0: Tensor) -> float:
    """The share of points (N,) that would have to move for a histogram of 60 bars to be right."""
    edges = torch.linspace(-1.7, 1.3, 61, dtype=torch.float64)
    below = torch.special.ndtr((edges[:, None] - BUMPS.means.T) / BUMPS.variance**0.5)  # (61, 2)
    wanted = (below @ BUMPS.weights).diff()
    found = torch.histogram(x_0.double().clamp(-1.69, 1.29), edges).hist / len(x_0)
    return float((found - wanted).abs().sum() / 2)


def _solver(name: str, eta: float) -> Callable[..., Iterator[Frame]]:
    solvers = {"DPM++": dpm_solver, "Heun": heun}
    noisy = partial(ddim, eta=eta, generator=torch.Generator().manual_seed(0))
    return solvers.get(name, noisy)


def walks() -> VBox:
    """Choose solver, placement, number of calls and noise; see the paths and their ends."""
    controls = {
        "solver": menu("solver", SOLVERS, "DDIM"),
        "place": menu("placement", list(PLACES), "even in t"),
        "calls": choice("calls of the network", CALLS, 9),
        "eta": slider("eta (of DDIM)", 0.0, 0.0, 1.0, 0.25),
    }
    return explorer(walks_picture, controls, [["solver", "place"], ["calls", "eta"]])
