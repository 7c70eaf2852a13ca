"""A small noise-conditional score network, and its annealed walk from noise to garments."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, evaluate, train
from tutorial_lib.beyond.langevin import annealed, geometric
from tutorial_lib.beyond.score import Score, denoising_loss
from tutorial_lib.data import to_pixels
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.recipes.sources import full
from tutorial_lib.recipes.targets import distances_of

# From the largest distance between two images down to a hundredth (Song & Ermon 2020, section 3).
LEVELS = 100
SIGMAS = geometric(40.0, 0.01, LEVELS).float()
CONFIG = train.DiffusionConfig(steps=6000, T=LEVELS, t_sampling="uniform", report_every=100)
SHAPE = UNetConfig(widths=(32, 64))
STEPS = (1, 4)  # of Langevin at each level, for each sample
STEP_SIZE = 0.5
MOMENTS = 16  # levels of a walk that are stored
SHOWN = 16  # samples of each kind that are stored


def ncsn(out: Path = Path("build/retrain_ncsn"), count: int = 500) -> None:
    """Train the score at all levels, walk from the largest to the smallest, and record the walk.

    A run that was interrupted is resumed.  Stored are `sigmas` (levels,) and the `moments`, which
    of them the `walk` was looked at, (MOMENTS, SHOWN, 1, 28, 28) uint8, with the most steps; the
    `distances` of `count` last states, and of the estimates behind them, from real images, (steps,
    2, judges); and the first `samples` of each, (steps, 2, SHOWN, 1, 28, 28).
    """
    score = score_network(_trained(out))
    distances, samples = [], []
    for steps in STEPS:
        walk, kinds = _walked(score, steps, count)
        distances.append(torch.stack([distances_of(pixels) for pixels in kinds]))
        samples.append(torch.stack([pixels[:SHOWN] for pixels in kinds]))
        print(f"{steps} steps a level: {distances[-1].tolist()}", flush=True)
    tensors = {
        "sigmas": SIGMAS,
        "moments": _moments(),
        "walk": walk,
        "distances": torch.stack(distances),
        "samples": torch.stack(samples),
    }
    about = {
        "what": "a small score network's annealed Langevin walk",
        "recipe": "python -m tutorial_lib.recipes ncsn",
        "steps": STEPS,
        "step_size": STEP_SIZE,
        "judges": list(evaluate.JUDGES),
        "count": count,
        "train": asdict(CONFIG),
        "model": asdict(SHAPE),
        "data": full("train").source,
    }
    checkpoint.save(ASSETS / "ncsn.safetensors", tensors, about)


def score_network(model: nn.Module) -> Score:
    r"""A U-Net as the score of data blurred by sigma: minus its answer over sigma.

    It sees $x / \sqrt{1 + \sigma^2}$ and the number of the level, 1 for the smallest.
    """

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        each = sigma.view(-1, *[1] * (x.ndim - 1))  # (B, 1, ...)
        level = LEVELS - (SIGMAS.to(sigma)[None] - sigma[:, None]).abs().argmin(1)  # (B,)
        answer = model(x / (1 + each**2).sqrt(), level).to(x.dtype)
        return -answer / each

    return score


def _cost(network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor) -> Tensor:
    """Denoising score matching at the level t, a mean over the pixels, (B,)."""
    sigma = SIGMAS.to(x_0)[LEVELS - t]
    return denoising_loss(score_network(network), x_0, sigma, eps) * 2 / x_0[0].numel()


def _trained(out: Path) -> nn.Module:
    torch.manual_seed(CONFIG.seed)  # the initial weights
    draw, _ = train.algorithm_1(full("train"), CONFIG)
    reports = train.train(
        UNet(SHAPE),
        draw,
        _cost,
        CONFIG,
        out=out,
        about={"model": asdict(SHAPE)},
        resume=(out / train.FILE).exists(),
    )
    for last in reports:
        print(f"step {last.step}: loss {last.loss:.4f}", flush=True)
    return restore(*checkpoint.load(out))


def _moments() -> Tensor:
    """Which levels are looked at, as indices into SIGMAS: from the first to the last."""
    return torch.linspace(0, LEVELS - 1, MOMENTS).round().long()


def _walked(score: Score, steps: int, count: int) -> tuple[Tensor, list[Tensor]]:
    """The walk of the first SHOWN; and of all the last states and estimates, as pixels."""
    generator = torch.Generator().manual_seed(0)
    x = SIGMAS[0] * torch.randn(count, 1, 28, 28, generator=generator)
    walk: list[Tensor] = []
    states: list[Tensor] = []
    estimates: list[Tensor] = []
    for part in x.split(250):
        frames = annealed(
            score, part, SIGMAS, steps=steps, step_size=STEP_SIZE, generator=generator
        )
        for i, frame in enumerate(frames):
            if not states and i in _moments().tolist():
                walk.append(to_pixels(frame.x[:SHOWN].clamp(-1, 1)))
        states.append(to_pixels(frame.x.clamp(-1, 1)))
        estimates.append(to_pixels(frame.x_0_hat.clamp(-1, 1)))
    return torch.stack(walk), [torch.cat(states), torch.cat(estimates)]
