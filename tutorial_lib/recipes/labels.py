"""The network with labels, a worse one beside it, and a classifier of noisy images."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import checkpoint, evaluate, sample, train
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.beyond.solvers import STEPS, dpm_solver
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.data import CLASSES, Images, load, to_pixels
from tutorial_lib.denoise import denoiser
from tutorial_lib.diffusion import q_sample
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.recipes.garments import SHIPPED, WEIGHTS
from tutorial_lib.recipes.sources import full, sha256
from tutorial_lib.schedule import NoiseSchedule, named, same_t

# It begins as the unconditional weights, and learns what the labels add; 15 % of them are dropped.
LABELLED = replace(SHIPPED, steps=10_400, labels=True, label_drop=0.15, t_sampling="logit-normal")
SHAPE = UNetConfig(labels=len(CLASSES))
STRENGTHS = (1.0, 1.3, 1.6, 2.0)  # of guidance, by which the weights are judged
# For autoguidance: a quarter of the parameters, and a thirtieth of the pictures seen.
WEAK = replace(LABELLED, steps=2500, batch=64, ema=0.998)
WEAK_SHAPE = UNetConfig(widths=(24, 64), labels=len(CLASSES))
# No U-Net, but drawn and trained as one: steps, images and noise come from `train.draw`.
CLASSIFIER = DiffusionConfig(
    steps=1200, batch=128, optimizer="adam", lr=3e-3, warmup=50, ema=0.995,
    t_sampling="uniform", save_every=500,
)  # fmt: skip
CLASSIFIER_SHAPE = NoisyClassifierConfig()
TENTHS = 10  # parts of 1..T for which the accuracy is noted


def labelled(out: Path = Path("build/labelled"), count: int = 10_000) -> None:
    """Train the class-conditional U-Net on all 60,000 images, store it, and judge it.

    It begins as the unconditional weights that ship, and resumes when it was interrupted.  What
    ships, and is judged by `count` samples at each of the STRENGTHS, are the averaged weights, as
    float16.
    """
    _train(_told, SHAPE, LABELLED, out)
    tensors, configuration = _averaged(out, "labelled")
    configuration["from"] = {"weights": WEIGHTS, "sha256": sha256(ASSETS / WEIGHTS)}
    device = get_device()
    model = restore(tensors, configuration).to(device)
    without = denoiser(model, _schedule(), target="v", clip=True)
    bits = bits_per_dimension(
        without,
        _schedule(),
        full("test").pixels,
        generator=torch.Generator().manual_seed(0),
        device=device,
    )
    configuration["metrics"] = {"bits_per_dimension": bits}
    checkpoint.save(ASSETS / "labelled.safetensors", tensors, configuration)
    labelled_judged(count)


def labelled_judged(count: int = 10_000) -> None:
    """Judge the weights that ship by samples of random labels, the same labels at each strength.

    The figures of the plain conditional model, w = 1, come first; `by_w` has those of all.
    """
    tensors, configuration = checkpoint.load(ASSETS / "labelled.safetensors")
    model = restore(tensors, configuration).to(get_device())
    real = _real_features(count)
    found: dict[str, Any] = {}
    by_w: dict[str, dict[str, Any]] = {}
    for w in STRENGTHS:
        y, samples = drawn(model, count, w)
        report = evaluate.report(samples)
        report |= {"obedience": evaluate.obedience(samples, y), "count": count}
        features, _ = evaluate.predictions(evaluate.load_classifier(), samples)
        pair = evaluate.precision_recall(features[: len(real)], real)
        report["precision"], report["recall"] = pair
        found = found or report
        by_w[str(w)] = {name: report[name] for name in REPORTED}
        print(w, json.dumps(by_w[str(w)]), flush=True)
    metrics = {"sampler": f"dpm++, {STEPS} steps, seed 0, labels at random, w = 1"} | found
    metrics |= {"by_w": by_w}
    if bits := configuration.get("metrics", {}).get("bits_per_dimension"):
        metrics["bits_per_dimension"] = bits
    checkpoint.save(ASSETS / "labelled.safetensors", tensors, configuration | {"metrics": metrics})


REPORTED = ("feature_distance", "interval", "second", "obedience", "precision", "recall")


def drawn(model: nn.Module, count: int, w: float, size: int = 250) -> tuple[Tensor, Tensor]:
    """Random labels (count,), and a sample of each by the usual steps, (count, 1, 28, 28) uint8.

    Noise and labels are the same at each w.
    """
    generator = torch.Generator().manual_seed(0)
    noise = sample.start(count, (1, 28, 28), generator=generator)
    y = torch.randint(len(CLASSES), (count,), generator=generator)
    device = next(model.parameters()).device
    denoise = denoiser(model, _schedule(), target="v", clip=False)
    samples = []
    for x_T, asked in zip(noise.split(size), y.split(size), strict=True):
        walk = guided(denoise, asked, w, clip=True)
        frames = dpm_solver(walk, _schedule(), x_T.to(device), steps=STEPS)
        samples.append(to_pixels(sample.final(frames)).cpu())
    return y, torch.cat(samples)


def weak(out: Path = Path("build/weak")) -> None:
    """Train the worse version that autoguidance leads away from, and store it.

    Smaller, and stopped early: its mistakes should be those of the labelled network, only larger.
    """
    _train(UNet, WEAK_SHAPE, WEAK, out)
    tensors, configuration = _averaged(out, "weak")
    checkpoint.save(ASSETS / "weak.safetensors", tensors, configuration)


def noisy_classifier(out: Path = Path("build/noisy_classifier")) -> None:
    """Train the classifier of noisy images, in some three minutes, and store its accuracy by t."""
    _train(NoisyClassifier, CLASSIFIER_SHAPE, CLASSIFIER, out, learn=_classification)
    tensors, configuration = _averaged(out, "noisy_classifier")
    model = NoisyClassifier(CLASSIFIER_SHAPE)
    model.load_state_dict(checkpoint.part(tensors, "ema"))
    accuracy = accuracy_by_t(model.eval(), load("embedded", "test"))
    configuration["metrics"] = {"accuracy_by_tenth_of_t": accuracy}
    print("accuracy by tenth of t", [f"{one:.2f}" for one in accuracy], flush=True)
    checkpoint.save(ASSETS / "noisy_classifier.safetensors", tensors, configuration)


def _classification(images: Images, config: DiffusionConfig) -> tuple[train.Draw, train.Loss]:
    """What a step of the classifier draws, that of Algorithm 1, and what it costs."""
    schedule, (draw, _) = named(config.schedule, config.T), train.algorithm_1(images, config)

    def loss(
        network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor
    ) -> Tensor:
        x_t = q_sample(schedule, x_0, t, eps)
        return F.cross_entropy(network(x_t, t).float(), y, reduction="none")

    return draw, loss


@torch.no_grad()
def accuracy_by_t(model: nn.Module, images: Images) -> list[float]:
    """The share of noised images whose class is found, at the middle of each tenth of 1..T."""
    drawn_once = train.draw(images, 1, replace(CLASSIFIER, batch=len(images)))
    x_0, _, eps, y, _ = drawn_once
    T, found = CLASSIFIER.T, []
    for k in range(TENTHS):
        t = same_t((2 * k + 1) * T // (2 * TENTHS), len(x_0))
        x_t = q_sample(named(CLASSIFIER.schedule, T), x_0, t, eps)
        parts = zip(x_t.split(500), t.split(500), strict=True)
        classes = torch.cat([model(*part).argmax(1) for part in parts])
        found.append(float((classes == y).double().mean()))
    return found


def _train(
    build: Callable[[Any], nn.Module],
    shape: Any,
    config: DiffusionConfig,
    out: Path,
    learn: Callable = train.algorithm_1,
) -> None:
    """Train into `out`, or go on there."""
    images = full("train")
    draw, loss = learn(images, config)
    torch.manual_seed(config.seed)  # the initial weights
    reports = train.train(
        build(shape),
        draw,
        loss,
        config,
        out=out,
        about={"model": asdict(shape), "data": images.source},
        resume=(out / train.FILE).exists(),
    )
    for last in reports:
        if last.step % 100 == 0:
            rate = last.images_per_second
            left = (last.config.steps - last.step) * last.config.batch / rate / 60
            said = f"step {last.step}: loss {last.loss:.4f}"
            print(f"{said}, {rate:.0f} images/s, {left:.0f} min left", flush=True)


def _told(shape: UNetConfig) -> UNet:
    """The network of the unconditional weights, with new embeddings of labels, and 0 for nobody."""
    network = UNet(shape)
    tensors, _ = checkpoint.load(ASSETS / WEIGHTS)
    known = {name: tensor.float() for name, tensor in checkpoint.part(tensors, "ema").items()}
    network.load_state_dict(network.state_dict() | known)
    nn.init.zeros_(network.of_label.weight[0])
    return network


def _averaged(out: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The averaged weights of a run as float16, and its configuration with its recipe."""
    tensors, configuration = checkpoint.load(out)
    averaged = {key: t.half() for key, t in tensors.items() if key.startswith("ema.")}
    return averaged, configuration | {"recipe": f"python -m tutorial_lib.recipes {name}"}


def _real_features(count: int) -> Tensor:
    """Features of at most `count` of the embedded training images, (N, 128)."""
    pixels = load("embedded", "train").pixels[:count]
    return evaluate.predictions(evaluate.load_classifier(), pixels)[0]


def _schedule() -> NoiseSchedule:
    """That of all networks here."""
    return named(LABELLED.schedule, LABELLED.T)
