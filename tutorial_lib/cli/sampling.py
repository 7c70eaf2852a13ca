"""`sample`: images out of noise; and what it shares with `evaluate`, the preparation for it."""

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutorial_lib import checkpoint, data, files, sample
from tutorial_lib.beyond.solvers import SAMPLERS
from tutorial_lib.course import animation, plot
from tutorial_lib.course.notebook import progress
from tutorial_lib.denoise import Denoiser, denoiser, self_conditioned
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.nets.unet import UNet, restore
from tutorial_lib.schedule import NoiseSchedule, even_tau, named

ENDINGS = (".png", ".gif", ".npy")
SHIPPED = "fashion_mnist"
CHUNK = 250  # images sampled at once
GIF_FRAMES = 40
FAST_STEPS = 25  # of samplers that need not follow the whole chain


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `sample`."""
    add_sampling(parser, sampler="ddpm", count=64)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="ends in .png, .gif or .npy"
    )


def add_sampling(parser: argparse.ArgumentParser, sampler: str, count: int) -> None:
    """The options that say which images to draw, and how."""
    parser.add_argument(
        "--weights", default=SHIPPED, help="a shipped name, a file, or a folder that train wrote"
    )
    known = ", ".join(SAMPLERS)
    parser.add_argument(
        "--sampler",
        default=sampler,
        help=f"one of {known} (default {sampler}; ddpm takes minutes)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help=f"how many of the T steps to visit (default: ddpm all, others {FAST_STEPS})",
    )
    parser.add_argument(
        "--eta", type=float, help="of ddim: 0, no noise (default), to 1, the noise of ddpm"
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
    """Everything that it takes to draw images, checked before anything long begins."""

    model: UNet
    schedule: NoiseSchedule
    target: str
    sampler: Callable[..., Iterator[sample.Frame]]
    steps: int
    x_T: Tensor
    device: str

    @classmethod
    def prepared(cls, options: argparse.Namespace) -> "Sampling":
        """Load and check what the options of `sample` and `evaluate` ask for."""
        device = get_device(options.device)
        if options.sampler not in SAMPLERS:
            raise ValueError(
                f"unknown sampler {options.sampler!r}; choose one of {', '.join(SAMPLERS)}"
            )
        tensors, configuration = checkpoint.load(options.weights)
        model, config = restore(tensors, configuration), _trained(configuration)
        schedule = named(config["schedule"], config["T"])
        usual = schedule.T if options.sampler == "ddpm" else min(FAST_STEPS, schedule.T)
        steps = usual if options.steps is None else options.steps
        even_tau(schedule.T, steps)  # raises unless the number is legal
        generator = torch.Generator().manual_seed(options.seed)
        shape = (model.config.channels, model.config.image_size, model.config.image_size)
        x_T = sample.start(options.count, shape, generator=generator)
        sampler = _sampler(options, generator)
        return cls(model.to(device), schedule, config["target"], sampler, steps, x_T, device)

    def denoise(self) -> Denoiser:
        """A denoiser for one run; a self-conditioning one is shown its own last estimates."""
        denoise = denoiser(self.model, self.schedule, target=self.target, clip=True)
        return self_conditioned(denoise) if self.model.config.self_conditioning else denoise

    def draw(self, keep: int) -> list[Tensor]:
        """`keep` moments on the way, the last one last, each (count, C, H, W) uint8."""
        kept = set(animation.every(self.steps + 1, keep)) if keep > 1 else {self.steps}
        parts, chunks = self.x_T.split(CHUNK), []
        with progress(None, total=self.steps * len(parts)) as bar:
            for x_T in parts:
                frames = self.sampler(
                    self.denoise(), self.schedule, x_T.to(self.device), steps=self.steps
                )
                moments = []
                for i, frame in enumerate(frames):
                    bar.update(i > 0)
                    if i in kept:
                        moments.append(data.to_pixels(frame.x).cpu())
                chunks.append(moments)
        return [torch.cat(moments) for moments in zip(*chunks, strict=True)]


def _trained(configuration: dict) -> dict:
    """What weights were trained with.  Raises ValueError unless they say schedule and target."""
    config = configuration.get("train", {})
    missing = [name for name in ("schedule", "T", "target") if name not in config]
    if missing:
        raise ValueError(
            f"these weights do not say with which {' and '.join(missing)} they were trained, "
            "so they cannot be sampled from here; use denoise.denoiser in Python"
        )
    return config


def _sampler(
    options: argparse.Namespace, generator: torch.Generator
) -> Callable[..., Iterator[sample.Frame]]:
    """The sampler of that name, with what it alone wants to know."""
    if options.eta is not None and options.sampler != "ddim":
        raise ValueError(
            f"--eta is for --sampler ddim, and {options.sampler} has no such choice; leave it out"
        )
    eta = 0.0 if options.eta is None else options.eta
    sample.check_eta(eta)
    own = {"ddpm": {"generator": generator}, "ddim": {"generator": generator, "eta": eta}}
    return partial(SAMPLERS[options.sampler], **own.get(options.sampler, {}))
