"""Two U-Nets from the literature, built from our bricks, to be counted and measured against
(notebook 04).
"""

import torch
from torch import Tensor, nn

from tutorial_lib.nets.blocks import (
    Attention,
    Down,
    LinearAttention,
    ResidualBlock,
    StandardizedBlock,
    Up,
    time_embedding,
)


class Stage(nn.Sequential):
    """Layers one after the other; residual blocks among them also see the time embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = (
                layer(x, embedding)
                if isinstance(layer, ResidualBlock | StandardizedBlock)
                else layer(x)
            )
        return x


class PublishedUNet(nn.Module):
    """A U-Net that saves what each stage of the way down returns, and hands it to a stage of the
    way up.

    width: of the sinusoidal time embedding.  embed: the layers behind it.  down, up: equally many
    stages.
    x_t: (B, C, H, W).  t: (B,).  Returns a tensor shaped like x_t.
    """

    def __init__(
        self, width: int, embed: nn.Module, down: list[Stage], middle: Stage, up: list[Stage]
    ) -> None:
        super().__init__()
        self.width, self.embed = width, embed
        self.down, self.middle, self.up = nn.ModuleList(down), middle, nn.ModuleList(up)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        embedding = self.embed(time_embedding(t, self.width))  # (B, 4 width)
        x, saved = x_t, []
        for stage in self.down:
            x = stage(x, embedding)
            saved.append(x)
        x = self.middle(x, embedding)
        for stage in self.up:
            x = stage(torch.cat([x, saved.pop()], dim=1), embedding)
        return x


def paper_unet(
    image_size: int = 32, multipliers: tuple[int, ...] = (1, 2, 2, 2), dropout: float = 0.1
) -> nn.Module:
    """The network of Ho, Jain & Abbeel 2020 (appendix B): by default that for CIFAR-10, of
    35,746,307 parameters.

    For 256 x 256 images: image_size 256, multipliers (1, 1, 2, 2, 4, 4), dropout 0.  A level has
    two residual blocks on the way down and three on the way up; attention at 16 x 16 and in the
    middle; three channels in and out.
    """
    here, width_t = 128, 512
    embed = nn.Sequential(
        nn.Linear(here, width_t), nn.SiLU(), nn.Linear(width_t, width_t), nn.SiLU()
    )
    down, up, widths = [Stage(nn.Conv2d(3, here, 3, padding=1))], [], [here]

    def stage(channels_in: int, channels_out: int, size: int) -> Stage:
        block = ResidualBlock(
            channels_in, channels_out, width_t, groups=32, add=True, dropout=dropout
        )
        return (
            Stage(block, Attention(channels_out, heads=1, groups=32))
            if size == 16
            else Stage(block)
        )

    levels = [
        (image_size >> level, 128 * multiplier) for level, multiplier in enumerate(multipliers)
    ]
    for size, wide in levels:
        if size < image_size:
            down.append(Stage(nn.Conv2d(here, here, 3, stride=2, padding=1)))
            widths.append(here)
        for _ in range(2):
            down.append(stage(here, wide, size))
            here = wide
            widths.append(here)
    ends = [
        ResidualBlock(here, here, width_t, groups=32, add=True, dropout=dropout) for _ in range(2)
    ]
    middle = Stage(ends[0], Attention(here, heads=1, groups=32), ends[1])
    for size, wide in reversed(levels):
        for _ in range(3):
            up.append(stage(here + widths.pop(), wide, size))
            here = wide
        if size < image_size:
            up[-1].append(Up(here, here))
    up[-1].extend([nn.GroupNorm(32, here), nn.SiLU(), nn.Conv2d(here, 3, 3, padding=1)])
    return PublishedUNet(128, embed, down, middle, up)


def annotated_unet() -> nn.Module:
    """The network of a popular annotated tutorial, for 28 x 28 grey images: 2,020,257 parameters.

    Weight-standardised convolutions, linear attention at every level, full attention in the middle.
    """
    width, width_t, levels = 28, 112, [(28, 28), (28, 56), (56, 112)]
    embed = nn.Sequential(nn.Linear(width, width_t), nn.GELU(), nn.Linear(width_t, width_t))
    down, up, shrink = [Stage(nn.Conv2d(1, width, 1))], [], []
    for before, after in levels:
        down.append(Stage(*shrink, StandardizedBlock(before, before, width_t)))
        down.append(Stage(StandardizedBlock(before, before, width_t), LinearAttention(before)))
        shrink = [Down(before, after)] if after < 112 else [nn.Conv2d(before, after, 3, padding=1)]
    ends = [StandardizedBlock(112, 112, width_t) for _ in range(2)]
    middle = Stage(*shrink, ends[0], Attention(112, groups=1, width=32, bias=False), ends[1])
    for before, after in reversed(levels):
        grow = Up(after, before) if after > 28 else nn.Conv2d(28, 28, 3, padding=1)
        up.append(Stage(StandardizedBlock(after + before, after, width_t)))
        up.append(
            Stage(StandardizedBlock(after + before, after, width_t), LinearAttention(after), grow)
        )
    up.append(Stage(StandardizedBlock(2 * width, width, width_t), nn.Conv2d(width, 1, 1)))
    return PublishedUNet(width, embed, down, middle, up)
