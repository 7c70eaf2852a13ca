"""Explorers: pictures that follow their controls.

Each explorer is a pair.  `..._picture` is a pure function from plain values to a figure; a notebook
shows one such figure as a still, and it can be called like any other function.  The function of the
shorter name builds the controls, and redraws the picture whenever one of them moves.  No network
runs in a redraw: where one is needed, its work is done ahead (`reverse_frames`), or has been
recorded (`replay_picture`).
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutorial_lib import checkpoint, data, diffusion, gaussian, markov, plot, sample, schedule, unet

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget
    from matplotlib.figure import Figure

DPI = 90
STATES = ("play", "study", "sleep")
STUDENT = ((1, 15, 4), (16, 1, 3), (5, 10, 5))  # notebook 01's student, in twentieths
MOMENTS = 10  # of a reverse chain, after its start


def explorer(
    draw: Callable[..., Figure], controls: dict[str, Widget], rows: Sequence[Sequence[str]] = ()
) -> VBox:
    """A picture that follows its controls.

    draw: a pure function of the controls' values, which are passed by name.  rows: controls that
    stand side by side; by default each has a row of its own.
    """
    import ipywidgets
    import traitlets

    class Picture(ipywidgets.Image):
        description = traitlets.Unicode("").tag(
            sync=True
        )  # without it, a tooltip is an error in the browser

    class Explorer(ipywidgets.VBox):
        def __repr__(self) -> str:  # what a page shows that has no kernel
            return "An explorer: run this cell, then move its controls by mouse or by arrow keys."

    def redraw(_=None) -> None:
        figure = draw(**{name: control.value for name, control in controls.items()})
        with image.hold_sync():  # one message, so that the picture is loaded once
            image.value, image.tooltip = (
                png(figure),
                figure.get_suptitle() or figure.axes[0].get_title(),
            )

    image = Picture(format="png")
    redraw()
    width, height = (
        int.from_bytes(image.value[at : at + 4], "big") for at in (16, 20)
    )  # as PNG says
    image.layout = ipywidgets.Layout(
        width=f"{width}px", height=f"{height}px", flex="0 0 auto", max_width="none"
    )
    for control in controls.values():
        control.observe(redraw, "value")
    grouped = [[controls[name] for name in row] for row in rows or [[name] for name in controls]]
    return Explorer(
        [*(row[0] if len(row) == 1 else ipywidgets.HBox(row) for row in grouped), image]
    )


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG, always of the figure's own size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _slider(
    label: str, value: float, low: float, high: float, step: float = 1, width: int = 400
) -> Widget:
    """A slider of whole numbers, or of others where `step` is no whole number."""
    import ipywidgets

    kind, shown = (
        (ipywidgets.IntSlider, "d") if isinstance(step, int) else (ipywidgets.FloatSlider, ".3f")
    )
    return kind(
        value=value, min=low, max=high, step=step, readout_format=shown, **_labelled(label, width)
    )


def _choice(label: str, options: Sequence, value: object, width: int = 400) -> Widget:
    """A slider over a few values in their order."""
    import ipywidgets

    return ipywidgets.SelectionSlider(options=list(options), value=value, **_labelled(label, width))


def _menu(label: str, options: Sequence[str], value: str) -> Widget:
    import ipywidgets

    return ipywidgets.Dropdown(options=list(options), value=value, **_labelled(label, 300))


def _tick(label: str, value: bool) -> Widget:
    import ipywidgets

    return ipywidgets.Checkbox(value=value, indent=False, **_labelled(label, 260))


def _labelled(label: str, width: int) -> dict:
    return {
        "description": label,
        "style": {"description_width": "initial"},
        "layout": {"width": f"{width}px"},
    }


def _panels(*widths: float, height: float = 2.9, bottom: float = 0.18) -> tuple[Figure, list]:
    """A figure and its pairs of axes side by side, as wide as the numbers say; always at the same
    places.
    """
    figure = plot.plt.figure(figsize=(7.5, height))
    plot.plt.close(figure)  # it is shown as a value, and not once more by the notebook
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    figure.subplots_adjust(left=0.09, right=0.98, bottom=bottom, top=0.84, wspace=0.3)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.locator_params(nbins=4)  # each tick takes a millisecond to draw
    return figure, list(axes)


def _show(axis, x: Tensor, columns: int, title: str) -> None:
    """Images in a grid, (N, 1, H, W), in [-1, 1] or uint8."""
    pixels = x if x.dtype == torch.uint8 else data.to_pixels(x)
    axis.imshow(plot.tile(pixels, columns), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)


# --- 01: a chain with three states


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
    figure, (table, lines) = _panels(1, 2)
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
        f"w{i}{j}": _slider(f"{STATES[i]} to {STATES[j]}", STUDENT[i][j], 0, 20, width=245)
        for i, j in names
    } | {"start": _menu("begins with", STATES, "play"), "steps": _slider("hours", 20, 0, 60)}

    def draw(start: str, steps: int, **weights: int) -> Figure:
        return chain_picture(
            [[weights[f"w{i}{j}"] for j in range(3)] for i in range(3)], start, steps
        )

    return explorer(
        draw, controls, [*([f"w{i}{j}" for j in range(3)] for i in range(3)), ["start", "steps"]]
    )


# --- 02: forward noising


@lru_cache
def _four() -> tuple[Tensor, Tensor]:
    """Four test images, (4, 1, 28, 28) in [-1, 1], and their noise: always the same."""
    images = data.load("embedded", "test")
    x_0 = data.batch(
        images, torch.tensor([images.labels.tolist().index(label) for label in (0, 1, 8, 9)])
    )
    return x_0, torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))


@lru_cache
def _named(name: str, T: int) -> schedule.NoiseSchedule:
    with (
        warnings.catch_warnings()
    ):  # the picture itself shows where a schedule does not end in noise
        warnings.simplefilter("ignore", UserWarning)
        return schedule.named(name, T)


def noising_picture(t: int = 250, T: int = 1000, name: str = "linear") -> Figure:
    """Four images after t of T steps of a schedule, the histogram of their pixels, and the
    signal-to-noise ratio.

    Eq. 4.  t: 0..T, and what is larger counts as T.  name: one of schedule.NAMED; others raise
    ValueError.
    """
    tables, (x_0, eps) = _named(name, T), _four()
    t = min(t, T)
    x_t = diffusion.q_sample(tables, x_0, schedule.steps(t, 4), eps) if t else x_0
    figure, (images, pixels, ratio) = _panels(1.1, 1, 1)
    _show(images, x_t, 2, f"at t = {t}")
    counts, edges = x_t.flatten().histogram(bins=60, range=(-3.0, 3.0), density=True)
    pixels.stairs(counts.clamp(max=1.5), edges, fill=True, color=plot.DATA, alpha=0.6)
    normal = gaussian.log_density(edges, 0.0, 1.0).exp()
    pixels.plot(edges, normal, "--", color="black", lw=1)
    pixels.set(ylim=(0, 1.5), xlabel="pixel")
    pixels.set_title("pixels, and N(0, 1) dashed", fontsize=9)
    snr = tables.snr[1:]
    ratio.plot(range(1, T + 1), snr, color=plot.MODEL)
    if t:
        ratio.plot([t], [snr[t - 1]], "o", color=plot.NOISE)
    ratio.axhline(1, color=plot.QUIET, lw=0.7)
    ratio.set(yscale="log", ylim=(1e-6, 1e5), xlim=(0, T), xlabel="t")
    ratio.set_yticks([1e-4, 1, 1e4], ["0.0001", "1", "10,000"])
    ratio.minorticks_off()
    ratio.set_title("signal-to-noise ratio", fontsize=9)
    kept = float(tables.alpha_bar[t].sqrt())
    end = float(tables.alpha_bar[T].sqrt())
    figure.suptitle(
        f"{kept:.3f} of the image's amplitude is left; at the end of this schedule {end:.3f}",
        fontsize=10,
    )
    return figure


def noising() -> VBox:
    """Move through the forward process of any schedule (notebook 02)."""
    controls = {
        "t": _slider("t", 250, 0, 1000), "T": _choice("T", (10, 40, 100, 300, 1000), 1000),
        "name": _menu("schedule", tuple(schedule.NAMED), "linear"),
    }  # fmt: skip
    controls["T"].observe(lambda change: setattr(controls["t"], "max", change["new"]), "value")
    return explorer(noising_picture, controls, [["t"], ["T", "name"]])


# --- 03: the Kullback-Leibler divergence, and the decoder


def kl_picture(
    mean_q: float = 0.0, spread_q: float = 1.0, mean_p: float = 1.0, spread_p: float = 0.7
) -> Figure:
    """Two Gaussians, and the integrand of KL(q || p) with its signed area.  spreads: standard
    deviations above 0.
    """
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    log_q, log_p = (
        gaussian.log_density(grid, m, s**2) for m, s in ((mean_q, spread_q), (mean_p, spread_p))
    )
    q, p = (
        (torch.tensor(m), torch.tensor(s**2)) for m, s in ((mean_q, spread_q), (mean_p, spread_p))
    )
    there, back = float(gaussian.kl(*q, *p)), float(gaussian.kl(*p, *q))
    figure = plot.kl_integrand(
        grid, log_q, log_p, f"KL(q || p) = {there:.3f} nats, KL(p || q) = {back:.3f}"
    )
    top = float((log_q.exp() * (log_q - log_p)).max())
    figure.axes[0].set(ylim=(-0.35, max(1.1, 1.05 * top)), xlim=(-6, 6))
    figure.axes[0].locator_params(nbins=4)
    return figure


def kl() -> VBox:
    """Move two Gaussians against each other (notebook 03)."""
    controls = {
        f"{what}_{which}": _slider(f"{what} of {which}", value, low, high, 0.1, width=330)
        for which, values in (("q", (0.0, 1.0)), ("p", (1.0, 0.7)))
        for what, value, low, high in (
            ("mean", values[0], -2.5, 2.5),
            ("spread", values[1], 0.4, 2.0),
        )
    }
    return explorer(kl_picture, controls, [["mean_q", "spread_q"], ["mean_p", "spread_p"]])


def decoder_picture(mean: float = 0.1, sigma: float = 0.01, pixel: int = 140) -> Figure:
    """The Gaussian of the last step, cut into 256 buckets: one bucket from close by, and the
    probability of each.

    Eq. 13.  mean: on the scale [-1, 1].  sigma: in (0, 1).  pixel: a grey level, 0..255.
    """
    levels = torch.arange(256, dtype=torch.float64)[:, None] / 127.5 - 1  # (256, 1): one pixel each
    tables = _one_step(sigma)
    p = (-diffusion.L_0(tables, levels, torch.full_like(levels, mean))).exp()
    figure, (near, all_of_them) = _panels(1, 1)
    centre = float(levels[pixel])
    low, high = (
        (-3.0 if pixel == 0 else centre - 1 / 255),
        (3.0 if pixel == 255 else centre + 1 / 255),
    )
    grid = torch.linspace(centre - 8 / 255, centre + 8 / 255, 401, dtype=torch.float64)
    density = gaussian.log_density(grid, mean, sigma**2).exp()
    near.plot(grid, density, color=plot.MODEL)
    inside = ((grid >= low) & (grid <= high)).numpy()
    near.fill_between(grid, density, where=inside, color=plot.NOISE, alpha=0.5)
    for k in range(max(0, pixel - 4), min(255, pixel + 4)):
        near.axvline(float(levels[k]) + 1 / 255, color=plot.QUIET, lw=0.6)
    near.set(xlim=(grid[0], grid[-1]), ylim=(0, 0.42 / sigma), xlabel="pixel value in [-1, 1]")
    near.set_title(f"bucket {pixel}, from {_edge(low)} to {_edge(high)}", fontsize=9)
    all_of_them.stairs(p, torch.arange(257) - 0.5, fill=True, color=plot.MODEL)
    all_of_them.bar([pixel], [float(p[pixel])], width=1.0, color=plot.NOISE)
    all_of_them.set(xlim=(-3, 258), ylim=(0, max(1.15 * float(p.max()), 0.02)), xlabel="grey level")
    all_of_them.set_title(f"all buckets together: {float(p.sum()):.4f}", fontsize=9)
    figure.suptitle(f"p(pixel = {pixel}) = {float(p[pixel]):.4g}", fontsize=10)
    return figure


def _edge(x: float) -> str:
    return "-infinity" if x < -2 else "infinity" if x > 2 else f"{x:.3f}"


@lru_cache
def _one_step(sigma: float) -> schedule.NoiseSchedule:
    """A schedule whose decoder has that standard deviation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return schedule.from_betas([sigma**2])


def decoder() -> VBox:
    """Move the Gaussian over the buckets (notebook 03)."""
    spreads = (0.002, 0.004, 0.01, 0.02, 0.05, 0.1, 0.3)
    controls = {
        "mean": _slider("mean", 0.1, -1.2, 1.2, 0.005), "sigma": _choice("sigma", spreads, 0.01),
        "pixel": _slider("grey level", 140, 0, 255),
    }  # fmt: skip
    return explorer(decoder_picture, controls)


# --- 04: the network's shapes


@lru_cache
def _table(config: unet.UNetConfig) -> list[unet.Row]:
    with torch.device("meta"):
        model, size = unet.UNet(config), config.image_size
        return unet.shape_table(model, torch.zeros(1, config.channels, size, size), torch.ones(1))


def network_picture(
    image_size: int = 28, patch: int = 2, widths: tuple[int, ...] = (48, 128), blocks: int = 1
) -> Figure:
    """What each part of a U-Net returns, and its share of the parameters and of the operations; or
    why it cannot be.
    """
    figure, (axis,) = _panels(1, height=3.6, bottom=0.36)
    try:
        rows = _table(
            unet.UNetConfig(image_size=image_size, patch=patch, widths=widths, blocks=blocks)
        )
    except ValueError as error:
        axis.text(0.5, 0.5, textwrap.fill(str(error), 70), ha="center", va="center", fontsize=10)
        axis.set_axis_off()
        figure.suptitle("This one cannot be built", fontsize=10)
        return figure
    parameters, flops = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    shares = (
        [100 * row.parameters / parameters for row in rows],
        [100 * row.flops / flops for row in rows],
    )
    for share, side, colour, label in zip(
        shares, (-0.2, 0.2), (plot.QUIET, plot.DATA), ("parameters", "operations"), strict=True
    ):
        places = [i + side for i in range(len(rows))]
        axis.vlines(
            places, 0, share, color=colour, lw=180 / len(rows), label=label
        )  # drawn faster than bars
    shapes = [f"{row.name}  {' x '.join(map(str, row.shape[1:]))}" for row in rows]
    style = (
        {"rotation": 50, "ha": "right", "rotation_mode": "anchor"}
        if len(rows) < 18
        else {"rotation": 90}
    )
    axis.set_xticks(range(len(rows)), shapes, fontsize=7 if len(rows) < 18 else 6, **style)
    axis.set(ylabel="% of the whole", ylim=(0, max(40.0, 1.1 * max(map(max, shares)))))
    axis.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)
    figure.suptitle(
        f"{parameters:,} parameters, {flops / 1e6:,.0f} million operations an image", fontsize=10
    )
    return figure


WIDTHS = (
    (64,),
    (32, 64),
    (48, 128),
    (48, 192),
    (64, 128),
    (96, 192),
    (32, 64, 128),
    (64, 128, 256),
    (32, 64, 128, 256),
)


def network() -> VBox:
    """Pick sizes, and see what becomes of shapes, parameters and operations (notebook 04)."""
    named = [(", ".join(map(str, widths)), widths) for widths in WIDTHS]
    controls = {
        "image_size": _choice("image size", (16, 28, 32, 56, 64), 28), "patch": _choice("patch", (1, 2, 4), 2),
        "widths": _choice("widths of the levels", named, (48, 128)), "blocks": _slider("blocks a level", 1, 1, 3),
    }  # fmt: skip
    return explorer(network_picture, controls, [["image_size", "patch"], ["widths", "blocks"]])


# --- 05: a training run, again


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
    figure, (losses, by_t, images) = _panels(1, 1, 1.1)
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
    _show(images, record["samples"][moment, int(averaged)], 4, "samples, same noise")
    loss = float(record["by_t"][moment, int(averaged)].mean())
    figure.suptitle(f"Step {step:,}: loss on fixed images {loss:.3f}", fontsize=10)
    return figure


def replay() -> VBox:
    """Play a training run again (notebook 05)."""
    steps = recorded()["steps"].tolist()
    controls = {"step": _choice("step", steps, 300), "averaged": _tick("averaged weights", True)}
    return explorer(replay_picture, controls, [["step", "averaged"]])


# --- 06: the reverse chain

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
    figure, (images, line) = _panels(1.5, 1)
    taken = [round(k * steps / MOMENTS) for k in range(MOMENTS + 1)]
    _show(images, pictures[moment, seed], 3, f"after {taken[moment]} of {steps} steps")
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
        "moment": _slider("moment", MOMENTS, 0, MOMENTS), "seed": _slider("seed", 0, 0, seeds - 1),
        "steps": _choice("steps", steps, steps[len(steps) // 2]),
        "variance": _menu("variance", diffusion.VARIANCES, "beta_tilde"), "clip": _tick("clip to [-1, 1]", True),
    }  # fmt: skip

    def draw(**state) -> Figure:
        return reverse_picture(recorded, tables, **state)

    return explorer(draw, controls, [["moment", "seed"], ["steps", "variance"], ["clip"]])
