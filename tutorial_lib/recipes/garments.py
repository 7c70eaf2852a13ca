"""The U-Net that ships, its samples' nearest training images, and a recorded training run."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, evaluate, sample, train
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.beyond.solvers import STEPS, dpm_solver
from tutorial_lib.course import plot
from tutorial_lib.data import load, to_pixels
from tutorial_lib.denoise import Denoiser, denoiser
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.recipes.sources import full, sha256
from tutorial_lib.schedule import named

# The settings behind the weights that ship.
# Uniform t: they serve for likelihoods, too (notebook 05b, section 5b.3).
SHIPPED = train.DiffusionConfig(
    steps=25_000, batch=128, momentum=0.95, warmup=100, ema=0.999, t_sampling="uniform"
)
SCHEDULE = named(SHIPPED.schedule, SHIPPED.T)
WEIGHTS = "fashion_mnist.safetensors"
ALSO = (10, 25)  # steps by which the weights are judged besides the usual ones
SEARCHED = 2000  # samples whose neighbours are looked for
REPLAYED = (1, 2, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 400, 500, 700, 1000, 1300, 1600, 2000)
MILESTONES = (100, 300, 1000, 3000, 8000, 16_000, SHIPPED.steps)


def unet(out: Path = Path("build/retrain"), count: int = 10_000) -> None:
    """Train the shipped U-Net on all 60,000 images, store it, and judge it.

    Resumes by itself when it was interrupted.  Also draws the milestones that notebook 05 shows,
    and looks for the training images nearest to the samples.  What ships, and is judged by `count`
    samples, are the averaged weights, as float16.
    """
    _train_unet(out)
    _draw_milestones(out)
    tensors, configuration = checkpoint.load(out)
    averaged = {name: t.half() for name, t in tensors.items() if name.startswith("ema.")}
    configuration["recipe"] = "python -m tutorial_lib.recipes unet"
    bits = bits_per_dimension(
        _denoise(restore(averaged, configuration)),
        SCHEDULE,
        full("test").pixels,
        generator=torch.Generator().manual_seed(0),
    )
    configuration["metrics"] = {"bits_per_dimension": bits}
    checkpoint.save(ASSETS / WEIGHTS, averaged, configuration)
    judged(count)


def judged(count: int = 10_000) -> None:
    """Judge the weights that ship, by samples of few steps and of more, and search for copies.

    The figures of the usual number of steps come first; the others stand beside them, by step.
    """
    tensors, configuration = checkpoint.load(ASSETS / WEIGHTS)
    model, by_steps = restore(tensors, configuration), {}
    for steps in (*ALSO, STEPS):
        samples = _draw(model, count, steps)
        found = evaluate.report(samples)
        by_steps[str(steps)] = {name: found[name] for name in ("feature_distance", "interval")}
        by_steps[str(steps)]["second"] = found["second"]
        print(steps, json.dumps(by_steps[str(steps)]), flush=True)
    bits = configuration["metrics"]["bits_per_dimension"]
    metrics = {"sampler": f"dpm++, {STEPS} steps, seed 0"} | found
    metrics |= {"by_steps": by_steps, "bits_per_dimension": bits}
    checkpoint.save(ASSETS / WEIGHTS, tensors, configuration | {"metrics": metrics})
    _search(samples[:SEARCHED], STEPS)


def _train_unet(out: Path) -> None:
    """Train into `out`, and keep ten samples at each of the MILESTONES."""
    images, shape = full("train"), UNetConfig()
    torch.manual_seed(SHIPPED.seed)  # the initial weights
    out.mkdir(parents=True, exist_ok=True)
    reports = train.train(
        UNet(shape),
        *train.algorithm_1(images, SHIPPED),
        SHIPPED,
        out=out,
        about={"model": asdict(shape), "data": images.source},
        resume=(out / train.FILE).exists(),
    )
    for last in reports:
        if last.step % 100 == 0:
            rate = last.images_per_second
            left = (last.config.steps - last.step) * last.config.batch / rate / 60
            print(
                f"step {last.step}: loss {last.loss:.4f}, {rate:.0f} images/s, {left:.0f} min left",
                flush=True,
            )
        if last.step in MILESTONES:
            np.save(out / f"step_{last.step:06d}.npy", _draw(last.ema_model, 10, STEPS).numpy())


def _draw_milestones(out: Path) -> None:
    """The picture of notebook 05: a row of samples for each milestone."""
    paths = sorted(out.glob("step_*.npy"))
    figure = plot.strip(
        [torch.from_numpy(np.load(path)) for path in paths],
        [""] * 10,
        [f"{int(path.stem[5:]):,}" for path in paths],
        "Samples of the averaged weights, by training step",
    )
    figure.savefig("notebooks/figures/training_milestones.png", dpi=90)


def nearest(count: int = SEARCHED, steps: int = STEPS) -> None:
    """Draw the samples by which the shipped weights were judged, and search for copies."""
    _search(_draw(restore(*checkpoint.load(ASSETS / WEIGHTS)), count, steps), steps)


def _search(samples: Tensor, steps: int, first: int = 6, closest: int = 4) -> None:
    """Store how far uint8 samples (N, 1, 28, 28) are from the training images nearest to them.

    By pixels and by features, and beside them the same for the embedded test images, which are
    certainly no copies.  Of the `first` samples, and of the `closest` (by pixels) among the others,
    it stores the pictures, and the indices and pictures of the three nearest.
    """
    training, test = full("train"), load("embedded", "test")
    model = evaluate.load_classifier()

    def in_both_spaces(pixels: Tensor) -> dict[str, Tensor]:
        return {"pixels": pixels, "features": evaluate.predictions(model, pixels)[0]}

    known = in_both_spaces(training.pixels)
    tensors: dict[str, Tensor] = {}
    for name, pixels in (("test", test.pixels), ("samples", samples)):
        points = in_both_spaces(pixels)
        # indices and distances in each space, (N, 3)
        found = {space: evaluate.nearest(points[space], known[space], 3) for space in known}
        tensors |= {
            f"{name}.{space}": distances[:, 0].float() for space, (_, distances) in found.items()
        }
    order = found["pixels"][1][:, 0].argsort()
    shown = torch.cat([torch.arange(first), order[order >= first][:closest]])
    tensors |= {"shown.samples": samples[shown], "shown.numbers": shown}
    for space, (indices, distances) in found.items():
        tensors[f"shown.{space}.indices"] = indices[shown]
        tensors[f"shown.{space}.distances"] = distances[shown].float()
        tensors[f"shown.{space}.images"] = training.pixels[indices[shown]]  # (shown, 3, 1, 28, 28)
    configuration = {
        "what": f"training images nearest to {len(samples):,} samples, "
        f"and to {len(test):,} test images",
        "recipe": "python -m tutorial_lib.recipes nearest",
        "data": training.source,
        "sampler": f"dpm++, {steps} steps, seed 0",
        "weights_sha256": sha256(ASSETS / WEIGHTS),
    }
    checkpoint.save(ASSETS / "nearest.safetensors", tensors, configuration)


def replay(count: int = 12) -> None:
    """Record a short training run for notebook 05: all losses, and at some steps loss and samples.

    At each of the steps REPLAYED, for the weights as they are and for their average: the loss by t
    on fixed images, and samples; see `course.widgets.n05.recorded` for the shapes.
    """
    torch.manual_seed(SHIPPED.seed)  # the initial weights
    model = UNet(UNetConfig())
    config = replace(SHIPPED, steps=REPLAYED[-1], ema=0.998, report_every=1)
    fixed = train.draw(load("embedded", "test"), 1, replace(config, batch=1000, seed=1))
    recorded: dict[str, list] = {"steps": [], "losses": [], "by_t": [], "samples": []}
    learning = train.algorithm_1(full("train"), config)
    for last in train.train(model, *learning, config, device="cpu"):
        recorded["losses"] += last.losses
        if last.step in REPLAYED:
            networks = (model, last.ema_model)
            recorded["steps"].append(last.step)
            recorded["by_t"].append([_loss_by_t(network, fixed) for network in networks])
            samples = [_draw(network, count, STEPS) for network in networks]
            recorded["samples"].append(torch.stack(samples))
            print(f"step {last.step}: loss {last.loss:.4f}", flush=True)
    tensors = {name: torch.tensor(recorded[name]) for name in ("steps", "losses", "by_t")}
    tensors["samples"] = torch.stack(recorded["samples"])
    recipe = "python -m tutorial_lib.recipes replay"
    about = {"recipe": recipe, "train": asdict(config)}
    checkpoint.save(ASSETS / "replay.safetensors", tensors, about)


@torch.no_grad()
def _loss_by_t(network: nn.Module, fixed: train.Drawn) -> list[float]:
    """The mean loss on fixed images in each tenth of 1..T."""
    x_0, t, eps, *_ = fixed
    loss = train.training_step(network, SCHEDULE, x_0, t, eps, target=SHIPPED.target)
    return [float(loss[(t - 1) // 100 == k].mean()) for k in range(10)]


def _denoise(model: nn.Module) -> Denoiser:
    return denoiser(model, SCHEDULE, target=SHIPPED.target, clip=True)


def _draw(model: nn.Module, count: int, steps: int) -> Tensor:
    """`count` samples, (count, 1, 28, 28) uint8, always from the same noise."""
    noise = sample.start(count, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    runs = (dpm_solver(_denoise(model), SCHEDULE, x_T, steps=steps) for x_T in noise.split(250))
    return torch.cat([to_pixels(sample.final(run)) for run in runs])
