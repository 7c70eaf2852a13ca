"""What `train --objective` may minimise: a table, in which a row is all that an objective brings.

Whatever is minimised, the network predicts the target that its record names, on the schedule that
`config.schedule_of` reads there.  So the weights are drawn from, and judged, like all others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from tutorial_lib import train
from tutorial_lib.beyond.flow import as_schedule
from tutorial_lib.beyond.variance import hybrid_step, widened
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.data import Images
from tutorial_lib.nets.unet import UNet
from tutorial_lib.schedule import NoiseSchedule, named

USUAL = "simple"


class Lesson(NamedTuple):
    """What a step draws and what it costs, for `train.train`, and the schedule of the noise."""

    draw: train.Draw
    loss: train.Loss
    schedule: NoiseSchedule


@dataclass(frozen=True)
class FlowCost(train.Cost):
    r"""Flow matching by a network that predicts v on `flow.as_schedule`, where $t$ is step / T.

    $|\hat u - u|^2 = |\hat v - v|^2 / ((1 - t)^2 + t^2)$: the velocity $u = \epsilon - x_0$ is
    v and x_t, added in proportions that t alone decides.  (Notebook 09)
    """

    def __call__(
        self, network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor
    ) -> Tensor:
        """The loss of each item, (B,); u is a chance, as in `train.Drawn`, and no velocity."""
        loss = super().__call__(network, x_0, t, eps, y, u)
        time = (t / self.config.T).to(loss)
        return loss / ((1 - time) ** 2 + time**2)


def simple(images: Images, config: DiffusionConfig) -> Lesson:
    """Algorithm 1.  (Notebook 05)"""
    return Lesson(*train.algorithm_1(images, config), named(config.schedule, config.T))


def flow(images: Images, config: DiffusionConfig) -> Lesson:
    """Flow matching.  (Lipman et al. 2023; notebook 09)"""
    schedule = as_schedule(config.T)
    draw, _ = train.algorithm_1(images, config, schedule)
    return Lesson(draw, FlowCost(config, schedule, {"beta": schedule.beta[1:].tolist()}), schedule)


def hybrid(images: Images, config: DiffusionConfig) -> Lesson:
    """Algorithm 1 and the bound, for a learned variance.  (Nichol & Dhariwal 2021; notebook 08)"""
    draw, _, schedule = simple(images, config)

    def loss(
        network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor
    ) -> Tensor:
        return hybrid_step(network, schedule, x_0, t, eps, target=config.target)

    return Lesson(draw, loss, schedule)


# name: what makes a lesson of it, and the settings of which it leaves no choice
OBJECTIVES: dict[str, tuple[Callable[[Images, DiffusionConfig], Lesson], dict[str, Any]]] = {
    USUAL: (simple, {}),
    "flow": (flow, {"target": "v", "loss": "l2", "schedule": DiffusionConfig.schedule}),
    "hybrid": (hybrid, {"loss": "l2", "labels": False, "self_conditioning": False}),
}


RECIPES = ("distilled", "fine_bits", "ncsn", "noisy_classifier")  # of what is no row of the table


def of(configuration: dict[str, Any]) -> str:
    """The objective of weights, by their record.  Raises ValueError for one that is not ours."""
    name = configuration.get("objective", USUAL)
    if name not in OBJECTIVES:
        raise ValueError(
            f"these weights were trained with the objective {name!r}, and this version knows only "
            f"{', '.join(OBJECTIVES)}; use the version, or the program, that trained them"
        )
    return name


def check(name: str, config: DiffusionConfig) -> None:
    """Raise ValueError for an unknown objective, or settings that do not go with it."""
    if name not in OBJECTIVES:
        raise ValueError(
            f"unknown objective {name!r}; choose one of {', '.join(OBJECTIVES)}; what needs a "
            "network or a teacher of its own has a recipe, python -m tutorial_lib.recipes NAME: "
            f"{', '.join(RECIPES)}"
        )
    for setting, value in OBJECTIVES[name][1].items():
        got = getattr(config, setting)
        if got != value:
            raise ValueError(
                f"--objective {name} leaves no choice of {setting}, which is {value}, got {got}; "
                f"leave --{setting.replace('_', '-')} out"
            )


def fitted(name: str, network: UNet) -> UNet:
    """The network with the outputs that the objective needs: twice as many for a variance."""
    return widened(network) if name == "hybrid" else network
