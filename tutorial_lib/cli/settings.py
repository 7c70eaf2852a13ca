"""What a training run is to do: what the options say, and what an earlier run's record says."""

import argparse
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from tutorial_lib import data, files, train
from tutorial_lib.cli import inputs, objectives
from tutorial_lib.cli.card import SIZES
from tutorial_lib.cli.earlier import LEARNT, Earlier, origin, resumed
from tutorial_lib.config import EARLIER, DiffusionConfig
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.nets.unet import UNet, UNetConfig

OFTEN = {"cuda": 10}  # steps between two looks for Ctrl-C; each makes a GPU wait, elsewhere 1


@dataclass(frozen=True)
class Settings:
    """All that training needs, checked before anything long begins.

    lesson: what is minimised.
    about: what the record is to say beside the configuration.
    done: the steps that a resumed run has taken.
    """

    config: DiffusionConfig
    images: data.Images
    network: UNet
    lesson: objectives.Lesson
    about: dict[str, Any]
    device: str
    done: int = 0

    @property
    def often(self) -> int:
        """Steps between two looks at the run."""
        return min(OFTEN.get(self.device, 1), self.config.report_every)


def prepared(options: argparse.Namespace) -> Settings:
    """Load and check what the options of `train` ask for.

    Raises ValueError or OSError, saying what does not fit together and what to do.
    """
    device = get_device(options.device)
    _check(options)
    earlier = resumed(options) if options.resume else origin(options)
    objective, config = _objective(options, earlier), _config(options, earlier)
    objectives.check(objective, config)
    images, said = inputs.images(options, earlier)
    if not options.probe:
        files.check_writable(options.out / train.FILE)
    network = objectives.fitted(objective, _network(options, config, images, earlier))
    about = {"model": asdict(network.config), "data": images.source, "images": said}
    about["objective"] = objective
    done = 0
    if earlier and options.resume:
        stored = earlier.configuration
        done = stored["step"]
        about |= {name: stored[name] for name in ("model", "from") if name in stored}
    elif earlier:
        about["from"] = {
            "weights": inputs.named(options.origin),
            "step": earlier.configuration.get("step"),
        }
    lesson = objectives.OBJECTIVES[objective][0](images, config)
    return Settings(config, images, network, lesson, about, device, done)


def _check(options: argparse.Namespace) -> None:
    if options.json and not options.probe:
        raise ValueError("--json is for --probe, and training prints no document; leave it out")
    if options.out is None and (options.resume or not options.probe):
        raise ValueError("--out is missing; name the folder of the run: --out my_run")
    if options.out and (options.out / train.FILE).exists() and not options.resume:
        raise ValueError(
            f"{options.out} already holds a run; add --resume to go on with it, "
            "or choose another folder"
        )
    if options.resume and options.origin:
        raise ValueError(
            "--from begins a new run, and --resume goes on with one; leave one of them out"
        )
    for name in ("minutes", "preview_every"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be positive, got {value:g}")


def _objective(options: argparse.Namespace, earlier: Earlier | None) -> str:
    """What is minimised: what the option says, or a resumed run has minimised so far."""
    asked = options.objective
    if earlier is None:
        return asked or objectives.USUAL
    if not options.resume and asked == "flow":  # of another schedule than all earlier weights
        raise ValueError(
            "--objective flow begins with a network of its own, got --from; leave one of them out"
        )
    then = objectives.of(earlier.configuration)
    if options.resume and asked not in (None, then):
        raise ValueError(
            f"{earlier.name} was trained with objective = {then}, not {asked}; "
            "leave --objective out"
        )
    return then if options.resume else asked or then


def _config(options: argparse.Namespace, earlier: Earlier | None) -> DiffusionConfig:
    """What the options say, on top of what earlier weights were trained with."""
    names = [field.name for field in fields(DiffusionConfig)]
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if given["seed"] is False:
        del given["seed"]  # not said
    if earlier is None:
        return DiffusionConfig(**given)
    if options.resume:  # training itself refuses what differs
        stored = EARLIER | earlier.configuration["train"]
        known = {name: stored[name] for name in names if name in stored}
        shown = {"report_every": DiffusionConfig.report_every}  # whoever looks says how often
        return replace(DiffusionConfig(**known | shown), **given)
    assert earlier.network is not None  # as `origin` gives one
    settings = earlier.configuration["train"]
    learnt = {name: settings[name] for name in LEARNT}
    learnt["self_conditioning"] = earlier.network.config.self_conditioning
    learnt["labels"] = bool(earlier.network.config.labels)
    for name, value in learnt.items():
        if given.get(name, value) != value:
            raise ValueError(
                f"{earlier.name} was trained with {name} = {value}, not {given[name]}; "
                f"leave --{name.replace('_', '-')} out"
            )
    return DiffusionConfig(**given | learnt)


def _network(
    options: argparse.Namespace,
    config: DiffusionConfig,
    images: data.Images,
    earlier: Earlier | None,
) -> UNet:
    """A new network that fits the images, or one of the earlier weights' shape."""
    side, channels = images.pixels.shape[-1], images.pixels.shape[1]
    given = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    torch.manual_seed(config.seed)  # the initial weights
    if earlier is None:
        given["self_conditioning"] = config.self_conditioning
        given["labels"] = _classes(images) if config.labels else 0
        return UNet(UNetConfig(image_size=side, channels=channels, **given))
    shape = UNetConfig(**earlier.configuration["model"])
    if shape.labels and images.labels.max() >= shape.labels:
        raise ValueError(
            f"{earlier.name} knows {shape.labels} classes, and these images have "
            f"{_classes(images)}: {images.source}; begin a new run without its weights"
        )
    for name, value in given.items():
        if value != getattr(shape, name):
            raise ValueError(
                f"{earlier.name} has {name} = {getattr(shape, name)}, not {value}; "
                f"leave --{name} out"
            )
    if (channels, side) != (shape.channels, shape.image_size):
        raise ValueError(
            f"{earlier.name} is for images with {_said(shape.channels, shape.image_size)}, "
            f"and these have {_said(channels, side)}: {images.source}"
        )
    return earlier.network or UNet(shape)


def _classes(images: data.Images) -> int:
    """How many classes the labels tell apart.  Raises ValueError where that is only one."""
    count = max(len(images.classes), int(images.labels.max()) + 1)
    if count < 2:
        raise ValueError(
            f"--labels needs images of two classes or more, such as a folder with subfolders, "
            f"and these have none: {images.source}"
        )
    return count


def _said(channels: int, side: int) -> str:
    return f"{channels} channel{'s' if channels > 1 else ''} of {side} x {side} pixels"
