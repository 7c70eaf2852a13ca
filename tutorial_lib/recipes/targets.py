"""One small network, one data set, equal steps: predicting eps, v, or the velocity of a flow."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, evaluate, sample, train
from tutorial_lib.beyond.flow import as_denoiser, as_schedule, flow_loss
from tutorial_lib.beyond.solvers import SAMPLERS
from tutorial_lib.data import load, to_pixels
from tutorial_lib.denoise import Denoiser, Network, denoiser
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.recipes.sources import full
from tutorial_lib.schedule import NoiseSchedule, named

CONFIG = train.DiffusionConfig(steps=3000, report_every=100)
SHAPE = UNetConfig(widths=(32, 64))
LEARNED = ("eps", "v", "flow")  # what each of the three networks predicts
SOLVERS = ("ddim", "dpm++")  # even steps of first order; placed steps of second order
CALLS = (1, 2, 5, 10, 50)  # of the network, for each sample
SEEDS = (0, 1)  # of the noise from which samples are drawn, one set each
SHOWN = 8  # samples of each set that are stored


def flow(out: Path = Path("build/retrain_flow"), count: int = 500) -> None:
    """Train the three networks, draw by few calls and by many, and record what two judges say.

    Each network begins with the same weights and sees the same images, steps t and noise; a run
    that was interrupted is resumed.  Stored are the `seconds` a step, (networks,); the `distances`
    of `count` samples from real images, (networks, solvers, calls, seeds, judges), and the `floor`,
    that of as many test images, (judges,); and of the first seed the first `samples`, (networks,
    solvers, calls, SHOWN, 1, 28, 28).
    """
    ways = list(product(LEARNED, SOLVERS, CALLS, SEEDS))
    models = {learned: trained(learned, out / learned) for learned in LEARNED}
    distances, samples = [], []
    for learned, solver, calls, seed in ways:
        pixels = _drawn(learned, models[learned][0], solver, calls, seed, count)
        distances.append(distances_of(pixels))
        if seed == SEEDS[0]:
            samples.append(pixels[:SHOWN])
        print(learned, solver, calls, seed, distances[-1].tolist(), flush=True)
    kinds = (len(LEARNED), len(SOLVERS), len(CALLS))
    tensors = {
        "seconds": torch.tensor([seconds for _, seconds in models.values()]),
        "distances": torch.stack(distances).view(*kinds, len(SEEDS), len(evaluate.JUDGES)),
        "floor": distances_of(load("embedded", "test").pixels[:count]),
        "samples": torch.stack(samples).unflatten(0, kinds),
    }
    about = {
        "what": "three small networks side by side: eps, v and the velocity of a flow",
        "recipe": "python -m tutorial_lib.recipes flow",
        "learned": LEARNED,
        "solvers": SOLVERS,
        "calls": CALLS,
        "count": count,
        "train": asdict(CONFIG),
        "model": asdict(SHAPE),
        "data": full("train").source,
    }
    checkpoint.save(ASSETS / "flow.safetensors", tensors, about)


def trained(learned: str, out: Path) -> tuple[nn.Module, float]:
    """Train one of the three, or go on with it; the averaged network, and seconds a step."""
    torch.manual_seed(CONFIG.seed)  # the initial weights, the same for all
    config = CONFIG if learned == "flow" else replace(CONFIG, target=learned)
    draw, loss = train.algorithm_1(full("train"), config)
    reports = train.train(
        UNet(SHAPE),
        draw,
        _flow_cost if learned == "flow" else loss,
        config,
        out=out,
        about={"model": asdict(SHAPE)},
        resume=(out / train.FILE).exists(),
    )
    for last in reports:
        print(f"{learned}, step {last.step}: loss {last.loss:.4f}", flush=True)
    spent = json.loads((out / "record.json").read_text(encoding="utf-8"))
    return restore(*checkpoint.load(out)), spent["seconds"] / config.steps


def _flow_cost(
    network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor
) -> Tensor:
    """What a step of the flow costs, (B,); what is drawn is the same as for the others."""
    return flow_loss(_timed(network), x_0, (t / CONFIG.T).to(x_0), eps)


def _timed(network: Network) -> Network:
    """A U-Net that takes a time in [0, 1]: its embedding is made for steps up to T."""
    return lambda x, time: network(x, CONFIG.T * time).to(x.dtype)


def prepared(learned: str, model: nn.Module) -> tuple[Denoiser, NoiseSchedule]:
    """One of the three networks as a denoiser, and the schedule that it belongs to."""
    if learned == "flow":
        return as_denoiser(_timed(model), CONFIG.T, clip=True), as_schedule(CONFIG.T)
    schedule = named(CONFIG.schedule, CONFIG.T)
    return denoiser(model, schedule, target=learned, clip=True), schedule


def _drawn(
    learned: str, model: nn.Module, solver: str, calls: int, seed: int, count: int
) -> Tensor:
    """`count` samples by so many calls, (count, 1, 28, 28) uint8."""
    denoise, schedule = prepared(learned, model)

    def walks() -> Iterator[Tensor]:
        noise = sample.start(count, (1, 28, 28), generator=torch.Generator().manual_seed(seed))
        for x_T in noise.split(250):
            yield sample.final(SAMPLERS[solver](denoise, schedule, x_T, steps=calls))

    return to_pixels(torch.cat(list(walks())))


def distances_of(pixels: Tensor) -> Tensor:
    """The Frechet distance of uint8 images from real ones, as each judge sees it, (judges,)."""
    found = []
    for name, (_, reference) in evaluate.JUDGES.items():
        shipped, _ = checkpoint.load(reference)
        features, _ = evaluate.predictions(evaluate.load_classifier(name), pixels)
        known = shipped["train.mean"], shipped["train.cov"]
        found.append(evaluate.frechet_distance(*evaluate.moments(features), *known))
    return torch.tensor(found, dtype=torch.float64)
