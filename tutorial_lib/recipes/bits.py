"""How few bits: the shipped weights at finer ends, and a network that is trained for the bound."""

import json
import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, train
from tutorial_lib.beyond.exact import middle_nats
from tutorial_lib.beyond.fine import (
    SCHEDULE,
    FineConfig,
    FineUNet,
    fine_decoder,
    fine_denoiser,
    variational_step,
)
from tutorial_lib.beyond.variational import (
    HIGH,
    LOW,
    Continuous,
    Decoder,
    bits,
    continuous,
    fitted_decoder,
    spread,
)
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.data import Images, to_model
from tutorial_lib.engine import order
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.unet import restore
from tutorial_lib.recipes.garments import WEIGHTS
from tutorial_lib.recipes.sources import full

HELD_OUT = 1000  # of the last training images, by which variants are compared
MEASURED = 10_000  # test images
ENDS, COMPARED = (-9.0, LOW, -11.0), 2000  # clean ends of the shipped weights; images for each
EXACT = {"count": 64, "steps": 160}  # images whose density is computed by the walk


@dataclass(frozen=True)
class Plan:
    """A network for likelihoods and how it is trained.

    begin: whether it begins as the shipped one, which has to have its patch, widths and blocks.
    decoded: share of a batch that is asked for the pixels at the clean end.
    """

    shape: FineConfig = field(default_factory=FineConfig)
    begin: bool = True
    low: float = LOW
    high: float = HIGH
    decoded: float = 0.125
    train: DiffusionConfig = field(
        default=DiffusionConfig(
            steps=1500, batch=64, lr=5e-4, lr_muon=5e-3, momentum=0.95, warmup=100, ema=0.998,
            t_sampling="uniform", precision="no", save_every=250, report_every=50,
        )
    )  # fmt: skip


PLAN = Plan()
LARGER = FineConfig(widths=(64, 128), blocks=2)
# Worth ten minutes each before the long run: one change at a time.
TRIED: dict[str, Plan] = {
    "plain": PLAN,
    "bf16": replace(PLAN, train=replace(PLAN.train, precision="auto")),
    "no edges": replace(PLAN, shape=FineConfig(edges=False)),
    "waves, to -13.3": replace(PLAN, shape=FineConfig(frequencies=(255.0,)), low=-13.3),
    "from -9": replace(PLAN, low=-9.0),
    "quicker rate": replace(PLAN, train=replace(PLAN.train, lr=2e-3, lr_muon=0.02)),
    "slower rate": replace(PLAN, train=replace(PLAN.train, lr=2e-4, lr_muon=2e-3)),
    "from scratch": replace(PLAN, begin=False, train=replace(PLAN.train, lr=2e-3, lr_muon=0.02)),
    "larger, from scratch": replace(
        PLAN, shape=LARGER, begin=False, train=replace(PLAN.train, lr=2e-3, lr_muon=0.02)
    ),
}


def drawn(images: Images, step: int, config: DiffusionConfig) -> tuple[Tensor, Tensor, Tensor]:
    """What step number `step` sees: images, noise, and places in [0, 1) that are spread evenly."""
    x_0, _, eps, *_ = train.draw(images, step, config)
    place = spread(len(x_0), order.generator_of(config.seed + 1, step))
    return x_0, eps, place.float()


def learn(plan: Plan, images: Images, out: Path | None, minutes: float | None = None) -> nn.Module:
    """Train by a plan; resumes what `out` holds.  Returns the averaged network."""
    torch.manual_seed(plan.train.seed)  # the initial weights
    network = FineUNet(plan.shape)
    if plan.begin:
        network.begin_as(restore(*checkpoint.load(ASSETS / WEIGHTS)))
    ends = {"low": plan.low, "high": plan.high, "decoded": plan.decoded}
    reports = train.train(
        network,
        partial(drawn, images, config=plan.train),
        partial(variational_step, low=plan.low, high=plan.high, decoded=plan.decoded),
        plan.train,
        out=out,
        about={"data": images.source, "bits": ends | {"begin": plan.begin}},
        resume=out is not None and (out / train.FILE).exists(),
        minutes=minutes,
    )
    averaged: nn.Module = network  # of a run that is finished already nothing is reported
    for last in reports:
        averaged = last.ema_model
        if last.step % 500 == 0 or last.step == last.config.steps:
            rate = f"{last.images_per_second:.0f} images/s"
            print(f"step {last.step}: {last.loss:.4f} bits, {rate}", flush=True)
    return averaged


def measured(
    network: nn.Module, pixels: Tensor, *, low: float, high: float, draws: int
) -> dict[str, float]:
    """The bound of a `FineUNet` on images, always with the same noise; on the best device."""
    network = network.eval().to(get_device())
    denoise = _here(fine_denoiser(network))
    return bits(
        denoise,
        pixels,
        generator=torch.Generator().manual_seed(0),
        low=low,
        high=high,
        decoder=_here(fine_decoder(network, low)),
        draws=draws,
    )


def _here(function: Any) -> Any:
    """The same function for tensors on the CPU, computed on the best device."""
    device = get_device()

    @torch.no_grad()
    def on_device(*given: Tensor) -> Tensor:
        return function(*(one.to(device) for one in given)).cpu()

    return on_device


def bits_tried(minutes: float = 10) -> None:
    """Train each of TRIED for some minutes on all but the last training images; print bits there.

    What has been measured is kept in build/bits_tried.json; those that are there are left out.
    """
    path = Path("build/bits_tried.json")
    found = json.loads(path.read_text()) if path.exists() else {}
    images = full("train")
    rest = images.pixels[:-HELD_OUT], images.labels[:-HELD_OUT]
    for name, plan in TRIED.items():
        if name in found:
            continue
        network = learn(plan, Images(*rest, images.source), None, minutes)
        ends = {"low": plan.low, "high": plan.high}
        found[name] = measured(network, images.pixels[-HELD_OUT:], draws=8, **ends)
        print(name, found[name], flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1))


def fine_bits(out: Path = Path("build/bits")) -> None:
    """Train the network for likelihoods by PLAN on all 60,000 images; store and measure it.

    Resumes by itself when it was interrupted.  What ships are the averaged weights, as float16.
    """
    images = full("train")
    learn(PLAN, images, out)
    tensors, configuration = checkpoint.load(out)
    averaged = checkpoint.part(tensors, "ema")
    halved = {name: value.half() for name, value in averaged.items()}
    network = FineUNet(PLAN.shape)
    network.load_state_dict({name: value.float() for name, value in halved.items()})
    ends = {"low": PLAN.low, "high": PLAN.high}
    test = measured(network, full("test").pixels[:MEASURED], draws=8, **ends)
    print(test, flush=True)
    configuration["recipe"] = "python -m tutorial_lib.recipes fine_bits"
    configuration["metrics"] = {"bits_per_dimension": test}
    stored = checkpoint.prefixed("fine", halved)
    checkpoint.save(ASSETS / "fashion_mnist_bits.safetensors", stored, configuration)


def shipped_bits() -> None:
    """Measure the weights that ship: the bound in continuous time, and the exact density.

    Stored are the bits for three clean ends, on some test images, and for one of them on all; and
    the bits of a few images by the probability-flow ODE, one by one, and the mean of their bound.
    """
    model = restore(*checkpoint.load(ASSETS / WEIGHTS)).to(get_device())
    denoise = _here(continuous(model, SCHEDULE, target="v", clip=True))
    test, about = full("test").pixels[:MEASURED], {}
    ends = [(f"{low:g}", low, COMPARED) for low in ENDS]
    for name, low, count in [*ends, ("all", LOW, MEASURED)]:
        about[name] = bits(
            denoise, test[:count], generator=torch.Generator().manual_seed(0), low=low, high=HIGH,
            decoder=_asking(denoise, low), draws=4,
        )  # fmt: skip
        print(name, about[name], flush=True)
    tensors = _exact(continuous(model, SCHEDULE, target="v", clip=True), test[: EXACT["count"]])
    bound = bits(
        denoise, test[: EXACT["count"]], generator=torch.Generator().manual_seed(1), low=LOW,
        high=HIGH, decoder=_asking(denoise, LOW), draws=64,
    )  # fmt: skip
    configuration = {
        "what": "bits a dimension of the shipped weights on test images, in continuous time",
        "recipe": "python -m tutorial_lib.recipes shipped_bits",
        "continuous": about,
        "exact": EXACT | {"low": LOW, "high": HIGH, "bound": bound},
    }
    checkpoint.save(ASSETS / "bits.safetensors", tensors, configuration)


def _asking(denoise: Continuous, low: float) -> Decoder:
    """The decoder that asks the network, fitted on training images."""
    x_0 = to_model(full("train").pixels[:500])
    return fitted_decoder(denoise, x_0, low, torch.Generator().manual_seed(2))


def _exact(denoise: Continuous, pixels: Tensor) -> dict[str, Tensor]:
    """`middle`: what z costs by the probability-flow ODE, less what its noise gives back.

    In bits a dimension, of each image, (N,); see `middle_nats`.
    """
    generator, found = torch.Generator().manual_seed(3), []
    for x_0 in to_model(pixels).split(64):
        nats, _ = middle_nats(
            denoise, x_0, low=LOW, high=HIGH, steps=EXACT["steps"], generator=generator,
            device=get_device(),
        )  # fmt: skip
        found.append(nats / (x_0[0].numel() * math.log(2)))
        print(f"exact: {float(torch.cat(found).mean()):.4f} bits so far", flush=True)
    return {"middle": torch.cat(found)}
