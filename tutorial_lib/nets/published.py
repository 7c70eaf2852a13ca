"""Two U-Nets from the literature, built from our bricks, to be measured against (notebook 04b)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from tutorial_lib.nets.blocks import (
    Attention,
    Down,
    GroupNorm,
    LinearAttention,
    ResidualBlock,
    StandardizedBlock,
    Up,
    time_embedding,
)


class Stage(nn.Sequential):
    """Layers one after the other; residual blocks among them also see the time embedding."""

    def forward(  # type: ignore[override]  # a plain nn.Sequential sees no embedding
        self, x: Tensor, embedding: Tensor
    ) -> Tensor:
        for layer in self:
            if isinstance(layer, ResidualBlock | StandardizedBlock):
                x = layer(x, embedding)
            else:
                x = layer(x)
        return x


class PublishedUNet(nn.Module):
    """A U-Net in which each stage of the way up also sees what one of the way down has returned.

    width: of the sinusoidal time embedding.
    embed: the layers behind it.
    down, up: equally many stages; the last of the way down is the partner of the first of the way
    up.
    x_t: (B, C, H, W).  t: (B,).
    Returns a tensor shaped like x_t, in the precision of the network's weights.
    """

    def __init__(
        self,
        width: int,
        embed: nn.Module,
        down: list[Stage],
        middle: Stage,
        up: list[Stage],
    ) -> None:
        super().__init__()
        self.width = width
        self.embed = embed
        self.down = nn.ModuleList(down)
        self.middle = middle
        self.up = nn.ModuleList(up)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        dtype = next(self.embed.parameters()).dtype
        embedding = self.embed(time_embedding(t, self.width).to(dtype))  # (B, 4 width)
        x = x_t.to(dtype)
        skips = []
        for stage in self.down:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle(x, embedding)
        for stage in self.up:
            x = torch.cat([x, skips.pop()], dim=1)
            x = stage(x, embedding)
        return x


def paper_unet(
    image_size: int = 32, multipliers: tuple[int, ...] = (1, 2, 2, 2), dropout: float = 0.1
) -> nn.Module:
    """The network of Ho, Jain & Abbeel 2020 (appendix B), by default that for CIFAR-10.

    That one has 35,746,307 parameters.  For 256 x 256 images: image_size 256, multipliers
    (1, 1, 2, 2, 4, 4), dropout 0.  A level has two residual blocks on the way down and three on the
    way up; attention at 16 x 16 and in the middle; three channels in and out.
    """
    width, width_t = 128, 512
    embed = nn.Sequential(
        nn.Linear(width, width_t), nn.SiLU(), nn.Linear(width_t, width_t), nn.SiLU()
    )
    block = partial(ResidualBlock, width_t=width_t, groups=32, add=True, dropout=dropout)
    attention = partial(Attention, heads=1, groups=32)

    def stage(channels_in: int, channels_out: int, size: int) -> Stage:
        layers: list[nn.Module] = [block(channels_in, channels_out)]
        if size == 16:
            layers.append(attention(channels_out))
        return Stage(*layers)

    sizes = [image_size // 2**level for level in range(len(multipliers))]
    widths = [width * multiplier for multiplier in multipliers]
    levels = list(zip(sizes, widths, strict=True))
    last = widths[-1]

    down, skips = _paper_down(levels, stage)
    before, after = block(last, last), block(last, last)
    middle = Stage(before, attention(last), after)
    up = _paper_up(levels, stage, skips)
    return PublishedUNet(width, embed, down, middle, up)


def _paper_down(
    levels: list[tuple[int, int]], stage: Callable[[int, int, int], Stage]
) -> tuple[list[Stage], list[int]]:
    """The stages of the way down, and the channels of what each of them returns.

    levels: height in pixels and channels of each.
    stage: channels in, channels out, height -> one.
    """
    _, here = levels[0]  # the channels at the point that we have reached
    down = [Stage(nn.Conv2d(3, here, 3, padding=1))]
    skips = [here]
    for level, (size, width) in enumerate(levels):
        if level > 0:
            down.append(Stage(nn.Conv2d(here, here, 3, stride=2, padding=1)))
            skips.append(here)
        for _ in range(2):
            down.append(stage(here, width, size))
            here = width
            skips.append(here)
    return down, skips


def _paper_up(
    levels: list[tuple[int, int]], stage: Callable[[int, int, int], Stage], skips: list[int]
) -> list[Stage]:
    """The stages of the way up; skips: as `_paper_down` returns them, taken from the end."""
    _, here = levels[-1]
    up = []
    for level in reversed(range(len(levels))):
        size, width = levels[level]
        for _ in range(3):
            up.append(stage(here + skips.pop(), width, size))
            here = width
        if level > 0:
            up[-1].append(Up(here, here))
    up[-1].extend([GroupNorm(32, here), nn.SiLU(), nn.Conv2d(here, 3, 3, padding=1)])
    return up


def annotated_unet() -> nn.Module:
    """The network of a popular annotated tutorial, for 28 x 28 grey images: 2,020,257 parameters.

    Weight-standardised convolutions, linear attention at every level, full attention in the middle.
    """
    width, width_t = 28, 112
    embed = nn.Sequential(nn.Linear(width, width_t), nn.GELU(), nn.Linear(width_t, width_t))
    block = partial(StandardizedBlock, width_t=width_t)
    levels = [(28, 28), (28, 56), (56, 112)]  # the channels of each level, and of what is below it

    down = [Stage(nn.Conv2d(1, width, 1))]
    step = []  # how one comes to a level from the one above it; the first has none above
    for here, below in levels:
        down.append(Stage(*step, block(here, here)))
        down.append(Stage(block(here, here), LinearAttention(here)))
        if below < 112:
            step = [Down(here, below)]
        else:
            step = [nn.Conv2d(here, below, 3, padding=1)]  # to the middle, which is no smaller

    before, after = block(112, 112), block(112, 112)
    attention = Attention(112, groups=1, width=32, bias=False)
    middle = Stage(*step, before, attention, after)

    up = []
    for here, below in reversed(levels):
        if below > 28:
            last = Up(below, here)
        else:
            last = nn.Conv2d(28, 28, 3, padding=1)  # at the top: nothing above to go to
        up.append(Stage(block(below + here, below)))
        up.append(Stage(block(below + here, below), LinearAttention(below), last))
    up.append(Stage(block(2 * width, width), nn.Conv2d(width, 1, 1)))
    return PublishedUNet(width, embed, down, middle, up)
