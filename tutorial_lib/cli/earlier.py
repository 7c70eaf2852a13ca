"""Weights that there are before training begins: of the run that is resumed, or to begin from."""

import argparse
from dataclasses import dataclass
from typing import Any

from tutorial_lib import checkpoint
from tutorial_lib.cli import objectives
from tutorial_lib.nets.unet import UNet, restore

LEARNT = ("schedule", "T", "target")  # what a network has learnt, no option can change


@dataclass(frozen=True)
class Earlier:
    """Weights that there are already: of the run that is resumed, or those to begin from.

    name: what they are called in a message.  configuration: their record.
    network: with the weights to begin from; None for a run that is resumed.
    """

    name: str
    configuration: dict[str, Any]
    network: UNet | None = None


def resumed(options: argparse.Namespace) -> Earlier:
    """The record of the run in --out."""
    configuration = checkpoint.load(options.out)[1]
    if not {"model", "train", "step"} <= configuration.keys():
        raise ValueError(
            f"{options.out} holds weights without a training state; there is nothing to resume"
        )
    return Earlier(str(options.out), configuration)


def origin(options: argparse.Namespace) -> Earlier | None:
    """The weights that --from names, if it does: the averaged ones, free to be trained."""
    if options.origin is None:
        return None
    tensors, configuration = checkpoint.load(options.origin)
    if (objective := objectives.of(configuration)) != objectives.USUAL:
        raise ValueError(
            f"{options.origin} was trained with --objective {objective}, and --from takes weights "
            f"of the objective {objectives.USUAL}; go on in its own folder with --resume"
        )
    network = restore(tensors, configuration).train().requires_grad_(True)
    missing = [name for name in LEARNT if name not in configuration.get("train", {})]
    if missing:
        raise ValueError(
            f"{options.origin} does not say with which {' and '.join(missing)} it was trained, "
            "so training cannot go on from it"
        )
    if "beta" in configuration:
        raise ValueError(
            f"{options.origin} was trained on a noise schedule of its own, which no option names; "
            "in Python, give train.algorithm_1 what config.schedule_of reads from it"
        )
    return Earlier(options.origin, configuration, network)
