"""The milder ways of guidance, measured with the networks that ship (notebook 10)."""

import json
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tutorial_lib import checkpoint, evaluate, sample
from tutorial_lib.beyond import guidance, milder
from tutorial_lib.beyond.solvers import STEPS, dpm_solver
from tutorial_lib.config import schedule_of
from tutorial_lib.data import CLASSES, load, to_model, to_pixels
from tutorial_lib.denoise import Denoiser, denoiser
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.unet import restore
from tutorial_lib.schedule import NoiseSchedule

STRENGTHS = (1.5, 2.0, 3.0)
INTERVAL = (150, 700)  # steps in which guidance acts
SHARE = 0.7  # of rescaling
STILL = 0.99  # of T, from where on CFG-Zero* rests
KEPT = 10  # samples of each way that are stored, one a class

Way = Callable[[Denoiser, Denoiser, NoiseSchedule, Tensor, float], Denoiser]


def _guided(asking: Denoiser, worse: Denoiser, schedule: NoiseSchedule, y: Tensor, w: float):
    return guidance.guided(asking, y, w, clip=True)


def _limited(asking: Denoiser, worse: Denoiser, schedule: NoiseSchedule, y: Tensor, w: float):
    return milder.guided_within(asking, y, w, *INTERVAL, clip=True)


def _rescaled(asking: Denoiser, worse: Denoiser, schedule: NoiseSchedule, y: Tensor, w: float):
    return milder.rescaled(asking, y, w, share=SHARE, clip=True)


def _zero_star(asking: Denoiser, worse: Denoiser, schedule: NoiseSchedule, y: Tensor, w: float):
    still = round(STILL * schedule.T)
    return milder.zero_star(asking, schedule, y, w, still=still, clip=True)


def _autoguided(asking: Denoiser, worse: Denoiser, schedule: NoiseSchedule, y: Tensor, w: float):
    return guidance.autoguided(partial(asking, y=y), partial(worse, y=y), w, clip=True)


WAYS: dict[str, Way] = {
    "plain guidance": _guided,
    "in an interval": _limited,
    "rescaled": _rescaled,
    "CFG-Zero*": _zero_star,
    "autoguidance": _autoguided,
}


def ways(count: int = 2000, size: int = 250) -> None:
    """Draw `count` pictures in each way with each strength, from the same noise, and judge them.

    Stored are, by way and strength ("plain guidance 2.0"): both distances, precision and recall,
    the share of wishes that are seen, and the contrast, beside that of w = 1; and a few samples.
    """
    device = get_device()
    _, about = checkpoint.load("labelled")
    schedule = schedule_of(about)
    asking, worse = (
        denoiser(restore(*checkpoint.load(name)).to(device), schedule, target="v", clip=False)
        for name in ("labelled", "weak")
    )
    generator = torch.Generator().manual_seed(0)
    noise = sample.start(count, (1, 28, 28), generator=generator)
    y = torch.arange(count) % len(CLASSES)
    real = evaluate.predictions(evaluate.load_classifier(), load("embedded").pixels[:count])[0]
    found, stored = {}, {}
    asked = [("plain guidance", 1.0)] + [(name, w) for name in WAYS for w in STRENGTHS]
    for name, w in asked:
        parts = []
        for x_T, labels in zip(noise.split(size), y.split(size), strict=True):
            walk = WAYS[name](asking, worse, schedule, labels, w)
            x_0 = sample.final(dpm_solver(walk, schedule, x_T.to(device), steps=STEPS))
            parts.append(to_pixels(x_0).cpu())
        key, pixels = f"{name} {w}", torch.cat(parts)
        stored[key], found[key] = pixels[:KEPT], _judged(pixels, y, real)
        print(key, json.dumps(found[key]), flush=True)
    configuration = {
        "what": f"{count:,} pictures in each way of guidance, judged",
        "recipe": "python -m tutorial_lib.recipes ways",
        "sampler": f"dpm++, {STEPS} steps",
        "interval": INTERVAL,
        "share": SHARE,
        "still": STILL,
        "found": found,
    }
    checkpoint.save(ASSETS / "ways.safetensors", stored, configuration)


def _judged(pixels: Tensor, y: Tensor, real: Tensor) -> dict[str, float]:
    """What the judges say of uint8 samples (N, 1, 28, 28) of the labels y.

    real: features of real images, as many.
    """
    report = evaluate.report(pixels)
    features, _ = evaluate.predictions(evaluate.load_classifier(), pixels)
    precision, recall = evaluate.precision_recall(features, real)
    return {
        "first": report["feature_distance"],
        "second": report["second"]["feature_distance"],
        "precision": precision,
        "recall": recall,
        "obedience": evaluate.obedience(pixels, y)["second_classifier"],
        "contrast": float(to_model(pixels).std()),
    }
