"""Pictures on the way: what the averaged network draws so far, always from the same noise."""

from functools import partial
from pathlib import Path

import torch

from tutorial_lib import data, sample
from tutorial_lib.beyond.solvers import STEPS, dpm_solver
from tutorial_lib.cli.trained import prediction
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.course import plot
from tutorial_lib.denoise import denoiser, self_conditioned
from tutorial_lib.nets.unet import UNet
from tutorial_lib.schedule import NoiseSchedule

COUNT = 16


def save(
    network: UNet, config: DiffusionConfig, schedule: NoiseSchedule, out: Path, step: int
) -> Path:
    """Draw 16 images, write them as OUT/preview_000500.png; the file.

    The noise is the seed's, from a generator of its own, so that training is not disturbed.
    Raises OSError where it cannot be written.
    """
    shape = network.config
    generator = torch.Generator().manual_seed(config.seed)
    size = (shape.channels, shape.image_size, shape.image_size)
    x_T = sample.start(COUNT, size, generator=generator)  # (16, C, H, W)
    denoise = denoiser(prediction(network), schedule, target=config.target, clip=True)
    if shape.labels:
        denoise = partial(denoise, y=torch.arange(COUNT) % shape.labels)
    if shape.self_conditioning:
        denoise = self_conditioned(denoise)
    device = next(network.parameters()).device
    frames = dpm_solver(denoise, schedule, x_T.to(device), steps=min(STEPS, schedule.T))
    pixels = data.to_pixels(sample.final(frames))  # (16, C, H, W), uint8
    return plot.save(pixels.cpu(), out / f"preview_{step:06}.png")
