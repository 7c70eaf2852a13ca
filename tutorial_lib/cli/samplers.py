"""Which sampler the options of `sample` and `evaluate` choose for weights, and its steps."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from tutorial_lib import sample
from tutorial_lib.beyond.distillation import multistep
from tutorial_lib.beyond.solvers import SAMPLERS, STEPS
from tutorial_lib.beyond.variance import learned_ddpm
from tutorial_lib.cli.trained import Trained, is_wide
from tutorial_lib.schedule import check_name, how_many

FAST = "dpm++"  # the sampler unless another is asked for
LEARNED = "ddpm, learned variance"  # what ddpm is for weights that have one

Sampler = Callable[..., Iterator[sample.Frame]]


def chosen(
    options: argparse.Namespace, weights: Trained, generator: torch.Generator
) -> tuple[str, Sampler, int]:
    """The name of the sampler, itself with what it alone wants to know, and its steps."""
    if weights.evaluations:
        return "multistep", partial(multistep, generator=generator), _evaluations(options, weights)
    name, T = FAST if options.sampler is None else options.sampler, weights.schedule.T
    check_name("sampler", name, list(SAMPLERS))
    if options.eta is not None and name != "ddim":
        raise ValueError(
            f"--eta is for --sampler ddim, and {name} has no such choice; leave it out"
        )
    eta = 0.0 if options.eta is None else options.eta
    sample.check_eta(eta)
    usual = T if name == "ddpm" else min(STEPS, T)
    steps = how_many(T, usual if options.steps is None else options.steps)
    if name == "ddpm" and is_wide(weights.model):
        return LEARNED, partial(learned_ddpm, generator=generator), steps
    own: dict[str, dict[str, Any]] = {
        "ddpm": {"generator": generator},
        "ddim": {"generator": generator, "eta": eta},
    }
    return name, partial(SAMPLERS[name], **own.get(name, {})), steps


def _evaluations(options: argparse.Namespace, weights: Trained) -> int:
    """In how many evaluations distilled weights are to draw: the most, unless it is said.

    Raises ValueError for others than they have learnt, and for what belongs to a walk.
    """
    legal = ", ".join(map(str, weights.evaluations))
    for name in ("sampler", "eta", "guidance", "guidance-interval"):
        got = getattr(options, name.replace("-", "_"))
        if got is not None:
            said = " ".join(map(str, got)) if isinstance(got, list) else got
            raise ValueError(
                f"these weights are distilled, and draw in their own way, in {legal} steps; "
                f"got --{name} {said}, leave it out"
            )
    steps = max(weights.evaluations) if options.steps is None else options.steps
    if steps not in weights.evaluations:
        raise ValueError(
            f"these weights are distilled, and draw in {legal} steps, got {steps}; "
            "choose one of these for --steps"
        )
    return steps
