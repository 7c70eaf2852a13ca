"""A classifier for noisy images, which is told how noisy they are (notebook 10)."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import checkpoint
from tutorial_lib.nets.blocks import Attention, Down, GroupNorm, ResidualBlock, time_embedding


@dataclass(frozen=True)
class NoisyClassifierConfig:
    """What determines the shape of a `NoisyClassifier`."""

    # Channels of the two levels, 14 x 14 and 7 x 7.
    widths: tuple[int, int] = (32, 64)
    # Classes.
    classes: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))


class NoisyClassifier(nn.Module):
    """The way down of the U-Net, and a mean over all places: log p(y | x_t), but for a constant.

    x_t: (B, 1, 28, 28).  t: (B,) integers.  Returns logits (B, classes).
    """

    def __init__(self, config: NoisyClassifierConfig) -> None:
        super().__init__()
        self.config = config
        first, last = config.widths
        width_t = 4 * first
        block = partial(ResidualBlock, width_t=width_t)
        self.embed = nn.Sequential(
            nn.Linear(first, width_t), nn.SiLU(), nn.Linear(width_t, width_t), nn.SiLU()
        )
        self.stem = nn.Conv2d(4, first, 3, padding=1)
        self.block_1 = block(first, first)
        self.down = Down(first, last)
        self.block_2 = block(last, last)
        self.attention = Attention(last)
        self.block_3 = block(last, last)
        self.norm = GroupNorm(8, last)
        self.head = nn.Linear(last, config.classes)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        embedding = self.embed(time_embedding(t.to(x_t.device), self.config.widths[0]))
        x = rearrange(x_t, "b c (y p) (x q) -> b (c p q) y x", p=2, q=2)  # (B, 4, 14, 14)
        x = self.block_1(self.stem(x), embedding)  # (B, widths[0], 14, 14)
        x = self.block_2(self.down(x), embedding)  # (B, widths[1], 7, 7)
        x = self.block_3(self.attention(x), embedding)
        features = F.silu(self.norm(x)).mean(dim=(2, 3))  # (B, widths[1])
        return self.head(features)


def restore(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> NoisyClassifier:
    """The classifier that `checkpoint.load` has read, ready to guide: its averaged weights, frozen.

    Raises ValueError when the file holds no averaged weights.
    """
    model = NoisyClassifier(NoisyClassifierConfig(**configuration["model"]))
    model.load_state_dict(checkpoint.part(tensors, "ema"))
    return model.eval().requires_grad_(False)
