"""`sample`: images out of noise; and what it shares with `evaluate`, the preparation for it."""

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutorial_lib import checkpoint, data, files, sample
from tutorial_lib.beyond.milder import guided_within
from tutorial_lib.beyond.solvers import SAMPLERS, STEPS
from tutorial_lib.beyond.variance import Sure, sure
from tutorial_lib.cli import samplers, trained
from tutorial_lib.cli.trained import Trained
from tutorial_lib.course import animation, plot
from tutorial_lib.course.notebook import progress
from tutorial_lib.denoise import Denoiser, self_conditioned
from tutorial_lib.engine.hardware import get_device

ENDINGS = (".png", ".gif", ".npy")
SHIPPED = "labelled"
CHUNK = 250  # images sampled at once
GIF_FRAMES = 40
GUIDANCE = 1.0  # w, unless another is asked for


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `sample`."""
    add_sampling(parser, count=64)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="ends in .png, .gif or .npy"
    )


def add_sampling(parser: argparse.ArgumentParser, count: int) -> None:
    """The options that say which images to draw, and how."""
    parser.add_argument(
        "--weights", default=SHIPPED, help="a shipped name, a file, or a folder that train wrote"
    )
    known = ", ".join(SAMPLERS)
    parser.add_argument(
        "--sampler",
        help=f"one of {known} (default {samplers.FAST}; ddpm is the lesson, and takes minutes)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help=f"how many of the T steps to visit (default: ddpm all, others {STEPS}; of distilled "
        "weights 1, 2 or 4, default 4)",
    )
    parser.add_argument(
        "--eta", type=float, help="of ddim: 0, no noise (default), to 1, the noise of ddpm"
    )
    parser.add_argument(
        "--label",
        metavar="NAME|0..9",
        help="draw this class alone (of weights that have learnt labels; default: at random)",
    )
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help=f"how strongly the label draws: 0 not at all (unconditional), 1 as in the data "
        f"(conditional; default {GUIDANCE:g}), above 1 exaggerated (guided, by two calls a step)",
    )
    parser.add_argument(
        "--guidance-interval",
        type=int,
        nargs=2,
        metavar=("FROM", "TO"),
        help="guide at the steps t of this interval only, and draw as with 1 at all others; "
        "150 700 goes well with --guidance 2 (default: all steps)",
    )
    parser.add_argument(
        "--count", type=int, default=count, help=f"number of images (default {count})"
    )


def run(options: argparse.Namespace) -> None:
    """Draw images and write them as .png (grid), .gif (the way from noise) or .npy (uint8)."""
    ending = options.out.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"unknown file ending {options.out.suffix!r}; --out must end in {', '.join(ENDINGS)}"
        )
    task = Sampling.prepared(options)
    files.check_writable(options.out)
    frames = task.draw(keep=GIF_FRAMES if ending == ".gif" else 1)
    if ending == ".gif":
        animation.gif(frames, options.out)
    elif ending == ".png":
        plot.save(frames[-1], options.out)
    else:
        files.write(options.out, _npy(frames[-1]))
    print(f"{options.count} images in {options.out} ({options.out.stat().st_size / 1e3:.0f} kB)")


def _npy(pixels: Tensor) -> bytes:
    """Images (N, C, H, W) as a NumPy file: (N, H, W), or (N, H, W, 3) in colour."""
    pixels = pixels.permute(0, 2, 3, 1)
    buffer = io.BytesIO()
    np.save(buffer, (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).numpy())
    return buffer.getvalue()


@dataclass(frozen=True)
class Sampling:
    """Everything that it takes to draw images, checked before anything long begins.

    name: of the sampler.
    y: (count,) the labels asked for, for weights that take labels.  guidance: w of `guided`, at the
    steps of the interval.
    """

    weights: Trained
    name: str
    sampler: samplers.Sampler
    steps: int
    x_T: Tensor
    y: Tensor | None
    guidance: float
    interval: tuple[int, int]
    device: str

    @classmethod
    def prepared(cls, options: argparse.Namespace) -> "Sampling":
        """Load and check what the options of `sample` and `evaluate` ask for."""
        device = get_device(options.device)
        weights = trained.read(*checkpoint.load(options.weights))
        generator, shape = torch.Generator().manual_seed(options.seed), weights.model.config
        name, sampler, steps = samplers.chosen(options, weights, generator)
        size = (shape.channels, shape.image_size, shape.image_size)
        x_T = sample.start(options.count, size, generator=generator)
        y = _labels(options, weights)
        weights.model.to(device)
        guidance = GUIDANCE if options.guidance is None else options.guidance
        interval = _interval(options, weights.schedule.T)
        return cls(weights, name, sampler, steps, x_T, y, guidance, interval, device)

    def denoise(self, here: slice) -> Denoiser | Sure:
        """A denoiser for one run; a self-conditioning one is shown its own last estimates.

        here: which of the images it is for; each has its label, if there are any.
        """
        weights = self.weights
        y = None if self.y is None else self.y[here].to(self.device)
        if weights.evaluations:  # a student is asked for the label, and never guided
            student = weights.denoiser(clip=True)
            return student if y is None else partial(student, y=y)
        if self.name == samplers.LEARNED:
            return sure(weights.model, weights.schedule, target=weights.target, clip=True)
        denoise = weights.denoiser(clip=y is None)
        if y is not None:
            denoise = guided_within(denoise, y, self.guidance, *self.interval, clip=True)
        return self_conditioned(denoise) if weights.model.config.self_conditioning else denoise

    def draw(self, keep: int) -> list[Tensor]:
        """`keep` moments on the way, the last one last, each (count, C, H, W) uint8."""
        kept = set(animation.every(self.steps + 1, keep)) if keep > 1 else {self.steps}
        firsts, chunks, schedule = range(0, len(self.x_T), CHUNK), [], self.weights.schedule
        with progress(None, total=self.steps * len(firsts)) as bar:
            for first in firsts:
                here = slice(first, first + CHUNK)
                x_T = self.x_T[here].to(self.device)
                frames = self.sampler(self.denoise(here), schedule, x_T, steps=self.steps)
                moments = []
                for i, frame in enumerate(frames):
                    bar.update(i > 0)
                    _check_numbers(frame)
                    if i in kept:
                        moments.append(data.to_pixels(frame.x).cpu())
                chunks.append(moments)
        return [torch.cat(moments) for moments in zip(*chunks, strict=True)]


def _check_numbers(frame: sample.Frame) -> None:
    """Raise ValueError at the first step whose images are no numbers any more."""
    if not frame.x.isfinite().all():
        raise ValueError(
            f"the samples stopped being numbers on the way to step {frame.t}; these weights are "
            "damaged, or they predict another target than their record says"
        )


def _labels(options: argparse.Namespace, weights: Trained) -> Tensor | None:
    """The label of each image to draw, (count,): the one asked for, or each at random."""
    labels = weights.model.config.labels
    if not labels:
        for name in ("label", "guidance", "guidance-interval"):
            if getattr(options, name.replace("-", "_")) is not None:
                raise ValueError(
                    f"these weights have not learnt labels, and --{name} needs them; leave it out, "
                    "or train with --labels"
                )
        return None
    if options.label is None:
        generator = torch.Generator().manual_seed(options.seed)
        return torch.randint(labels, (options.count,), generator=generator)
    return torch.full((options.count,), _label(options.label, labels, weights.classes))


def _interval(options: argparse.Namespace, T: int) -> tuple[int, int]:
    """The first and the last step t of guidance: those asked for, or all of 1..T."""
    if options.guidance_interval is None:
        return 1, T
    t_from, t_to = options.guidance_interval
    if options.guidance is None:
        raise ValueError(
            "--guidance-interval says where guidance acts; say how strongly, too: --guidance W"
        )
    if not 1 <= t_from <= t_to <= T:
        raise ValueError(
            f"--guidance-interval needs steps 1 <= FROM <= TO <= {T}, got {t_from} and {t_to}"
        )
    return t_from, t_to


def _label(asked: str, labels: int, names: Sequence[str]) -> int:
    """The number of a class by its name or number.  Raises ValueError for neither."""
    by_name = {name.lower(): k for k, name in enumerate(names)}
    if asked.lower() in by_name:
        return by_name[asked.lower()]
    if asked.isdecimal() and int(asked) < labels:
        return int(asked)
    known = f", or one of {', '.join(names)}" if names else ""
    raise ValueError(f"unknown label {asked!r}; choose a number in 0..{labels - 1}{known}")
