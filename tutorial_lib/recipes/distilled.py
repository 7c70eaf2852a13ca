"""A student of the U-Net that ships, which draws in one, two or four evaluations."""

import json
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, evaluate, sample, train
from tutorial_lib.beyond import distillation
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.config import DiffusionConfig, schedule_of
from tutorial_lib.data import Images, to_pixels
from tutorial_lib.denoise import Denoiser, denoiser
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.blocks import ResidualBlock
from tutorial_lib.nets.unet import UNet, restore
from tutorial_lib.recipes.sources import full, sha256
from tutorial_lib.schedule import NoiseSchedule, check_name

TEACHER = "labelled"  # the shipped weights that teach; they take labels
W = 1.3  # guidance that the student learns by heart
METHODS = ("consistency", "adversarial")  # one behind the other
WEIGHTS = "distilled.safetensors"
CONSISTENCY = DiffusionConfig(
    steps=3000, batch=64, momentum=0.95, lr=1e-3, lr_muon=4e-3, warmup=200, ema=0.998,
    label_drop=0.1,
)  # fmt: skip
# Adam moves the critic, and of the student the norms and what t does; Muon its convolutions
ADVERSARIAL = DiffusionConfig(
    steps=800, batch=64, momentum=0.5, lr=1e-3, lr_muon=1e-3, warmup=50, ema=0.995,
    label_drop=0.1,
)  # fmt: skip
TRIED, COUNT = 2000, 10_000  # samples that judge a short run, and those that judge what ships


def distilled(out: Path = Path("build/distilled")) -> None:
    """Teach a student by each of METHODS in turn, store it, and judge it by 10,000 samples.

    Resumes by itself when it was interrupted.  What ships are the averaged weights, as float16.
    """
    start = None
    for method in METHODS:
        start = taught(method, out / method, start=start)
    tensors, configuration = checkpoint.load(out / METHODS[-1])
    stored = {name: tensor.half() for name, tensor in _student(tensors).items()}
    about = {key: configuration[key] for key in ("model", "data", "record", "train", "step")}
    _, first = checkpoint.load(out / METHODS[0])
    about |= {
        "recipe": "python -m tutorial_lib.recipes distilled",
        "methods": {method: _steps(out / method) for method in METHODS},
        METHODS[0]: first["train"],
        "teacher": {"weights": TEACHER, "sha256": sha256(checkpoint.find(TEACHER)), "w": W},
        "evaluations": distillation.EVALUATIONS,
    }
    about["metrics"] = judged(restore(stored, about), COUNT)
    checkpoint.save(ASSETS / WEIGHTS, stored, about)


def taught(
    method: str,
    out: Path,
    start: UNet | None = None,
    minutes: float | None = None,
    device: str | None = None,
    **changes: Any,
) -> UNet:
    """Teach a student by one method, into a folder; returns it, its averaged weights.

    method: "consistency" or "adversarial".
    start: the student as it begins; by default the teacher itself.
    minutes: instead of the number of steps.  changes: of the method's configuration.
    For a comparison by short runs, see `distilled_briefly`.
    """
    check_name("method", method, METHODS)
    tensors, configuration = checkpoint.load(TEACHER)
    teacher = restore(tensors, configuration).to(get_device(device))
    config, images = _config(method, configuration, **changes), full("train")
    schedule = schedule_of(configuration)
    network, draw, loss = _lesson(method, teacher, start or teacher, images, config, schedule)
    about = {"model": asdict(teacher.config), "data": images.source, "method": method}
    reports = train.train(
        network,
        draw,
        loss,
        config,
        out=out,
        about=about,
        resume=(out / train.FILE).exists(),
        minutes=minutes,
        device=device,
    )
    for last in reports:
        if last.step % 100 == 0:
            means = zip(last.parts, torch.tensor(last.by_step).mean(0).tolist(), strict=True)
            said = ", ".join(f"{part or 'loss'} {mean:.4f}" for part, mean in means)
            print(f"{method}, step {last.step}: {said}", flush=True)
    tensors, _ = checkpoint.load(out)
    return restore(_student(tensors), {"model": about["model"]})


def _lesson(
    method: str,
    teacher: UNet,
    begun: UNet,
    images: Images,
    config: DiffusionConfig,
    schedule: NoiseSchedule,
) -> tuple[nn.Module, train.Draw, train.Loss | dict[str, train.Loss]]:
    """What `train.train` wants to know.  begun: the student as it begins."""
    student = deepcopy(begun).requires_grad_(True)
    if method == "consistency":
        answers = _teacher(teacher, config, schedule)
        return student, *distillation.consistency(images, config, schedule, answers)
    blocks = {
        name: block for name, block in teacher.named_modules() if isinstance(block, ResidualBlock)
    }
    widths = [block.conv_2.out_channels for block in blocks.values()]
    torch.manual_seed(config.seed)  # the critic's initial weights
    duel = distillation.Duel(student, widths)
    eyes = distillation.Eyes(teacher, list(blocks))
    begun = deepcopy(begun).requires_grad_(False)
    return duel, *distillation.adversarial(images, config, schedule, eyes, begun)


def distilled_briefly(minutes: float = 20.0, out: Path = Path("build/distilled_briefly")) -> None:
    """Either method alone, and one behind the other, each for as long; judged by 2,000 samples."""
    ways = {"consistency": ("consistency",), "adversarial": ("adversarial",), "both": METHODS}
    found = {}
    for name, methods in ways.items():
        student = None
        for method in methods:
            share = minutes / len(methods)
            student = taught(method, out / name / method, start=student, minutes=share)
        assert student is not None
        found[name] = judged(student, TRIED)
        print(name, json.dumps(found[name]), flush=True)
    (out / "compared.json").write_text(json.dumps(found, indent=1))


def judged(student: UNet, count: int) -> dict[str, Any]:
    """Distances of `count` samples in each number of evaluations, by both judges."""
    found: dict[str, Any] = {"count": count}
    for steps in distillation.EVALUATIONS:
        report = evaluate.report(drawn(student, count, steps))
        found[str(steps)] = {key: report[key] for key in ("feature_distance", "interval", "second")}
        print(steps, json.dumps(found[str(steps)]), flush=True)
    return found


def drawn(student: UNet, count: int, steps: int) -> Tensor:
    """`count` samples of a student, (count, 1, 28, 28) uint8, always from the same noise."""
    _, configuration = checkpoint.load(TEACHER)
    schedule, target = schedule_of(configuration), configuration["train"]["target"]
    generator = torch.Generator().manual_seed(0)
    noise = sample.start(count, (1, 28, 28), generator=generator)
    labels = torch.arange(count) % 10  # each class as often as any other
    pictures = []
    for x_T, y in zip(noise.split(250), labels.split(250), strict=True):
        answer = partial(denoiser(student, schedule, target=target, clip=True), y=y)
        walk = distillation.multistep(answer, schedule, x_T, generator=generator, steps=steps)
        pictures.append(to_pixels(sample.final(walk)))
    return torch.cat(pictures)


def _config(method: str, teacher: dict[str, Any], **changes: Any) -> DiffusionConfig:
    """The method's settings; schedule, T and target are the teacher's."""
    configs = {"consistency": CONSISTENCY, "adversarial": ADVERSARIAL}
    trained = teacher["train"]
    same = {name: trained[name] for name in ("schedule", "T", "target")}
    return replace(configs[method], **same, labels=True, **changes)


def _teacher(
    network: UNet, config: DiffusionConfig, schedule: NoiseSchedule
) -> distillation.Teacher:
    """Labels -> the teacher's denoiser for them, guided."""
    plain = denoiser(network, schedule, target=config.target, clip=False)

    def answers(y: Tensor) -> Denoiser:
        return guided(plain, y, W, clip=True)

    return answers


def _student(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of the student alone, as ema.*; a duel has those of a critic, too."""
    averaged = checkpoint.part(tensors, "ema")
    if any(name.startswith("student.") for name in averaged):
        averaged = checkpoint.part(averaged, "student")
    return checkpoint.prefixed("ema", averaged)


def _steps(folder: Path) -> int:
    return checkpoint.load(folder)[1]["step"]
