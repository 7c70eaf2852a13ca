"""Explorers of notebook 06: the reverse chain, and where the steps of a sampler lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import data
from tutorial_lib.beyond.solvers import CHOSEN, dpm_solver, heun, karras_tau
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, menu, panels, show, slider, tick
from tutorial_lib.denoise import Denoiser, Network, denoiser
from tutorial_lib.sample import ddim, ddpm, final, start
from tutorial_lib.schedule import VARIANCES, NoiseSchedule, even_tau

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

MOMENTS = 10  # of a reverse chain, after its start
Recorded = dict[tuple[int, str, bool], tuple[Tensor, Tensor]]
Placed = dict[tuple[str, str, int], tuple[Tensor, Tensor, float]]
PLACES: dict[str, dict] = {
    "even in t": {},
    "root 4, from 120": CHOSEN,
    "root 7, from 80": {"root": 7, "largest": 80.0},
}
SOLVERS = {"DDIM": ddim, "DPM++": dpm_solver, "Heun": heun}


def reverse_frames(
    network: Network,
    schedule: NoiseSchedule,
    *,
    target: str,
    seeds: int = 3,
    count: int = 6,
    steps: Sequence[int] = (5, 15, 30),
) -> Iterator[Recorded]:
    """Walk back in every way that `reverse` lets one choose; yields what there is so far.

    Of each walk, by (steps, variance, clip): the pictures (moments, seeds, count, 1, H, W) uint8,
    and the standard deviation of the pixels (moments, seeds).  All walks of a seed begin with the
    same noise.
    """
    found: Recorded = {}
    noise = [
        start(count, (1, 28, 28), generator=torch.Generator().manual_seed(seed))
        for seed in range(seeds)
    ]
    for S, variance, clip in product(steps, VARIANCES, (True, False)):
        denoise = denoiser(network, schedule, target=target, clip=clip)
        generator = torch.Generator().manual_seed(1)
        frames = ddpm(
            denoise,
            schedule,
            torch.cat(noise),
            generator=generator,
            steps=S,
            variance=variance,
        )
        x = [frame.x.unflatten(0, (seeds, count)) for frame in frames]
        moments = torch.stack([x[i] for i in _moments(S)])  # (moments, seeds, count, 1, H, W)
        found[S, variance, clip] = (data.to_pixels(moments), moments.flatten(2).std(2))
        yield found


def _moments(steps: int) -> list[int]:
    """After how many steps the pictures were taken."""
    return [round(k * steps / MOMENTS) for k in range(MOMENTS + 1)]


def reverse_picture(
    recorded: Recorded,
    schedule: NoiseSchedule,
    seed: int = 0,
    steps: int = 15,
    variance: str = "beta_tilde",
    clip: bool = True,
    moment: int = MOMENTS,
) -> Figure:
    """Images on their way back from noise (Algorithm 2), beside the spread of their pixels.

    The spread is compared with that of the forward process.
    recorded: of `reverse_frames`; steps, variance and clip name one of its walks (KeyError).
    moment: 0..MOMENTS.
    """
    pictures, spread = recorded[steps, variance, clip]
    figure, (images, line) = panels(1.5, 1)
    taken = _moments(steps)
    show(images, pictures[moment, seed], 3, f"after {taken[moment]} of {steps} steps")
    t = even_tau(schedule.T, steps).flip(0)[taken]  # T first
    x_0 = data.to_model(data.load("embedded", "test").pixels[:500])
    alpha_bar = schedule.alpha_bar[t]
    forward = (alpha_bar * x_0.var() + 1 - alpha_bar).sqrt()
    line.plot(t, forward, color=plot.DATA, label="forward")
    reached = spread[: moment + 1, seed]
    line.plot(t[: moment + 1], reached, "o--", ms=3, color=plot.MODEL, label="this walk")
    line.set(xlim=(schedule.T, 0), ylim=(0, 1.6), xlabel="t")
    line.set_title("standard deviation of the pixels", fontsize=9)
    line.legend(fontsize=8, frameon=False)
    clipped = "estimates clipped" if clip else "estimates not clipped"
    title = f"{steps} steps, variance {variance}, {clipped}: now at t = {int(t[moment])}"
    figure.suptitle(title, fontsize=10)
    return figure


def reverse(recorded: Recorded, schedule: NoiseSchedule) -> VBox:
    """Walk back and forth on the reverse chain (notebook 06).

    recorded: the last that `reverse_frames` has yielded.
    """
    steps = sorted({walk[0] for walk in recorded})
    seeds = next(iter(recorded.values()))[0].shape[1]
    controls = {
        "moment": slider("moment", MOMENTS, 0, MOMENTS),
        "seed": slider("seed", 0, 0, seeds - 1),
        "steps": choice("steps", steps, steps[len(steps) // 2]),
        "variance": menu("variance", VARIANCES, "beta_tilde"),
        "clip": tick("clip to [-1, 1]", True),
    }

    def draw(**state) -> Figure:
        return reverse_picture(recorded, schedule, **state)

    return explorer(draw, controls, [["moment", "seed"], ["steps", "variance"], ["clip"]])


def placement_frames(
    network: Network,
    schedule: NoiseSchedule,
    *,
    target: str,
    count: int = 6,
    calls: Sequence[int] = (5, 9, 15),
    exact: int = 40,
) -> Iterator[Placed]:
    """Walk back with every placement, solver and number of calls; yields what there is so far.

    Of each, by (placement, solver, calls): the steps visited, (S + 1,); the pictures, (count, 1, H,
    W) uint8; and how far they are from those of a walk of `exact` steps from the same noise, in
    grey levels a pixel (root mean square).
    """
    denoise = denoiser(network, schedule, target=target, clip=True)
    x_T = start(count, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    best = final(dpm_solver(denoise, schedule, x_T, steps=exact))
    found: Placed = {}
    for place, solver, number in product(PLACES, SOLVERS, calls):
        S = (number + 1) // 2 if solver == "Heun" else number  # two calls a step
        options = PLACES[place]
        tau = karras_tau(schedule, S, **options) if options else even_tau(schedule.T, S)
        x = _walked(solver, denoise, schedule, x_T, tau)
        away = 127.5 * float((x - best).square().mean().sqrt())
        found[place, solver, number] = (tau, data.to_pixels(x), away)
        yield found


def _walked(
    solver: str, denoise: Denoiser, schedule: NoiseSchedule, x_T: Tensor, tau: Tensor
) -> Tensor:
    """The end of a walk; numbers that left every range are brought back to one."""
    x = final(SOLVERS[solver](denoise, schedule, x_T, steps=tau))
    return x.nan_to_num(0.0).clamp(-1, 1)


def placement_picture(
    placed: Placed,
    schedule: NoiseSchedule,
    place: str = "root 4, from 120",
    solver: str = "DPM++",
    calls: int = 9,
) -> Figure:
    """What few calls of the network draw, beside the places where it was called.

    placed: of `placement_frames`; place, solver and calls name one of its walks (KeyError).
    """
    tau, pictures, away = placed[place, solver, calls]
    figure, (images, line) = panels(1.4, 1)
    show(images, pictures, 3, f"{solver}, {calls} calls")
    ratio = schedule.snr[1:] ** -0.5  # noise / signal, of t = 1, 2, ..., T
    line.plot(range(1, schedule.T + 1), ratio, color=plot.QUIET, lw=1)
    line.plot(tau[1:], ratio[tau[1:] - 1], "o", ms=5, color=plot.MODEL)
    line.set(xlim=(schedule.T + 20, 0), ylim=(3e-3, 3e4), yscale="log", xlabel="t")
    line.set_title("the steps visited, and noise / signal there", fontsize=9)
    title = f"{place}: {away:.0f} grey levels a pixel from the walk of many steps"
    figure.suptitle(title, fontsize=10)
    return figure


def placement(placed: Placed, schedule: NoiseSchedule) -> VBox:
    """Choose where the steps lie, how many there are, and the solver (notebook 06).

    placed: the last that `placement_frames` has yielded.
    """
    calls = sorted({walk[2] for walk in placed})
    controls = {
        "place": menu("placement", list(PLACES), "even in t"),
        "solver": menu("solver", list(SOLVERS), "DDIM"),
        "calls": choice("calls of the network", calls, calls[len(calls) // 2]),
    }

    def draw(**state) -> Figure:
        return placement_picture(placed, schedule, **state)

    return explorer(draw, controls, [["place", "solver"], ["calls"]])
