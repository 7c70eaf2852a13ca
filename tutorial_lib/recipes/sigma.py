"""The variance that is learned: the shipped U-Net, trained on a little with twice the channels."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, evaluate, sample, train
from tutorial_lib.beyond.variance import (
    VARIANCES,
    Sure,
    bits_of_steps,
    hybrid_step,
    learned_ddpm,
    sure,
    widened,
)
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.data import to_pixels
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.unet import restore
from tutorial_lib.recipes.garments import SCHEDULE, WEIGHTS
from tutorial_lib.recipes.sources import full

CONFIG = DiffusionConfig(
    steps=1500, batch=64, lr=5e-4, lr_muon=2e-3, momentum=0.95, warmup=100, ema=0.999,
    t_sampling="uniform", precision="no", save_every=500, report_every=50,
)  # fmt: skip
MEASURED = {25: 500, 1000: 2000}  # steps of the chain -> test images for its bound
DRAWS = 8  # of the steps of a long chain, an image
DRAWN, BY = 2000, 25  # samples that are judged; steps by which they are drawn


@dataclass(frozen=True)
class HybridCost:
    """What a step costs; what is drawn is as for Algorithm 1."""

    target: str = CONFIG.target

    def __call__(
        self, network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor
    ) -> Tensor:
        """The hybrid loss of each item, (B,)."""
        return hybrid_step(network, SCHEDULE, x_0, t, eps, target=self.target)


def variance(out: Path = Path("build/variance")) -> None:
    """Train the shipped U-Net on with a learned variance; store it, and measure what it brings.

    Resumes by itself when it was interrupted.  Measured is the same network with the learned
    variance and with both fixed ones: bits by chains of few and of many steps, and samples.
    """
    images, draw = full("train"), train.algorithm_1(full("train"), CONFIG)[0]
    trained = restore(*checkpoint.load(ASSETS / WEIGHTS))
    reports = train.train(
        widened(trained),
        draw,
        HybridCost(),
        CONFIG,
        out=out,
        about={"model": asdict(trained.config), "data": images.source},
        resume=(out / train.FILE).exists(),
    )
    for last in reports:
        if last.step % 100 == 0:
            rate = f"{last.images_per_second:.0f} images/s"
            print(f"step {last.step}: {last.loss:.4f}, {rate}", flush=True)
    tensors, configuration = checkpoint.load(out)
    averaged = {name: t.half() for name, t in checkpoint.part(tensors, "ema").items()}
    network = widened(trained)
    network.load_state_dict({name: value.float() for name, value in averaged.items()})
    configuration["recipe"] = "python -m tutorial_lib.recipes variance"
    configuration["metrics"] = _measured(network)
    stored = checkpoint.prefixed("wide", averaged)
    checkpoint.save(ASSETS / "fashion_mnist_variance.safetensors", stored, configuration)


def _measured(network: nn.Module) -> dict[str, dict]:
    """Bits by steps and variance, and what the judges say of samples by variance."""
    device = get_device()
    network = network.eval().to(device)
    estimate = sure(network, SCHEDULE, target=CONFIG.target, clip=True)

    def here(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x_0_hat, share = estimate(x_t.to(device), t)
        return x_0_hat.cpu(), share.cpu()

    test = full("test").pixels
    found: dict[str, dict] = {"bits": {}, "samples": {}}
    for kind in VARIANCES:
        for steps, count in MEASURED.items():
            draws = DRAWS if steps > BY else steps
            found["bits"][f"{kind}, {steps}"] = bits_of_steps(
                here, SCHEDULE, test[:count], generator=torch.Generator().manual_seed(0),
                steps=steps, variance=kind, draws=draws,
            )  # fmt: skip
            print(kind, steps, json.dumps(found["bits"][f"{kind}, {steps}"]), flush=True)
        report = evaluate.report(_draw(here, kind))
        found["samples"][kind] = {name: report[name] for name in ("feature_distance", "interval")}
        print(kind, json.dumps(found["samples"][kind]), flush=True)
    return found


def _draw(estimate: Sure, kind: str) -> Tensor:
    """Samples of few steps, (DRAWN, 1, 28, 28) uint8, always from the same noise."""
    x_T = sample.start(DRAWN, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    runs = (
        learned_ddpm(estimate, SCHEDULE, part, generator=generator, steps=BY, variance=kind)
        for part in x_T.split(250)
    )
    return torch.cat([to_pixels(sample.final(run)) for run in runs])
