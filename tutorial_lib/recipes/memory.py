"""Three small networks that saw 50, 500 and 5,000 garments: whose samples are copies?"""

import time
from dataclasses import asdict

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, evaluate, train
from tutorial_lib.beyond.solvers import STEPS, dpm_solver
from tutorial_lib.data import Images, load, to_model, to_pixels
from tutorial_lib.denoise import denoiser
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.sample import final, start
from tutorial_lib.schedule import named

NAMES = ("losses", "distances", "samples", "nearest", "others")  # of what is recorded
COUNTS = (50, 500, 5000)  # of the embedded training images, the first so many
UNTIL = (6000, 6000, 2000)  # the step after which each is stopped: the last one copies nothing
CONFIG = train.DiffusionConfig(steps=6000, batch=16, report_every=50)
SHAPE = UNetConfig(widths=(32, 64))
MOMENTS = (250, 500, 1000, 2000, 4000, CONFIG.steps)  # steps of training that are recorded


def memory(count: int = 64) -> None:
    """Train a network on each of the COUNTS, at equal steps, and record what it draws.

    Stored are the `steps` recorded; for each network and moment the `losses` on 500 images that it
    learns from and on 500 unseen ones, (counts, moments, 2), and the `distances` of `count` samples
    to the two nearest images that it learns from, (counts, moments, count, 2), in grey levels a
    pixel; the last `samples`, (counts, count, 1, 28, 28), and which image is the `nearest` to each,
    (counts, count).  Moments after a network was stopped are NaN.  `others` are the same distances
    for `count` test images: surely no copies.
    """
    images, began = load("embedded"), time.perf_counter()
    found: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    for n, until in zip(COUNTS, UNTIL, strict=True):
        for name, value in _learn(images, n, until, count).items():
            found[name].append(value)
        print(f"{n} images: {time.perf_counter() - began:.0f} s", flush=True)
    about = {
        "what": "samples of networks that learned from 50, 500 and 5,000 garments",
        "recipe": "python -m tutorial_lib.recipes memory",
        "counts": COUNTS,
        "until": UNTIL,
        "train": asdict(CONFIG),
        "model": asdict(SHAPE),
        "sampler": f"dpm++, {STEPS} steps, seed 0",
    }
    tensors = {name: torch.stack(values) for name, values in found.items()}
    tensors["steps"] = torch.tensor(MOMENTS)
    checkpoint.save(ASSETS / "memory.safetensors", tensors, about)


def _learn(images: Images, n: int, until: int, count: int) -> dict[str, Tensor]:
    """Train on the first `n` images for so many steps; what is recorded of it, by the NAMES."""
    known, test = images.pixels[:n], load("embedded", "test").pixels
    torch.manual_seed(CONFIG.seed)  # the initial weights
    losses, distances = [], []
    learning = train.algorithm_1(Images(known, images.labels[:n], images.source), CONFIG)
    for last in train.train(UNet(SHAPE), *learning, CONFIG, device="cpu"):
        if last.step in MOMENTS:
            samples = _draw(last.ema_model, count)
            indices, away = _nearest(samples, known)
            seen = known[torch.arange(500) % n]
            losses.append([_loss(last.ema_model, pixels) for pixels in (seen, test[:500])])
            distances.append(away)
            print(
                f"{n} images, step {last.step}: {losses[-1]}, {away.median(0).values}", flush=True
            )
        if last.step == until:
            break
    later = len(MOMENTS) - len(losses)  # moments that it did not live to see
    losses += later * [[torch.nan] * 2]
    distances += later * [torch.full_like(away, torch.nan)]
    values = (torch.tensor(losses), torch.stack(distances), samples, indices[:, 0])
    return dict(zip(NAMES, (*values, _nearest(test[:count], known)[1]), strict=True))


def _nearest(pixels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The two nearest of `known`: indices and distances, (N, 2), in grey levels a pixel."""
    indices, distances = evaluate.nearest(pixels, known, 2)
    return indices, (distances / pixels[0].numel() ** 0.5).float()


@torch.no_grad()
def _loss(network: nn.Module, pixels: Tensor) -> float:
    """The mean loss on these images, always with the same noise and steps t."""
    generator = torch.Generator().manual_seed(1)
    t = torch.randint(1, CONFIG.T + 1, (len(pixels),), generator=generator)
    eps = torch.randn(pixels.shape, generator=generator)
    schedule, x_0 = named(CONFIG.schedule, CONFIG.T), to_model(pixels)
    loss = train.training_step(network, schedule, x_0, t, eps, target=CONFIG.target)
    return float(loss.mean())


def _draw(network: nn.Module, count: int) -> Tensor:
    """`count` samples, (count, 1, 28, 28) uint8, always from the same noise."""
    schedule = named(CONFIG.schedule, CONFIG.T)
    x_T = start(count, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    denoise = denoiser(network, schedule, target=CONFIG.target, clip=True)
    return to_pixels(final(dpm_solver(denoise, schedule, x_T, steps=STEPS)))
