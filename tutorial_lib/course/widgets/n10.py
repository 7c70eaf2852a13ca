"""Explorers of notebook 10: the strength of guidance, masks, and classes on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import data
from tutorial_lib.beyond.editing import observed, replaced, resampled, spread
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.beyond.milder import guided_within
from tutorial_lib.beyond.solvers import dpm_solver
from tutorial_lib.course import plot
from tutorial_lib.course.mosaic import GAP
from tutorial_lib.course.widgets import choice, explorer, menu, panels, show, slider
from tutorial_lib.denoise import Denoiser, Network, denoiser
from tutorial_lib.sample import Frame, ddim, ddpm, final, start
from tutorial_lib.schedule import NoiseSchedule, cosine
from tutorial_lib.toys import Mixture

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Three classes of two bumps each: one bump near the other classes, one farther out.
DIRECTIONS = {"left": (-1.0, -0.5), "right": (1.0, -0.5), "top": (0.0, 1.1)}
INNER, OUTER = 0.5, 1.5  # how far the bumps are from the middle
STEPS, POINTS = 30, 300  # of a walk
INTERVALS = {"all steps": (1, 1000), "t below 600": (1, 600), "t below 300": (1, 300)}
WEIGHTS = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)


def asking_picture(label: str = "right", w: float = 1.0, interval: str = "all steps") -> Figure:
    """Points of a class, and where guidance of strength w takes as many; what each bump gets.

    label: one of DIRECTIONS.  interval: the steps in which it acts, one of INTERVALS.
    """
    figure, (plane, shares) = panels(1.2, 1, height=3.2)
    figure.subplots_adjust(left=0.02, bottom=0.09)
    true, drawn = _true(label), _walked(label, w, interval)
    others = torch.cat([_true(name) for name in DIRECTIONS if name != label])
    clouds = {"other classes": others, "the class": true, "guided": drawn}
    for (name, points), colour in zip(
        clouds.items(), (plot.QUIET, plot.DATA, plot.NOISE), strict=True
    ):
        plane.scatter(*points.T, s=6, color=colour, alpha=0.6, linewidths=0, label=name)
    plane.set(xlim=(-2.5, 2.5), ylim=(-1.4, 2.3), aspect="equal")
    plane.set_axis_off()
    plane.legend(fontsize=8, frameon=False, loc="upper left", markerscale=2)
    heights = [_share_near(points, label) for points in (true, drawn)]  # (inner, outer, neither)
    for side, (values, colour) in enumerate(zip(heights, (plot.DATA, plot.NOISE), strict=True)):
        places = [k + 0.4 * side - 0.2 for k in range(3)]
        shares.bar(places, values, width=0.4, color=colour)
    shares.set_xticks(range(3), ["inner bump", "outer bump", "neither"], fontsize=8)
    shares.set(ylim=(0, 1))
    shares.set_title("share of the points", fontsize=9)
    figure.suptitle(f"class {label}, w = {w:g}, {interval}", fontsize=10)
    return figure


def asking() -> VBox:
    """Choose a class, a strength, and the steps in which guidance acts (notebook 10)."""
    controls = {
        "label": menu("class", list(DIRECTIONS), "right"),
        "w": choice("w", WEIGHTS, 1.0),
        "interval": menu("guidance in", list(INTERVALS), "all steps"),
    }
    return explorer(asking_picture, controls, [["label", "interval"], ["w"]])


def _bumps(labels: Sequence[str]) -> Mixture:
    """The mixture of these classes, two bumps each."""
    means = [
        torch.tensor(DIRECTIONS[label], dtype=torch.float64) * distance
        for label in labels
        for distance in (INNER, OUTER)
    ]
    weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
    return Mixture(weights, torch.stack(means), 0.03)


@cache
def _true(label: str) -> Tensor:
    return _bumps([label]).sample(POINTS, torch.Generator().manual_seed(1))


@cache
def _walked(label: str, w: float, interval: str) -> Tensor:
    """Where a guided walk ends, with exact guesses: (POINTS, 2)."""
    schedule = cosine(1000)
    mixtures = (_bumps(list(DIRECTIONS)), *(_bumps([name]) for name in DIRECTIONS))

    def exact(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        alpha_bar = float(schedule.alpha_bar[t[0]])
        guesses = torch.stack([mixture.x_0_hat(x_t, alpha_bar) for mixture in mixtures])
        return guesses[y + 1, torch.arange(len(y))]  # NOBODY is -1

    y = torch.full((POINTS,), list(DIRECTIONS).index(label))
    walk = guided_within(exact, y, w, *INTERVALS[interval], clip=False)
    generator = torch.Generator().manual_seed(2)
    x_T = torch.randn(POINTS, 2, generator=generator, dtype=torch.float64)
    return final(ddim(walk, schedule, x_T, steps=STEPS))


def _share_near(points: Tensor, label: str) -> tuple[float, float, float]:
    """The share of the points near the inner bump of a class, near the outer one, near neither."""
    direction = torch.tensor(DIRECTIONS[label], dtype=torch.float64)
    near = [
        float(((points - distance * direction).norm(dim=1) < 0.5).double().mean())
        for distance in (INNER, OUTER)
    ]
    return near[0], near[1], 1 - near[0] - near[1]


_SIDE = 28 + GAP  # of an image in a grid, with the gap to the next


def _name(axis: Axes, columns: Sequence[str], rows: Sequence[str] = ()) -> None:
    """Names above the columns of a grid of images, and left of its rows."""
    for k, name in enumerate(columns):
        axis.text(_SIDE * k + 14, -4, name, ha="center", fontsize=9)
    for k, name in enumerate(rows):
        axis.text(-2, _SIDE * k + 14, name, ha="right", va="center", rotation=90, fontsize=9)


# --- masks

Filled = dict[str, Tensor]  # way -> (masks, pictures, 1, 28, 28) uint8
SHOWN = (0, 7, 30)  # test images: an ankle boot, a checked shirt, a bag
WAYS = ("replaced", "rounds", "seen")


def masks_of() -> dict[str, Tensor]:
    """What is known, by name: 1 where it is, (28, 28) each."""
    half, band, some = torch.zeros(28, 28), torch.ones(28, 28), torch.zeros(28, 28)
    half[:, :14] = 1
    band[9:19] = 0
    some[::3, ::3] = 1
    return {"left half": half, "all but a band": band, "every ninth pixel": some}


def mask_frames(
    network: Network,
    schedule: NoiseSchedule,
    *,
    target: str,
    steps: int = 25,
    rounds: int = 5,
) -> Iterator[Filled]:
    """Fill in test images behind every mask in every way; yields what there is so far.

    "known" holds what was known, on black.
    """
    known = data.to_model(data.load("embedded", "test").pixels[list(SHOWN)])
    mask = torch.stack(list(masks_of().values()))[:, None, None]  # (masks, 1, 1, 28, 28)
    shape = (len(mask), len(known), 1, 28, 28)
    pictures = known.expand(shape).flatten(0, 1)
    mask = mask.expand(shape).flatten(0, 1)
    free, clipped = (denoiser(network, schedule, target=target, clip=c) for c in (False, True))
    variance = spread(schedule, float(pictures.var())) + 0.001

    def seen(x: Tensor) -> Tensor:
        return mask * x

    ways: dict[str, tuple[Callable[..., Iterator[Frame]], Denoiser, dict[str, int]]] = {
        "replaced": (ddpm, replaced(clipped, pictures, mask), {}),
        "rounds": (resampled, replaced(clipped, pictures, mask), {"rounds": rounds}),
        "seen": (
            ddpm,
            observed(free, schedule, seen, seen(pictures), variance=variance, clip=True),
            {},
        ),
    }
    found = {"known": data.to_pixels(mask * pictures - (1 - mask)).view(shape)}
    for way, (sampler, walk, more) in ways.items():
        generator = torch.Generator().manual_seed(0)
        x_T = start(len(pictures), (1, 28, 28), generator=generator)
        frames = sampler(walk, schedule, x_T, generator=generator, steps=steps, **more)
        found[way] = data.to_pixels(final(frames)).view(shape)
        yield found


def mask_picture(recorded: Filled, mask: str = "left half") -> Figure:
    """Test images, a row each: the picture, what is known of it, and what each way made of that.

    How far the way is off is measured where the picture is not known.
    recorded: of `mask_frames`.  mask: one of `masks_of`.
    """
    k = list(masks_of()).index(mask)
    true = data.load("embedded", "test").pixels[list(SHOWN)]
    unknown = (1 - masks_of()[mask]).bool().expand_as(true)
    columns = {"picture": true, "known": recorded["known"][k]}
    for way in WAYS:
        gap = (recorded[way][k].double() - true)[unknown].square().mean().sqrt()
        columns[f"{way}\n{gap:.0f} grey levels off"] = recorded[way][k]
    figure, (axis,) = panels(1, height=5.2)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.855)
    rows = torch.stack(list(columns.values()), dim=1)  # (pictures, columns, 1, 28, 28)
    show(axis, rows.flatten(0, 1), len(columns), "")
    _name(axis, list(columns))
    figure.suptitle(f"{mask} is known; the rest is filled in, in three ways", fontsize=10)
    return figure


def masks(recorded: Filled) -> VBox:
    """Choose a mask, and see the rest filled in, in each way (notebook 10).

    recorded: the last that `mask_frames` has yielded.
    """
    controls = {"mask": choice("what is known", list(masks_of()), "all but a band")}

    def draw(**state) -> Figure:
        return mask_picture(recorded, **state)

    return explorer(draw, controls)


# --- classes on request, for a network with labels

Requested = dict[float, Tensor]  # w -> (classes, seeds, 1, 28, 28) uint8


def class_frames(
    network: Network,
    schedule: NoiseSchedule,
    *,
    target: str,
    weights: Sequence[float] = (0.0, 1.0, 1.6, 4.0),
    seeds: int = 3,
    steps: int = 10,
) -> Iterator[Requested]:
    """Draw every class from the same starts with every strength; yields what there is so far."""
    ask = denoiser(network, schedule, target=target, clip=False)
    x_T = start(seeds, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    classes = len(data.CLASSES)
    y, x_T = torch.arange(classes).repeat_interleave(seeds), x_T.repeat(classes, 1, 1, 1)
    found: Requested = {}
    for w in weights:
        drawn = final(dpm_solver(guided(ask, y, w, clip=True), schedule, x_T, steps=steps))
        found[w] = data.to_pixels(drawn).unflatten(0, (classes, seeds))
        yield found


def class_picture(
    requested: Requested, label: str = "sneaker", w: float = 1.6, seed: int = 0
) -> Figure:
    """Every start, asked for one class with every strength; and one of these pictures, enlarged.

    requested: of `class_frames`.  label: one of data.CLASSES.  w: one of its strengths (KeyError).
    seed: 0..seeds - 1.
    """
    k = data.CLASSES.index(label)
    drawn = torch.stack([rows[k] for rows in requested.values()], dim=1)  # (seeds, w, 1, 28, 28)
    seeds, strengths = drawn.shape[:2]
    figure, (every, one) = panels(strengths, seeds, height=3.4)
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.02, top=0.82, wspace=0.1)
    show(every, drawn.flatten(0, 1), strengths, "")
    _name(every, [f"w = {at:g}" for at in requested], [f"start {row}" for row in range(seeds)])
    left, top = _SIDE * list(requested).index(w) - 1.5, _SIDE * seed - 1.5
    x, y = [left, left + _SIDE, left + _SIDE, left, left], [top, top, top + _SIDE, top + _SIDE, top]
    every.plot(x, y, color=plot.NOISE, linewidth=3, clip_on=False, scalex=False, scaley=False)
    show(one, requested[w][k, seed : seed + 1], 1, f"start {seed} with w = {w:g}")
    figure.suptitle(f"{label}: start {seed}, w = {w:g}", fontsize=10)
    return figure


def classes(requested: Requested) -> VBox:
    """Choose a class, a strength and a start (notebook 10).

    requested: the last that `class_frames` has yielded.
    """
    weights = list(requested)
    seeds = next(iter(requested.values())).shape[1]
    controls = {
        "label": menu("class", data.CLASSES, "sneaker"),
        "w": choice("w", weights, weights[1]),
        "seed": slider("start", 0, 0, seeds - 1),
    }

    def draw(**state) -> Figure:
        return class_picture(requested, **state)

    return explorer(draw, controls, [["label", "w"], ["seed"]])
