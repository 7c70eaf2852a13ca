"""Small networks side by side: with and without skips, shown their estimates, and a transformer.

The curves and samples of notebooks 04 and 04b that take too long to be trained there.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import checkpoint, data, evaluate, sample, train
from tutorial_lib.beyond.solvers import dpm_solver
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.denoise import Denoiser, denoiser, self_conditioned
from tutorial_lib.diffusion import q_sample
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.blocks import ResidualBlock
from tutorial_lib.nets.dit import DiT
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.schedule import cosine, same_t

SCHEDULE = cosine(1000)
MOMENTS = (25, 50, 100, 200, 400, 700, 1000, 1500)  # steps at which the small ones are looked at
SMALL = DiffusionConfig(
    steps=MOMENTS[-1], batch=32, optimizer="adam", lr=4e-3, lr_end=4e-3, warmup=10, ema=0.98,
    target="x_0", t_sampling="uniform", precision="no",
)  # fmt: skip
LARGE_MOMENTS = (25, 50, 100, 200, 300, 400, 500)
LARGE = replace(SMALL, steps=LARGE_MOMENTS[-1], warmup=50, lr_end=0.0, target="v")
RATES = (1e-3, 2e-3, 4e-3)  # of which each of the large ones gets its best after a few steps
BRIEFLY, EVERY = 100, 25  # steps before a rate is judged; between reports
SAMPLES, TESTS = 1000, 500  # how many are drawn and judged; test pictures
BEHIND = (100, 300, 500, 700, 900)  # t at which a second answer is compared with the first


def networks() -> None:
    """Train them all, in about a quarter of an hour, and store what they do."""
    began = time.perf_counter()
    tensors: dict[str, Tensor] = {}
    found = {"small": _small(tensors), "large": _large(tensors)}
    about = {
        "what": "learning curves and samples of small networks",
        "recipe": "python -m tutorial_lib.recipes networks",
        "small": asdict(SMALL) | {"moments": MOMENTS, "widths": (16, 32)},
        "large": asdict(LARGE) | {"moments": LARGE_MOMENTS, "rates": RATES},
        "behind": BEHIND,
        "found": found,
        "seconds": round(time.perf_counter() - began),
    }
    checkpoint.save(ASSETS / "networks.safetensors", tensors, about)


def _small(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """With skips, without, and shown its own estimates: the same start, the same batches."""
    found: dict[str, Any] = {}
    for name in ("with skips", "without", "self-conditioned"):
        telling = name == "self-conditioned"
        config = replace(SMALL, self_conditioning=telling)
        torch.manual_seed(0)  # the initial weights
        model = UNet(UNetConfig(widths=(16, 32), self_conditioning=telling))
        if name == "without":
            for layer in model.up:
                if isinstance(layer, ResidualBlock):
                    layer.register_forward_pre_hook(cut)
        curve, guesses = [], []
        for step, averaged in _trained(model, config, MOMENTS):
            share, guess = _fine_share(averaged)
            curve.append(share)
            guesses += [guess[:8]] if step in (MOMENTS[len(MOMENTS) // 4], MOMENTS[-1]) else []
            print(f"{name}, step {step}: {share:.3f} of the detail", flush=True)
        tensors[f"guesses.{name}"] = data.to_pixels(torch.stack(guesses))  # (2, 8, 1, 28, 28)
        found[name] = {"fine": curve}
        if name != "without":
            denoise = denoiser(averaged, SCHEDULE, target="x_0", clip=True)
            found[name] |= _judged(denoise, name, tensors)
        if telling:
            found[name]["gain"] = _gains(averaged)
            shown = self_conditioned(denoise)
            found["shown"] = _judged(shown, "shown", tensors)
    return found


def cut(block: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Before a block of the way up runs: put zeros in the place of what came across."""
    x, embedding = inputs
    own, across = x.chunk(2, dim=1)
    return torch.cat([own, torch.zeros_like(across)], dim=1), embedding


def _trained(
    model: nn.Module, config: DiffusionConfig, moments: tuple[int, ...]
) -> Iterator[tuple[int, nn.Module]]:
    """Train; at each of the moments the step and the averaged network."""
    config = replace(config, report_every=EVERY)
    learning = train.algorithm_1(data.load("embedded"), config)
    for report in train.train(model, *learning, config, device="cpu"):
        if report.step in moments:
            yield report.step, report.ema_model.eval()


def _tests() -> tuple[Tensor, Tensor]:
    """Test pictures in [-1, 1], and noise, (TESTS, 1, 28, 28) each."""
    x_0 = data.to_model(data.load("embedded", "test").pixels[:TESTS])
    return x_0, torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))


def fine(x: Tensor) -> Tensor:
    """What a blur of 3 x 3 pixels takes away."""
    return x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


@torch.no_grad()
def _fine_share(model: nn.Module) -> tuple[float, Tensor]:
    """The share of fine structure in the guesses at t = 300, and the guesses."""
    x_0, eps = _tests()
    t = same_t(300, len(x_0))
    guess = model(q_sample(SCHEDULE, x_0, t, eps), t)
    return float((fine(guess) * fine(x_0)).sum() / fine(x_0).square().sum()), guess


@torch.no_grad()
def _gains(model: nn.Module) -> list[tuple[float, float, float]]:
    """At each t: the squared error of the first answer, how much the second lowers it, and the
    standard error of that difference.
    """
    x_0, eps = _tests()
    rows = []
    for moment in BEHIND:
        t = same_t(moment, len(x_0))
        x_t = q_sample(SCHEDULE, x_0, t, eps)
        first = model(x_t, t).clamp(-1, 1)
        second = model(x_t, t, first).clamp(-1, 1)
        errors = [(guess - x_0).square().flatten(1).mean(1) for guess in (first, second)]
        lower = errors[0] - errors[1]  # (N,)
        error = lower.std() / len(lower) ** 0.5
        rows.append((float(errors[0].mean()), float(lower.mean()), float(error)))
    return rows


def _judged(
    denoise: Denoiser, name: str, tensors: dict[str, Tensor], solver: Callable = sample.ddim
) -> dict[str, Any]:
    """The distance of some samples of 20 steps; the first 16 are stored."""
    generator = torch.Generator().manual_seed(2)
    x_T = torch.randn(SAMPLES, 1, 28, 28, generator=generator)
    parts = [sample.final(solver(denoise, SCHEDULE, part, steps=20)) for part in x_T.split(250)]
    pixels = data.to_pixels(torch.cat(parts))
    tensors[f"samples.{name}"] = pixels[:16]
    report = evaluate.report(pixels)
    print(f"{name}: distance {report['feature_distance']:.2f} {report['interval']}", flush=True)
    return {key: report[key] for key in ("feature_distance", "interval")}


def _large(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Our U-Net and a transformer with as many parameters, each at the best of three rates."""
    found: dict[str, Any] = {}
    builders: dict[str, Callable[[], nn.Module]] = {
        "U-Net": partial(UNet, UNetConfig()),
        "DiT": DiT,
    }
    for name, build in builders.items():
        after_100 = [_loss(model) for rate in RATES for model in [_briefly(build, rate)]]
        best = RATES[after_100.index(min(after_100))]
        torch.manual_seed(0)  # the initial weights
        model, curve, seconds = build(), [], []
        config = replace(LARGE, lr=best)
        began = time.perf_counter()
        for step, averaged in _trained(model, config, LARGE_MOMENTS):
            seconds.append(round(time.perf_counter() - began, 1))
            curve.append(_loss(averaged))
            print(f"{name}, step {step}: loss {curve[-1]:.4f}, {seconds[-1]} s", flush=True)
        denoise = denoiser(averaged, SCHEDULE, target="v", clip=True)
        found[name] = {"rate": best, "after_100": after_100, "loss": curve, "seconds": seconds}
        found[name] |= _judged(denoise, name, tensors, dpm_solver)
    return found


def _briefly(build: Callable[[], nn.Module], rate: float) -> nn.Module:
    """A network after a few steps at this rate."""
    torch.manual_seed(0)  # the initial weights
    config = replace(LARGE, lr=rate, steps=BRIEFLY)
    ((_, averaged),) = _trained(build(), config, (BRIEFLY,))
    return averaged


@torch.no_grad()
def _loss(model: nn.Module) -> float:
    """The loss of v on the test pictures, with steps that are spread evenly over 1..T."""
    x_0, eps = _tests()
    t = torch.linspace(1, SCHEDULE.T, len(x_0)).round().long()
    parts = zip(x_0.split(100), t.split(100), eps.split(100), strict=True)
    losses = [train.training_step(model, SCHEDULE, *part, target="v") for part in parts]
    return float(torch.cat(losses).mean())
