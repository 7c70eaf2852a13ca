"""Explorers of notebook 06: the reverse chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import data, diffusion, sample, schedule
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import choice, explorer, menu, panels, show, slider, tick

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

MOMENTS = 10  # of a reverse chain, after its start
Recorded = dict[tuple[int, str, bool], tuple[Tensor, Tensor]]


def reverse_frames(
    model: sample.Network, tables: schedule.NoiseSchedule, target: str, seeds: int = 3, count: int = 6,
    steps: Sequence[int] = (5, 15, 30),
) -> Iterator[Recorded]:  # fmt: skip
    """Walk back in every way that `reverse` lets one choose; yields what there is so far, one way
    more each time.

    Of each way, by (steps, variance, clip): the pictures (moments, seeds, count, 1, H, W) uint8,
    and the standard deviation of the pixels (moments, seeds).  All ways of a seed begin with the
    same noise.
    """
    shape, found = (1, 28, 28), {}
    start = [
        sample.start(count, shape, torch.Generator().manual_seed(seed)) for seed in range(seeds)
    ]
    for S in steps:
        kept = [round(k * S / MOMENTS) for k in range(MOMENTS + 1)]
        for variance in diffusion.VARIANCES:
            for clip in (True, False):
                z = torch.Generator().manual_seed(1)
                walk = sample.ddpm(model, tables, torch.cat(start), z, target, S, variance, clip)
                x = [frame.x.unflatten(0, (seeds, count)) for frame in walk]
                moments = torch.stack([x[i] for i in kept])  # (moments, seeds, count, 1, H, W)
                found[S, variance, clip] = (data.to_pixels(moments), moments.flatten(2).std(2))
                yield found


def reverse_picture(
    recorded: Recorded, tables: schedule.NoiseSchedule, seed: int = 0, steps: int = 15, variance: str = "beta_tilde",
    clip: bool = True, moment: int = MOMENTS,
) -> Figure:  # fmt: skip
    """Images on their way back from noise (Algorithm 2), and the spread of their pixels beside the
    forward process's.

    recorded: of `reverse_frames`; steps, variance and clip name one of its ways (KeyError).
    moment: 0..MOMENTS.
    """
    pictures, spread = recorded[steps, variance, clip]
    figure, (images, line) = panels(1.5, 1)
    taken = [round(k * steps / MOMENTS) for k in range(MOMENTS + 1)]
    show(images, pictures[moment, seed], 3, f"after {taken[moment]} of {steps} steps")
    tau = schedule.even_tau(tables.T, steps).flip(0)  # T first
    times = tau[taken]
    x_0 = data.to_model(data.load("embedded", "test").pixels[:500])
    kept = tables.alpha_bar[times]
    line.plot(times, (kept * x_0.var() + 1 - kept).sqrt(), color=plot.DATA, label="forward")
    line.plot(
        times[: moment + 1],
        spread[: moment + 1, seed],
        "o--",
        ms=3,
        color=plot.MODEL,
        label="this walk",
    )
    line.set(xlim=(tables.T, 0), ylim=(0, 1.6), xlabel="t")
    line.set_title("standard deviation of the pixels", fontsize=9)
    line.legend(fontsize=8, frameon=False)
    clipped = "estimates clipped" if clip else "estimates not clipped"
    figure.suptitle(
        f"{steps} steps, variance {variance}, {clipped}: now at t = {int(times[moment])}",
        fontsize=10,
    )
    return figure


def reverse(recorded: Recorded, tables: schedule.NoiseSchedule) -> VBox:
    """Walk back and forth on the reverse chain (notebook 06).  recorded: the last that
    `reverse_frames` has yielded.
    """
    steps = sorted({way[0] for way in recorded})
    seeds = next(iter(recorded.values()))[0].shape[1]
    controls = {
        "moment": slider("moment", MOMENTS, 0, MOMENTS), "seed": slider("seed", 0, 0, seeds - 1),
        "steps": choice("steps", steps, steps[len(steps) // 2]),
        "variance": menu("variance", diffusion.VARIANCES, "beta_tilde"), "clip": tick("clip to [-1, 1]", True),
    }  # fmt: skip

    def draw(**state) -> Figure:
        return reverse_picture(recorded, tables, **state)

    return explorer(draw, controls, [["moment", "seed"], ["steps", "variance"], ["clip"]])
