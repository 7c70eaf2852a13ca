"""Configurations: how a run optimises, and what a diffusion model learns in it."""

from dataclasses import dataclass, field
from typing import Any

from tutorial_lib.diffusion import LOSSES, TARGETS
from tutorial_lib.schedule import NAMED, NoiseSchedule, check_name, check_T, from_betas, named

PRECISIONS = ("auto", "no", "bf16", "fp16")
OPTIMIZERS = ("muon", "adam")
T_SAMPLING = ("logit-normal", "uniform")
# what runs did before their records had a field for it
EARLIER = {"momentum": 0.95, "t_sampling": "uniform", "self_conditioning": False}
EARLIER |= {"labels": False, "label_drop": 0.15}


def _option(default: Any, meaning: str) -> Any:
    """A field of a configuration, with what it means in a few words (the command line's help)."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class TrainConfig:
    """How a run optimises, whatever it trains.  Raises ValueError for anything out of range."""

    steps: int = _option(2000, "optimiser steps")
    # over all processes and accumulated pieces
    batch: int = _option(64, "images a step")
    # Muon moves the weights of convolutions and Adam all others, or Adam moves all
    optimizer: str = _option("muon", "muon or adam")
    # rises in a line over the warm-up, then falls along half a cosine
    lr: float = _option(2e-3, "Adam's learning rate")
    lr_muon: float = _option(0.015, "Muon's learning rate")
    momentum: float = _option(0.9, "Muon's momentum")
    lr_end: float = _option(0.0, "learning rate at the end")
    warmup: int = _option(50, "steps in which the learning rate rises")
    ema: float = _option(0.998, "decay of the averaged weights")
    clip: float = _option(1.0, "largest norm of the gradient")
    accumulation: int = _option(1, "pieces a batch is cut into, to save memory")
    # auto: bf16 where the hardware has it
    precision: str = _option("auto", "auto, bf16, fp16 or no")
    seed: int = _option(0, "of everything random")
    report_every: int = _option(10, "steps between reports")
    save_every: int = _option(500, "steps between checkpoints")

    def __post_init__(self) -> None:
        positive = ("steps", "batch", "lr", "lr_muon", "clip", "accumulation")
        for name in (*positive, "report_every", "save_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("warmup", "lr_end"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.batch % self.accumulation:
            raise ValueError(
                f"batch {self.batch} cannot be cut into {self.accumulation} equal pieces"
            )
        check_name("precision", self.precision, PRECISIONS)
        check_name("optimizer", self.optimizer, OPTIMIZERS)

    def machinery(self) -> dict[str, Any]:
        """What `engine.run.Run` wants to know of it, as keywords."""
        names = ("batch", "accumulation", "clip", "precision", "ema", "warmup")
        names += ("lr", "lr_end", "lr_muon", "momentum")
        return {name: getattr(self, name) for name in names} | {"muon": self.optimizer == "muon"}


@dataclass(frozen=True)
class DiffusionConfig(TrainConfig):
    """How a diffusion model is trained: the run, and what is learnt in it (Algorithm 1)."""

    target: str = _option("v", "what the network predicts: eps, x_0, v or mu")
    loss: str = _option("l2", "l2, l1 or huber")
    schedule: str = _option("cosine", "a noise schedule, linear or cosine for example")
    T: int = _option(1000, "number of noising steps")
    # logit-normal: Esser et al. 2024, arXiv 2403.03206; uniform: worse pictures, a better bound
    t_sampling: str = _option(
        "logit-normal",
        "which steps the images get: logit-normal (the middle more often) or uniform",
    )
    flip: bool = _option(False, "mirror half of the images (wrong for shoes)")
    # Chen et al. 2022, arXiv 2208.04202; the network must take x_0_hat
    self_conditioning: bool = _option(False, "show the network its own last estimate of x_0")
    # Ho & Salimans 2022, arXiv 2207.12598; the network must take y
    labels: bool = _option(False, "tell the network the class of each image")
    label_drop: float = _option(0.15, "share of the images that are shown without their label")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("schedule", self.schedule, tuple(NAMED))
        check_T(self.T)
        check_name("target", self.target, TARGETS)
        check_name("loss", self.loss, LOSSES)
        check_name("t_sampling", self.t_sampling, T_SAMPLING)
        if not 0 <= self.label_drop <= 1:
            raise ValueError(f"label_drop must lie in [0, 1], got {self.label_drop}")


def schedule_of(configuration: dict[str, Any]) -> NoiseSchedule:
    """The noise schedule that weights were trained with, by what their checkpoint says.

    That is a table of its own, if `train.algorithm_1` was given one, or a named one.
    Raises ValueError when it says neither.
    """
    if "beta" in configuration:
        return from_betas(configuration["beta"])
    trained = configuration.get("train") or {}
    missing = [name for name in ("schedule", "T") if name not in trained]
    if missing:
        raise ValueError(
            f"these weights do not say with which {' and '.join(missing)} they were trained; "
            "in Python, give the schedule yourself"
        )
    return named(trained["schedule"], trained["T"])
