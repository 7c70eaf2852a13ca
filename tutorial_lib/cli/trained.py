"""Weights as they were trained: a network, its schedule and its target, ready to be drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tutorial_lib import checkpoint
from tutorial_lib.beyond.variance import halves, widened
from tutorial_lib.cli import objectives
from tutorial_lib.cli.card import is_fashion_mnist
from tutorial_lib.config import schedule_of
from tutorial_lib.data import CLASSES
from tutorial_lib.denoise import Denoiser, Network, denoiser
from tutorial_lib.nets.unet import UNet, restore
from tutorial_lib.schedule import NoiseSchedule


@dataclass(frozen=True)
class Trained:
    """A network, and all that it takes to draw from it.

    evaluations: of a distilled network, in how many of them it may draw; of all others none.
    record: what else the file says.
    """

    model: UNet
    schedule: NoiseSchedule
    target: str
    evaluations: tuple[int, ...]
    record: dict[str, Any]

    @property
    def source(self) -> str:
        """Of the images it has learnt from, as `data.load` takes it; "auto" if it is not said."""
        return self.record.get("images", {}).get("source", "auto")

    @property
    def classes(self) -> Sequence[str]:
        """The names of its labels, as far as they are known."""
        names = self.record.get("images", {}).get("classes")
        ours = self.model.config.labels == len(CLASSES) and is_fashion_mnist(self.record)
        return names or (CLASSES if ours else ())

    def denoiser(self, *, clip: bool) -> Denoiser:
        """Its estimates of x_0."""
        network = prediction(self.model)
        return denoiser(network, self.schedule, target=self.target, clip=clip)


def read(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> Trained:
    """What `checkpoint.load` has read.  Raises ValueError, with the reason, for any other file."""
    model = _restored(tensors, configuration)
    if "target" not in configuration.get("train", {}):
        raise ValueError(
            "these weights do not say which target they were trained to predict, "
            "so they cannot be sampled from here; use denoise.denoiser in Python"
        )
    target, evaluations = configuration["train"]["target"], configuration.get("evaluations", ())
    schedule = schedule_of(configuration)
    return Trained(model, schedule, target, tuple(evaluations), configuration)


def _restored(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> UNet:
    """`unet.restore`, for a network with a learned variance as well."""
    shipped = "wide.out.weight" in tensors  # as the recipe `variance` calls them
    if objectives.of(configuration) != "hybrid" and not shipped:
        return restore(tensors, configuration)
    averaged = checkpoint.part(tensors, "wide" if shipped else "ema")
    first = {
        name: tensor[: len(tensor) // 2] if name.startswith("out.") else tensor
        for name, tensor in averaged.items()
    }
    model = widened(restore(checkpoint.prefixed("ema", first), configuration))
    model.load_state_dict(averaged)
    return model.eval().requires_grad_(False)


def is_wide(model: UNet) -> bool:
    """Whether a network says, beside its prediction, how sure it is: it has a learned variance."""
    return model.out.out_channels > model.config.channels * model.config.patch**2


def prediction(model: UNet) -> Network:
    """A network's prediction alone, without a share of the variance."""
    if not is_wide(model):
        return model
    return lambda x_t, t: halves(model(x_t, t))[0]
